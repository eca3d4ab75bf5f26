//! What the two files show by themselves: keys and tensors that differ, and whether one comes from
//! the other.

use serde::{Deserialize, Serialize};

use crate::gguf::Model;
use crate::verbs::diff::{self, ChangedKey, ChangedTensor};
use crate::verbs::error::{Error, Result};
use crate::verbs::host::Host;
use crate::verbs::vocabulary;

/// Tensors that are named as the worst.
const WORST: usize = 10;
/// Matrices of models that have nothing to do with each other have a cosine near 0; those of the
/// coarsest quant and of a half-pruned model one above 0.7.
const RELATED: f64 = 0.2;
const TEMPLATE: &str = "tokenizer.chat_template";
/// What helps where two files are not a model and its original.
pub(super) const HINT: &str = "hint: the original is the very model that was compressed";

/// How the two files differ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilesReport {
    /// False where the matrices of the two have nothing to do with each other: then this is not the
    /// model's original.
    pub related: bool,
    /// True if the chat templates differ: each model is asked through its own.
    pub template_differs: bool,
    /// Other keys of the tokenizer that differ: special tokens, the end of a turn.
    pub tokenizer: Vec<ChangedKey>,
    /// Keys of the architecture that differ.
    pub architecture: Vec<ChangedKey>,
    /// Names of further keys that differ.
    pub other_keys: Vec<String>,
    /// Tensors of the same type and bytes.
    pub identical: usize,
    /// Tensors of both whose values differ.
    pub changed: usize,
    /// Tensors that only one of the two has, or that have another shape.
    pub unmatched: Vec<String>,
    /// The median of `|model - original| / |original|` (Frobenius) over changed matrices; null if
    /// no matrix changed.
    pub median_error: Option<f64>,
    /// The matrices with the largest error, the largest first.
    pub worst: Vec<ChangedTensor>,
}

/// Checks that both models have the same tokens.
///
/// # Errors
/// They do not: the first token that differs.
pub(super) fn check_tokens(model: &Model, original: &Model) -> Result<()> {
    match vocabulary::difference(model, original)? {
        None => Ok(()),
        Some(how) => Err(Error::Sentence(format!(
            "the two models have different vocabularies: {how}\n{HINT}"
        ))),
    }
}

/// Compares the files.
///
/// # Errors
/// A file cannot be read, an interrupt.
pub(super) fn compare(model: &Model, original: &Model, host: &dyn Host) -> Result<FilesReport> {
    let diff::Report {
        keys_added,
        keys_removed,
        keys_changed,
        identical,
        tensors_added,
        tensors_removed,
        reshaped,
        changed,
        ..
    } = diff::compare_models(original, model, host)?;
    let none = || "none".to_owned();
    let added = keys_added.into_iter().map(|k| ChangedKey { key: k.key, a: none(), b: k.value });
    let removed =
        keys_removed.into_iter().map(|k| ChangedKey { key: k.key, a: k.value, b: none() });
    let keys = keys_changed.into_iter().map(unmarked).chain(added).chain(removed);
    let architecture = format!("{}.", original.architecture());
    let mut report = FilesReport {
        related: true,
        template_differs: false,
        tokenizer: Vec::new(),
        architecture: Vec::new(),
        other_keys: Vec::new(),
        identical,
        changed: changed.len(),
        unmatched: [tensors_added, tensors_removed].concat(),
        median_error: None,
        worst: Vec::new(),
    };
    for key in keys {
        match key.key.as_str() {
            TEMPLATE => report.template_differs = true,
            name if name.starts_with("tokenizer.") => report.tokenizer.push(key),
            name if name.starts_with(&architecture) => report.architecture.push(key),
            _ => report.other_keys.push(key.key),
        }
    }
    report.unmatched.extend(reshaped.into_iter().map(|tensor| tensor.name));
    report.add_matrices(original, changed);
    Ok(report)
}

/// A key whose values look alike in a few words, without the marks of A and B: an audit has none.
fn unmarked(ChangedKey { key, a, b }: ChangedKey) -> ChangedKey {
    let plain = |text: String, mark| text.strip_suffix(mark).map_or(text.clone(), str::to_owned);
    ChangedKey { key, a: plain(a, " (A's)"), b: plain(b, " (B's)") }
}

impl FilesReport {
    /// What changed in the matrices. Vectors are left out: gains of norms are alike in all models.
    fn add_matrices(&mut self, original: &Model, changed: Vec<ChangedTensor>) {
        let is_matrix = |tensor: &ChangedTensor| {
            original.tensor(&tensor.name).is_some_and(|t| t.info.shape.len() > 1)
        };
        let mut matrices: Vec<ChangedTensor> = changed.into_iter().filter(is_matrix).collect();
        let cosines = matrices.iter().filter_map(|t| t.cosine).collect();
        let alike = median(cosines).is_none_or(|cosine| cosine > RELATED);
        self.related = alike && self.unmatched.len() <= self.identical + self.changed;
        self.median_error = median(matrices.iter().filter_map(|t| t.relative_change).collect());
        let error = |t: &ChangedTensor| t.relative_change.unwrap_or(f64::INFINITY);
        matrices.sort_by(|a, b| error(b).total_cmp(&error(a)));
        matrices.truncate(WORST);
        self.worst = matrices;
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
