//! LoRA adapters for tiny models.

use std::path::{Path, PathBuf};

use aird::gguf::{Builder, GgmlType, KvMap, Value};

use super::ggml;
use super::random::Random;
use super::tiny::{Tiny, Weight};

/// An adapter to be written: W + scale * (alpha / rank) * B A for each tensor W it names.
#[derive(Debug, Clone)]
pub struct Adapter {
    pub rank: u64,
    pub alpha: f32,
    ty: GgmlType,
    seed: u64,
    targets: Vec<Weight>,
    arch: &'static str,
    /// Keys that differ from those of a plain adapter; None for those that it lacks.
    edits: Vec<(String, Option<Value>)>,
    more: Vec<String>,
}

impl Adapter {
    /// Rank 2, alpha 4, F32, for the tensors of `tiny` that `names` lists.
    pub fn new(tiny: &Tiny, names: &[&str]) -> Adapter {
        let weights = tiny.weights();
        let find = |name: &&str| weights.iter().find(|w| w.name == **name).unwrap().clone();
        Adapter {
            rank: 2,
            alpha: 4.0,
            ty: GgmlType::F32,
            seed: 0,
            targets: names.iter().map(find).collect(),
            arch: tiny.arch.name(),
            edits: Vec::new(),
            more: Vec::new(),
        }
    }

    pub fn seed(self, seed: u64) -> Adapter {
        Adapter { seed, ..self }
    }

    pub fn alpha(self, alpha: f32) -> Adapter {
        Adapter { alpha, ..self }
    }

    /// With this key, in the place of the usual one if there is one.
    pub fn key(mut self, key: &str, value: impl Into<Value>) -> Adapter {
        self.edits.push((key.into(), Some(value.into())));
        self
    }

    pub fn without_key(mut self, key: &str) -> Adapter {
        self.edits.push((key.into(), None));
        self
    }

    /// With a tensor of a name that no plain adapter has.
    pub fn tensor(mut self, name: &str) -> Adapter {
        self.more.push(name.into());
        self
    }

    /// F32 or F16: with as few columns as the rank no other type fits.
    pub fn ty(self, ty: GgmlType) -> Adapter {
        Adapter { ty, ..self }
    }

    /// For each tensor A `[n_in, rank]` and B `[rank, n_out]`, inputs first; experts have a
    /// third dimension in both.
    pub fn pairs(&self) -> Vec<(Weight, Weight)> {
        let mut random = Random::new(self.seed ^ 0xada9_7e12);
        let mut made = |target: &Weight, suffix: &str, first: u64, second: u64, scale: f32| {
            let shape: Vec<u64> =
                [first, second].into_iter().chain(target.shape[2..].iter().copied()).collect();
            let values = random.normals(shape.iter().product::<u64>() as usize, scale);
            Weight { name: format!("{}.{suffix}", target.name), shape, ty: self.ty, values }
        };
        let mut pair = |target: &Weight| {
            let (n_in, n_out) = (target.shape[0], target.shape[1]);
            let a = made(target, "lora_a", n_in, self.rank, 1.0 / (n_in as f32).sqrt());
            let b = made(target, "lora_b", self.rank, n_out, 0.25);
            (a, b)
        };
        self.targets.iter().map(&mut pair).collect()
    }

    /// Writes the adapter into `folder`.
    pub fn write(&self, folder: &Path) -> PathBuf {
        let mut keys = KvMap::new();
        keys.insert("general.type".into(), "adapter".into());
        keys.insert("general.architecture".into(), self.arch.into());
        keys.insert("general.name".into(), "Tiny adapter".into());
        keys.insert("adapter.type".into(), "lora".into());
        keys.insert("adapter.lora.alpha".into(), self.alpha.into());
        for (key, value) in &self.edits {
            match value {
                Some(value) => drop(keys.insert(key.clone(), value.clone())),
                None => drop(keys.shift_remove(key)),
            }
        }
        let mut file = Builder::new();
        for (key, value) in keys {
            file.kv(key, value);
        }
        for name in &self.more {
            file.tensor(name, &[1], GgmlType::F32, vec![0; 4]).unwrap();
        }
        for w in self.pairs().into_iter().flat_map(|(a, b)| [a, b]) {
            let bytes = ggml::encode(w.ty, &w.values, w.shape[0]);
            file.tensor(&w.name, &w.shape, w.ty, bytes).unwrap();
        }
        let path = folder.join(format!("adapter-{}-{}.gguf", self.arch, self.seed));
        file.write(&path).unwrap();
        path
    }
}
