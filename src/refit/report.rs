//! The results of a refit.

use serde::{Deserialize, Serialize};

use crate::gguf::TensorInfo;

/// The results of a refit, block by block.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Refitted {
    /// Tokens that matrices were fitted to.
    pub n_tokens: usize,
    /// Tokens held out, on which errors are measured.
    pub n_held_out: usize,
    /// One report per block, in order.
    pub blocks: Vec<BlockReport>,
}

/// The results of one block.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BlockReport {
    /// The block, from 0.
    pub block: u32,
    /// True if it was run by itself; false: in the whole model.
    pub alone: bool,
    /// Its matrices, in order of evaluation.
    pub tensors: Vec<TensorReport>,
    /// `|ours - original| / |original|` of the residual stream that leaves it, mean over held-out
    /// tokens: of the compressed model as it was, and as far as it is restored.
    pub residual: (f64, f64),
}

impl Refitted {
    /// All matrices, block by block.
    pub fn tensors(&self) -> impl Iterator<Item = &TensorReport> {
        self.blocks.iter().flat_map(|block| &block.tensors)
    }

    /// The mean of all matrices' errors, before and after; zeros where nothing was tried.
    pub fn mean_error(&self) -> (f64, f64) {
        mean_error(self.tensors())
    }
}

impl BlockReport {
    /// The mean of its matrices' errors, before and after; zeros where nothing was tried.
    pub fn mean_error(&self) -> (f64, f64) {
        mean_error(self.tensors.iter())
    }
}

fn mean_error<'a>(tensors: impl Iterator<Item = &'a TensorReport>) -> (f64, f64) {
    let errors: Vec<(f64, f64)> = tensors.filter_map(|t| t.error).collect();
    let n = errors.len().max(1) as f64;
    errors.iter().fold((0.0, 0.0), |sum, e| (sum.0 + e.0 / n, sum.1 + e.1 / n))
}

/// The results of one matrix, or of one stack of experts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TensorReport {
    /// Name of the tensor, e.g. `blk.0.ffn_down.weight`.
    pub name: String,
    /// Its type after the refit.
    #[serde(rename = "type")]
    pub ty: String,
    /// What was done with it.
    pub outcome: Outcome,
    /// `|Y - X W^T| / |Y|` on held-out tokens, before and after; null where nothing was tried.
    pub error: Option<(f64, f64)>,
    /// True if its zeros were kept.
    pub zeros_kept: bool,
    /// The results of its experts; null if it is one matrix.
    pub experts: Option<ExpertsReport>,
}

impl TensorReport {
    /// The report of a tensor, without figures.
    pub(super) fn of(info: &TensorInfo, outcome: Outcome) -> TensorReport {
        TensorReport {
            name: info.name.clone(),
            ty: info.ty.name().to_lowercase(),
            outcome,
            error: None,
            zeros_kept: false,
            experts: None,
        }
    }
}

/// The results of a stack of experts' matrices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpertsReport {
    /// How many it holds.
    pub n: usize,
    /// How many have new weights.
    pub refitted: usize,
    /// Experts that no token reached, or no held-out one. In a restore they keep their weights, and
    /// a token counts if it reaches the expert in both models; else only their own weights decide.
    pub without_tokens: Vec<usize>,
}

/// What was done with a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It has new weights.
    Refitted,
    /// The new weights were no better on held-out tokens.
    NoBetter,
    /// It holds a matrix for each head, which are not refitted.
    Stacked,
    /// ggml cannot write its type, or compression leaves that type alone.
    LeftAlone,
}
