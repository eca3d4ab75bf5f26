//! Which keys and tensors of two models differ, and by how much?

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::Result;
use super::host::Host;
use super::model::model_name;
use super::stopped::Stopped;
use super::words::value_text;
use crate::gguf::{KvMap, Model, Tensor, Watch};
use crate::llama::is_decodable;
use crate::quant::compare;

/// What to compare: GGUF files, of each any shard.
#[derive(Debug, Clone)]
pub struct Request {
    /// A, the one before.
    pub a: PathBuf,
    /// B, the one after.
    pub b: PathBuf,
}

/// What differs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// The name of A's file.
    pub a: String,
    /// The name of B's file.
    pub b: String,
    /// Keys of B alone.
    pub keys_added: Vec<KeyValue>,
    /// Keys of A alone.
    pub keys_removed: Vec<KeyValue>,
    /// Keys of both whose values differ.
    pub keys_changed: Vec<ChangedKey>,
    /// Tensors of the same type and bytes.
    pub identical: usize,
    /// Tensors of B alone.
    pub tensors_added: Vec<String>,
    /// Tensors of A alone.
    pub tensors_removed: Vec<String>,
    /// Tensors of both whose shapes differ.
    pub reshaped: Vec<Reshaped>,
    /// Tensors of both whose types or bytes differ.
    pub changed: Vec<ChangedTensor>,
}

/// A key and its value in a few words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyValue {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// A key whose value changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangedKey {
    /// The key.
    pub key: String,
    /// Its value in A.
    pub a: String,
    /// Its value in B.
    pub b: String,
}

/// A tensor whose shape changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reshaped {
    /// The tensor.
    pub name: String,
    /// Its shape in A, inputs first.
    pub shape_a: Vec<u64>,
    /// Its shape in B.
    pub shape_b: Vec<u64>,
}

/// A tensor whose type or bytes changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangedTensor {
    /// The tensor.
    pub name: String,
    /// Its type in A.
    pub type_a: String,
    /// Its type in B.
    pub type_b: String,
    /// Frobenius `|B - A| / |A|`; null where A is zero or no numbers.
    pub relative_change: Option<f64>,
    /// Cosine of A and B as vectors; null where one is zero or no numbers.
    pub cosine: Option<f64>,
    /// Share of exact zeros in A.
    pub sparsity_a: Option<f64>,
    /// Share of exact zeros in B.
    pub sparsity_b: Option<f64>,
}

/// Compares two models.
///
/// # Errors
/// A file cannot be read, an interrupt.
pub fn run(request: &Request, host: &dyn Host) -> Result<Report, Stopped> {
    let (a, b) = (Model::open(&request.a)?, Model::open(&request.b)?);
    Ok(compare_models(&a, &b, host)?)
}

pub(super) fn compare_models(a: &Model, b: &Model, watch: &dyn Watch) -> Result<Report> {
    let mut report = compare_keys(a.kv(), b.kv());
    (report.a, report.b) = (model_name(a), model_name(b));
    let pairs: Vec<_> = a.tensors().filter_map(|x| Some((x, b.tensor(&x.info.name)?))).collect();
    let only = |x: &Model, y: &Model| -> Vec<String> {
        let missing = x.tensors().filter(|t| y.tensor(&t.info.name).is_none());
        missing.map(|t| t.info.name.clone()).collect()
    };
    (report.tensors_added, report.tensors_removed) = (only(b, a), only(a, b));
    let bytes = pairs.iter().map(|(x, y)| x.info.n_bytes() + y.info.n_bytes()).sum();
    watch.stage("comparing", bytes);
    for (x, y) in pairs {
        if x.info.shape != y.info.shape {
            let name = x.info.name.clone();
            let (shape_a, shape_b) = (x.info.shape.clone(), y.info.shape.clone());
            report.reshaped.push(Reshaped { name, shape_a, shape_b });
        } else if x.info.ty == y.info.ty && x.data() == y.data() {
            watch.advance(2 * x.info.n_bytes());
            report.identical += 1;
        } else {
            report.changed.push(compare_tensors(x, y, watch)?);
        }
    }
    Ok(report)
}

fn compare_keys(a: &KvMap, b: &KvMap) -> Report {
    let changed = a.iter().filter_map(|(key, x)| {
        let y = b.get(key).filter(|y| *y != x)?;
        let (mut a, mut b) = (value_text(x), value_text(y));
        if a == b {
            // The same in a few words, yet not the same.
            (a, b) = (a + " (A's)", b + " (B's)");
        }
        Some(ChangedKey { key: key.clone(), a, b })
    });
    Report {
        a: String::new(),
        b: String::new(),
        keys_added: only(b, a),
        keys_removed: only(a, b),
        keys_changed: changed.collect(),
        identical: 0,
        tensors_added: Vec::new(),
        tensors_removed: Vec::new(),
        reshaped: Vec::new(),
        changed: Vec::new(),
    }
}

/// The keys of `x` that `y` has not.
fn only(x: &KvMap, y: &KvMap) -> Vec<KeyValue> {
    let missing = x.iter().filter(|(key, _)| !y.contains_key(*key));
    missing.map(|(key, value)| KeyValue { key: key.clone(), value: value_text(value) }).collect()
}

fn compare_tensors(a: Tensor<'_>, b: Tensor<'_>, watch: &dyn Watch) -> Result<ChangedTensor> {
    let mut changed = ChangedTensor {
        name: a.info.name.clone(),
        type_a: a.info.ty.to_string(),
        type_b: b.info.ty.to_string(),
        relative_change: None,
        cosine: None,
        sparsity_a: None,
        sparsity_b: None,
    };
    // Integers and the like stand for no weights: that they differ is all there is to say.
    if is_decodable(a.info.ty) && is_decodable(b.info.ty) {
        let sums = compare(a, b, watch)?;
        let share = |zeros: u64| (sums.n > 0).then(|| zeros as f64 / sums.n as f64);
        changed.relative_change = sums.relative_change();
        changed.cosine = sums.cosine();
        (changed.sparsity_a, changed.sparsity_b) = (share(sums.zeros_a), share(sums.zeros_b));
    }
    Ok(changed)
}
