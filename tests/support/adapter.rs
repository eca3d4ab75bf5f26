//! LoRA adapters for tiny models.

use std::path::{Path, PathBuf};

use aird::gguf::{Builder, GgmlType};

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
        }
    }

    pub fn seed(self, seed: u64) -> Adapter {
        Adapter { seed, ..self }
    }

    pub fn alpha(self, alpha: f32) -> Adapter {
        Adapter { alpha, ..self }
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
        let mut file = Builder::new();
        file.kv("general.type", "adapter")
            .kv("general.architecture", self.arch)
            .kv("general.name", "Tiny adapter")
            .kv("adapter.type", "lora")
            .kv("adapter.lora.alpha", self.alpha);
        for w in self.pairs().into_iter().flat_map(|(a, b)| [a, b]) {
            let bytes = ggml::encode(w.ty, &w.values, w.shape[0]);
            file.tensor(&w.name, &w.shape, w.ty, bytes).unwrap();
        }
        let path = folder.join(format!("adapter-{}-{}.gguf", self.arch, self.seed));
        file.write(&path).unwrap();
        path
    }
}
