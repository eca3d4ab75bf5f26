//! LoRA adapters: `W + scale * alpha / rank * B A`.
//!
//! ```text
//! W.lora_a  ne `[n_in, rank]`    A, `[rank, n_in]`
//! W.lora_b  ne `[rank, n_out]`   B, `[n_out, rank]`
//! ```
//! Source: llama.cpp's `src/llama-adapter.cpp`. Experts carry a third dimension; for
//! `token_embd.weight` A and B are swapped, because rows are looked up, not multiplied.

use std::ops::Range;
use std::path::Path;

use indexmap::IndexMap;
use rayon::prelude::*;

use super::error::{Error, Result};
use crate::gguf::{self, Builder, GgmlType, Model, Tensor, TensorInfo};
use crate::quant::{decode_rows, first_non_finite};

/// The two factors for one tensor, in f32.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// A, `[n_slices, rank, n_in]`.
    a: Vec<f32>,
    /// B, `[n_slices, n_out, rank]`.
    b: Vec<f32>,
    rank: usize,
    n_in: usize,
    n_out: usize,
    /// What `B A` is multiplied by; None where the adapter's alpha says it.
    factor: Option<f64>,
}

/// An adapter in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    /// `general.architecture`.
    pub architecture: String,
    /// `adapter.lora.alpha`. 0, or a file without the key, means that `alpha / rank` is left out;
    /// llama.cpp reads it the same way.
    pub alpha: f64,
    /// Factors by the model's tensor name.
    pub pairs: IndexMap<String, Pair>,
    /// Tensors that both llama.cpp and aird ignore: changed norms.
    pub ignored: Vec<String>,
}

const ALPHA_KEY: &str = "adapter.lora.alpha";
/// The tokens from which on an activated LoRA acts (`LLM_KV_ADAPTER_ALORA_INVOCATION_TOKENS`).
const INVOCATION_KEY: &str = "adapter.alora.invocation_tokens";
/// The keys of an adapter that are known: the last two only describe it.
const KEYS: [&str; 4] =
    ["adapter.type", ALPHA_KEY, "adapter.lora.task_name", "adapter.lora.prompt_prefix"];

/// An adapter file for `model` without its factors; `alpha` as [`Adapter::alpha`].
///
/// # Errors
/// The model's name is not a text.
pub fn begun(model: &Model, what: &str, alpha: f32) -> gguf::Result<Builder> {
    let name = model.text("general.name")?.unwrap_or("model");
    let mut file = Builder::new();
    file.kv("general.type", "adapter")
        .kv("general.architecture", model.architecture())
        .kv("general.name", format!("{name} {what}"))
        .kv("adapter.type", "lora")
        .kv(ALPHA_KEY, alpha);
    Ok(file)
}

impl Adapter {
    /// Reads an adapter file.
    ///
    /// # Errors
    /// It is not a LoRA adapter or one of an unknown kind, a key is of the wrong type, a factor has
    /// no partner, or a value is NaN or infinite.
    pub fn open(path: &Path) -> Result<Adapter> {
        Adapter::of(&Model::open(path)?).map_err(|error| match error {
            // This error already names the file.
            Error::Gguf(_) => error,
            other => Error::InFile { path: path.into(), source: Box::new(other) },
        })
    }

    fn of(file: &Model) -> Result<Adapter> {
        let alpha = check_keys(file)?;
        let (mut pairs, mut ignored) = (IndexMap::new(), Vec::new());
        for tensor in file.tensors() {
            let name = &tensor.info.name;
            if let Some(base) = name.strip_suffix(".lora_a") {
                let missing = format!("{base}.lora_b");
                let no_partner =
                    || Error::NoPartner { name: name.clone(), missing: missing.clone() };
                let b = file.tensor(&missing).ok_or_else(no_partner)?;
                pairs.insert(base.to_owned(), Pair::read(base, tensor, b)?);
            } else if let Some(base) = name.strip_suffix(".lora_b") {
                let missing = format!("{base}.lora_a");
                if file.tensor(&missing).is_none() {
                    return Err(Error::NoPartner { name: name.clone(), missing });
                }
            } else if name.ends_with("_norm.weight") {
                ignored.push(name.clone());
            } else {
                return Err(Error::UnknownSuffix { name: name.clone() });
            }
        }
        if pairs.is_empty() {
            return Err(Error::Empty);
        }
        let architecture = file.architecture().to_owned();
        Ok(Adapter { architecture, alpha, pairs, ignored })
    }

    /// Checks that every pair has its tensor in `model`, of the right shape.
    ///
    /// # Errors
    /// The first that has not.
    pub fn check(&self, model: &Model) -> Result<()> {
        if self.architecture != model.architecture() {
            let (adapter, model) = (self.architecture.clone(), model.architecture().into());
            return Err(Error::OtherArchitecture { adapter, model });
        }
        for (name, pair) in &self.pairs {
            let tensor = model.tensor(name);
            let info = tensor.ok_or_else(|| Error::NoSuchTensor { name: name.clone() })?.info;
            if !pair.fits(info) {
                return Err(Error::Shape {
                    name: name.clone(),
                    a: format!("{} x {}", pair.n_in, pair.rank),
                    b: format!("{} x {}", pair.rank, pair.n_out),
                    model: info.shape_text(),
                });
            }
        }
        Ok(())
    }

    /// What `B A` is multiplied by for `pair` at `scale`: llama.cpp's
    /// `llama_adapter_lora_weight::get_scale`.
    pub fn strength(&self, pair: &Pair, scale: f64) -> f64 {
        match (pair.factor, self.alpha) {
            (Some(factor), _) => scale * factor,
            (None, 0.0) => scale,
            (None, alpha) => scale * alpha / pair.rank as f64,
        }
    }

    /// True if nothing in the file says what to multiply by.
    pub fn lacks_alpha(&self) -> bool {
        self.alpha == 0.0 && self.pairs.values().all(|pair| pair.factor.is_none())
    }

    /// True if both add the same, but for `tolerance` as a part of each value of B.
    pub fn does_as(&self, other: &Adapter, tolerance: f32) -> bool {
        let scaled = |adapter: &Adapter, pair: &Pair| -> Vec<f32> {
            let strength = adapter.strength(pair, 1.0);
            pair.b.iter().map(|b| (f64::from(*b) * strength) as f32).collect()
        };
        let same = |(name, pair): (&String, &Pair)| {
            let Some(theirs) = other.pairs.get(name) else { return false };
            let (b, c) = (scaled(self, pair), scaled(other, theirs));
            let near = |(x, y): (&f32, &f32)| (x - y).abs() <= tolerance * x.abs();
            pair.a == theirs.a && b.len() == c.len() && b.iter().zip(&c).all(near)
        };
        self.pairs.len() == other.pairs.len() && self.pairs.iter().all(same)
    }

    /// The adapter as a file for llama.cpp, which reads one alpha for all: B is multiplied by what
    /// each pair has.
    ///
    /// # Errors
    /// A name too long for a tensor.
    pub fn to_gguf(&self, model: &Model) -> Result<Builder> {
        let mut file = begun(model, "adapter", 0.0)?;
        for (name, pair) in &self.pairs {
            let strength = self.strength(pair, 1.0);
            let scaled: Vec<f32> =
                pair.b.iter().map(|b| (f64::from(*b) * strength) as f32).collect();
            let [rank, n_in, n_out] = [pair.rank, pair.n_in, pair.n_out].map(|n| n as u64);
            let bytes = |x: &[f32]| x.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
            let n_slices = (pair.n_slices() as u64 > 1).then(|| pair.n_slices() as u64);
            let shape = |a, b| [a, b].into_iter().chain(n_slices).collect::<Vec<u64>>();
            let (a, b) = match is_looked_up(name) {
                true => ((shape(rank, n_out), scaled), (shape(rank, n_in), pair.turned_a())),
                false => ((shape(n_in, rank), pair.a.clone()), (shape(rank, n_out), scaled)),
            };
            for (suffix, (shape, values)) in [("lora_a", a), ("lora_b", b)] {
                let name = format!("{name}.{suffix}");
                file.tensor(&name, &shape, GgmlType::F32, bytes(&values))?;
            }
        }
        Ok(file)
    }
}

/// The alpha of `file`, if its keys are those of an adapter that acts on every token.
fn check_keys(file: &Model) -> Result<f64> {
    for (key, expected) in [("general.type", "adapter"), ("adapter.type", "lora")] {
        let found = file.text(key)?.unwrap_or("missing");
        if found != expected {
            return Err(Error::NotAnAdapter { key, found: found.into(), expected });
        }
    }
    // Even without a token in it: the adapter is meant for another purpose than a merge.
    if file.kv().contains_key(INVOCATION_KEY) {
        return Err(Error::Activated { key: INVOCATION_KEY });
    }
    let known = |key: &str| !key.starts_with("adapter.") || KEYS.contains(&key);
    if let Some(key) = file.kv().keys().find(|key| !known(key)) {
        return Err(Error::UnknownKey { key: key.clone() });
    }
    Ok(file.number(ALPHA_KEY)?.unwrap_or(0.0))
}

impl Pair {
    /// A `[rank, n_in]` and B `[n_out, rank]`, of `[rank, n_in, n_out]`, whose product is
    /// multiplied by `factor`.
    pub(super) fn of(a: Vec<f32>, b: Vec<f32>, size: [usize; 3], factor: f64) -> Pair {
        let [rank, n_in, n_out] = size;
        Pair { a, b, rank, n_in, n_out, factor: Some(factor) }
    }

    /// With another B of the same shape.
    pub(super) fn with_b(self, b: Vec<f32>) -> Pair {
        Pair { b, ..self }
    }

    pub(super) fn a(&self) -> &[f32] {
        &self.a
    }

    pub(super) fn b(&self) -> &[f32] {
        &self.b
    }

    pub(super) fn rank(&self) -> usize {
        self.rank
    }

    pub(super) fn n_in(&self) -> usize {
        self.n_in
    }

    pub(super) fn n_out(&self) -> usize {
        self.n_out
    }

    /// Matrices of the tensor: more than one of experts.
    pub(super) fn n_slices(&self) -> usize {
        self.a.len() / (self.rank * self.n_in).max(1)
    }

    /// A as `[n_in, rank]`.
    fn turned_a(&self) -> Vec<f32> {
        let (rank, n_in) = (self.rank, self.n_in);
        (0..rank * n_in).map(|i| self.a[i % rank * n_in + i / rank]).collect()
    }

    fn read(base: &str, a: Tensor<'_>, b: Tensor<'_>) -> Result<Pair> {
        let dim = |info: &TensorInfo, i: usize| info.shape.get(i).copied().unwrap_or(1) as usize;
        let mut pair = Pair {
            rank: dim(a.info, 1),
            n_in: dim(a.info, 0),
            n_out: dim(b.info, 1),
            a: numbers(a)?,
            b: numbers(b)?,
            factor: None,
        };
        let mut b_rank = dim(b.info, 0);
        if is_looked_up(base) {
            // ne(lora_a) = [rank, n_vocab], ne(lora_b) = [rank, n_embd]: rows are A's.
            (pair.rank, b_rank) = (dim(b.info, 0), dim(a.info, 0));
            (pair.n_in, pair.n_out) = (dim(b.info, 1), dim(a.info, 1));
            let (rank, n_in) = (pair.rank, pair.n_in);
            let old_b = std::mem::take(&mut pair.b);
            pair.b = std::mem::take(&mut pair.a);
            pair.a = (0..rank * n_in).map(|i| old_b[i % n_in * rank + i / n_in]).collect();
        }
        let slices = |info: &TensorInfo| dim(info, 2) * dim(info, 3);
        if pair.rank == 0 || b_rank != pair.rank || slices(a.info) != slices(b.info) {
            return Err(Error::Shape {
                name: base.into(),
                a: a.info.shape_text(),
                b: b.info.shape_text(),
                model: "both factors of one rank".into(),
            });
        }
        Ok(pair)
    }

    fn fits(&self, info: &TensorInfo) -> bool {
        let slices = info.shape.iter().skip(2).product::<u64>() as usize;
        // In 128 bits: if the adapter has a dimension of 0, its rank may be any number.
        let expected = slices as u128 * self.rank as u128 * self.n_in as u128;
        info.n_cols() as usize == self.n_in
            && info.shape.get(1).copied().unwrap_or(1) as usize == self.n_out
            && expected == self.a.len() as u128
    }

    /// Adds `strength * B A` to `values`, the model's rows `rows` as `[n_rows, n_in]`. Sums are
    /// in f64 and rounded once.
    pub fn add(&self, rows: Range<u64>, strength: f64, values: &mut [f32]) {
        let first = rows.start as usize;
        values.par_chunks_mut(self.n_in).enumerate().for_each_init(
            || vec![0.0f64; self.n_in],
            |sum, (i, row)| {
                let (slice, out) = ((first + i) / self.n_out, (first + i) % self.n_out);
                let b = &self.b[(slice * self.n_out + out) * self.rank..][..self.rank];
                sum.fill(0.0);
                for (k, &b) in b.iter().enumerate() {
                    let a = &self.a[(slice * self.rank + k) * self.n_in..][..self.n_in];
                    sum.iter_mut().zip(a).for_each(|(s, &a)| *s += f64::from(b) * f64::from(a));
                }
                for (w, s) in row.iter_mut().zip(sum.iter()) {
                    *w = (f64::from(*w) + strength * s) as f32;
                }
            },
        );
    }
}

/// True for embeddings, whose rows are looked up: A and B are swapped there.
fn is_looked_up(name: &str) -> bool {
    name.ends_with("token_embd.weight")
}

fn numbers(tensor: Tensor<'_>) -> Result<Vec<f32>> {
    let (info, n_cols) = (tensor.info, tensor.info.n_cols() as usize);
    if let Some(index) = first_non_finite(info.ty, tensor.data(), n_cols)? {
        return Err(Error::NotFinite { name: info.name.clone(), index });
    }
    let mut out = vec![0.0; info.n_elements() as usize];
    decode_rows(info.ty, tensor.data(), n_cols, &mut out)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_without_values_fit_no_tensor_whatever_their_rank() {
        // 32 experts of 8 x 8, and a rank at which 32 * rank * 8 is 2^64.
        let (name, rank) = ("blk.0.ffn_down_exps.weight", 1 << 56);
        let folder = tempfile::tempdir().unwrap();
        let [model, adapter] = ["model.gguf", "adapter.gguf"].map(|n| folder.path().join(n));
        let mut file = Builder::new();
        file.kv("general.architecture", "llama");
        file.tensor(name, &[8, 8, 32], GgmlType::F32, vec![0; 8 * 8 * 32 * 4]).unwrap();
        file.write(&model).unwrap();
        let mut file = Builder::new();
        file.kv("general.type", "adapter").kv("adapter.type", "lora");
        file.kv("general.architecture", "llama");
        for (suffix, shape) in [("lora_a", [8, rank, 0]), ("lora_b", [rank, 8, 0])] {
            let name = format!("{name}.{suffix}");
            file.tensor(&name, &shape, GgmlType::F32, Vec::new()).unwrap();
        }
        file.write(&adapter).unwrap();
        let checked = Adapter::open(&adapter).unwrap().check(&Model::open(&model).unwrap());
        assert!(matches!(checked, Err(Error::Shape { .. })), "{checked:?}");
    }
}
