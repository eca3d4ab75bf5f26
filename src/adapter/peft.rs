//! LoRA adapters as PEFT keeps them: a folder with `adapter_config.json` and
//! `adapter_model.safetensors`.
//!
//! ```text
//! base_model.model.MODULE.lora_A.weight      A, `[rank, n_in]`
//! base_model.model.MODULE.lora_B.weight      B, `[n_out, rank]`
//! base_model.model.MODULE.lora_embedding_A   `[rank, n_vocab]`: rows are looked up
//! base_model.model.MODULE.lora_embedding_B   `[n_embd, rank]`
//! ```
//! Source: `get_peft_model_state_dict` of peft's `utils/save_and_load.py`.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use half::{bf16, f16};
use indexmap::IndexMap;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::json;

use super::config::{CONFIG, PeftConfig};
use super::error::{Error, Result};
use super::lora::{Adapter, Pair};
use super::modules::{check_modules, module_of, permuted_heads, row_in_checkpoint, tensor_of};
use crate::gguf::{Model, check_regular};

/// The file of a PEFT folder that holds the factors.
pub const FACTORS: &str = "adapter_model.safetensors";
const PICKLE: &str = "adapter_model.bin";
const PREFIX: &str = "base_model.model.";

/// One factor of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Factor {
    A,
    B,
    EmbeddingA,
    EmbeddingB,
}

/// How names end, and what they are then. Older versions wrote the adapter's name as well.
const ENDINGS: [(&str, Factor); 6] = [
    (".lora_A.weight", Factor::A),
    (".lora_B.weight", Factor::B),
    (".lora_A.default.weight", Factor::A),
    (".lora_B.default.weight", Factor::B),
    (".lora_embedding_A", Factor::EmbeddingA),
    (".lora_embedding_B", Factor::EmbeddingB),
];

/// A matrix in f32, rows first.
struct Matrix {
    n_rows: usize,
    n_cols: usize,
    values: Vec<f32>,
}

impl Matrix {
    fn transposed(self) -> Matrix {
        let Matrix { n_rows, n_cols, values } = self;
        let turned = |i: usize| values[i % n_rows * n_cols + i / n_rows];
        let values = (0..values.len()).map(turned).collect();
        Matrix { n_rows: n_cols, n_cols: n_rows, values }
    }
}

impl Adapter {
    /// Reads an adapter for `model`: a GGUF file, or a PEFT folder.
    ///
    /// # Errors
    /// As [`Adapter::open`]; the folder's adapter is of a kind that aird does not know, by name.
    pub fn open_for(path: &Path, model: &Model) -> Result<Adapter> {
        match path.is_dir() {
            false => Adapter::open(path),
            true => read(path, model),
        }
    }

    /// The files of a PEFT folder with this adapter of `model`, by name. Its factors are scaled, so
    /// that alpha and rank are the same for every module.
    ///
    /// # Errors
    /// transformers' name of a module is not known, or a factor is of an expert.
    pub fn to_peft(&self, model: &Model) -> Result<Vec<(&'static str, Vec<u8>)>> {
        check_modules(model)?;
        let mut factors: IndexMap<String, Matrix> = IndexMap::new();
        let (mut modules, mut ranks) = (Vec::new(), Vec::new());
        for (tensor, pair) in &self.pairs {
            let module = module_of(model.architecture(), tensor);
            let module = module.filter(|_| pair.n_slices() == 1 && tensor != "token_embd.weight");
            let module = module.ok_or_else(|| Error::NoModule { name: tensor.clone() })?;
            let strength = self.strength(pair, 1.0);
            let heads = permuted_heads(model, tensor)?;
            let b = reordered(pair.b(), pair.n_out(), heads, |row, from| (from, row));
            let b = b.iter().map(|x| (f64::from(*x) * strength) as f32).collect();
            let (rank, n_in, n_out) = (pair.rank(), pair.n_in(), pair.n_out());
            let a = Matrix { n_rows: rank, n_cols: n_in, values: pair.a().to_vec() };
            let b = Matrix { n_rows: n_out, n_cols: rank, values: b };
            factors.insert(format!("{PREFIX}{module}.lora_A.weight"), a);
            factors.insert(format!("{PREFIX}{module}.lora_B.weight"), b);
            ranks.push(rank);
            modules.push(module);
        }
        let config = config(&modules, &ranks);
        Ok(vec![(CONFIG, config.into_bytes()), (FACTORS, encode(&factors)?)])
    }
}

/// The configuration, with keys in peft's order.
fn config(modules: &[String], ranks: &[usize]) -> String {
    let rank = ranks.iter().copied().max().unwrap_or(1);
    let others = modules.iter().zip(ranks).filter(|(_, r)| **r != rank);
    let pattern: serde_json::Map<_, _> =
        others.map(|(module, r)| (module.clone(), json!(r))).collect();
    let config = json!({
        "alpha_pattern": pattern,
        "base_model_name_or_path": null,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "modules_to_save": null,
        "peft_type": "LORA",
        "r": rank,
        "rank_pattern": pattern,
        "target_modules": modules,
        "task_type": "CAUSAL_LM",
        "use_dora": false,
        "use_rslora": false,
    });
    format!("{config:#}\n")
}

fn encode(factors: &IndexMap<String, Matrix>) -> Result<Vec<u8>> {
    let bytes: Vec<Vec<u8>> =
        factors.values().map(|m| m.values.iter().flat_map(|x| x.to_le_bytes()).collect()).collect();
    let wrong =
        |e: safetensors::SafeTensorError| Error::Peft { path: FACTORS.into(), what: e.to_string() };
    let mut views = Vec::new();
    for ((name, m), bytes) in factors.iter().zip(&bytes) {
        let view = TensorView::new(Dtype::F32, vec![m.n_rows, m.n_cols], bytes).map_err(wrong)?;
        views.push((name.as_str(), view));
    }
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    serialize(views, Some(format)).map_err(wrong)
}

fn read(folder: &Path, model: &Model) -> Result<Adapter> {
    check_modules(model)?;
    let config = PeftConfig::read(folder)?;
    let path = folder.join(FACTORS);
    if !path.exists() && folder.join(PICKLE).exists() {
        return Err(Error::Pickle { path: folder.join(PICKLE) });
    }
    let wrong = |what: String| Error::Peft { path: path.clone(), what };
    check_regular(&path)?;
    let bytes = fs::read(&path).map_err(|e| wrong(format!("cannot read: {e}")))?;
    let file = SafeTensors::deserialize(&bytes);
    let file = file.map_err(|e| wrong(format!("not a safetensors file: {e}")))?;
    let mut modules: IndexMap<String, HashMap<Factor, Matrix>> = IndexMap::new();
    let mut names = file.names();
    names.sort();
    // peft saves the frozen weights of an embedding that it adapts beside the factors.
    for name in names.into_iter().filter(|name| !name.ends_with(".base_layer.weight")) {
        let (module, factor) = parsed(name).map_err(wrong)?;
        let view = file.tensor(name).map_err(|e| wrong(e.to_string()))?;
        let matrix = matrix(name, &view).map_err(wrong)?;
        modules.entry(module).or_default().insert(factor, matrix);
    }
    let mut pairs = IndexMap::new();
    for (module, factors) in modules {
        let tensor = tensor_of(&module).ok_or_else(|| wrong(unknown(&module)))?;
        let mut pair = pair(&module, factors, &config).map_err(wrong)?;
        if let Some(heads) = permuted_heads(model, &tensor)? {
            if !pair.n_out().is_multiple_of(2 * heads) {
                let (rows, what) = (pair.n_out(), "rows, which are not whole heads of");
                return Err(wrong(format!("{module}.lora_B has {rows} {what} {heads}")));
            }
            let b = reordered(pair.b(), pair.n_out(), Some(heads), |row, from| (row, from));
            pair = pair.with_b(b);
        }
        pairs.insert(tensor, pair);
    }
    if pairs.is_empty() {
        return Err(wrong("it holds no factors".into()));
    }
    let architecture = model.architecture().to_owned();
    Ok(Adapter { architecture, alpha: 0.0, pairs, ignored: Vec::new() })
}

fn unknown(module: &str) -> String {
    format!("module '{module}' is none that aird knows in llama-like models")
}

/// The module and the factor of a name.
fn parsed(name: &str) -> std::result::Result<(String, Factor), String> {
    if name.contains("lora_magnitude_vector") {
        return Err(format!("'{name}': DoRA is not supported"));
    }
    if name.ends_with("embed_tokens.weight") {
        return Err(format!(
            "'{name}' is a weight of the base model beside the factors, which is not supported\n\
             hint: if it is unchanged, model.save_pretrained(DIR, save_embedding_layers=False)"
        ));
    }
    let ending = ENDINGS.iter().find_map(|(end, f)| Some((name.strip_suffix(end)?, *f)));
    let Some((module, factor)) = ending else {
        return Err(format!(
            "tensor '{name}' is no factor of a LoRA: whole modules and biases are not supported"
        ));
    };
    Ok((module.strip_prefix(PREFIX).unwrap_or(module).into(), factor))
}

fn matrix(name: &str, view: &TensorView<'_>) -> std::result::Result<Matrix, String> {
    let [n_rows, n_cols] = *view.shape() else {
        return Err(format!("'{name}' has shape {:?}, expected two dimensions", view.shape()));
    };
    let data = view.data();
    let pairs = || data.as_chunks::<2>().0.iter();
    let values: Vec<f32> = match view.dtype() {
        Dtype::F32 => data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        Dtype::F16 => pairs().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
        Dtype::BF16 => pairs().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
        found => return Err(format!("'{name}' is {found:?}, expected F32, F16 or BF16")),
    };
    match values.iter().position(|x| !x.is_finite()) {
        Some(i) => Err(format!("'{name}' holds a NaN or an infinity at element {i}")),
        None => Ok(Matrix { n_rows, n_cols, values }),
    }
}

fn pair(
    module: &str,
    mut factors: HashMap<Factor, Matrix>,
    config: &PeftConfig,
) -> std::result::Result<Pair, String> {
    let [a, b, embedding_a, embedding_b] =
        [Factor::A, Factor::B, Factor::EmbeddingA, Factor::EmbeddingB].map(|f| factors.remove(&f));
    let (a, b) = match (a, b, embedding_a, embedding_b) {
        (Some(a), Some(b), None, None) => (a, b),
        // Its rows are columns of the first, and what they are multiplied by stands upright.
        (None, None, Some(a), Some(b)) => (b.transposed(), a.transposed()),
        _ => return Err(format!("module '{module}' lacks one of its two factors")),
    };
    let rank = config.rank(module);
    if a.n_rows != b.n_cols || a.n_rows as f64 != rank || a.n_rows == 0 {
        return Err(format!(
            "module '{module}' has A of {} rows and B of {} columns, expected its rank {rank}",
            a.n_rows, b.n_cols
        ));
    }
    Ok(Pair::of(a.values, b.values, [a.n_rows, a.n_cols, b.n_rows], config.factor(module)))
}

/// The rows of B in another order; `places` says for a file's row and the checkpoint's which is
/// written and which is read.
fn reordered(
    b: &[f32],
    n_rows: usize,
    heads: Option<usize>,
    places: impl Fn(usize, usize) -> (usize, usize),
) -> Vec<f32> {
    let Some(heads) = heads else { return b.to_vec() };
    let rank = b.len() / n_rows.max(1);
    let mut out = vec![0.0; b.len()];
    for row in 0..n_rows {
        let (to, from) = places(row, row_in_checkpoint(row, n_rows, heads));
        out[to * rank..(to + 1) * rank].copy_from_slice(&b[from * rank..(from + 1) * rank]);
    }
    out
}
