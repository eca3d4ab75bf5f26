//! What came of a refit.

use serde::{Deserialize, Serialize};

use crate::gguf::TensorInfo;

/// A refitted model, in numbers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Refitted {
    /// Tokens that matrices were fitted to.
    pub n_tokens: usize,
    /// Tokens held out, which errors are of.
    pub n_held_out: usize,
    /// Block by block.
    pub blocks: Vec<BlockReport>,
}

/// One block.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BlockReport {
    /// Its number.
    pub block: u32,
    /// True if it was run by itself; false: in the whole model.
    pub alone: bool,
    /// Its matrices, in order of evaluation.
    pub tensors: Vec<TensorReport>,
    /// `|ours - original| / |original|` of the residual stream that leaves it, its mean over
    /// held-out tokens: of the compressed model as it was, and as far as it is restored.
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

/// One matrix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TensorReport {
    /// The tensor.
    pub name: String,
    /// Its type now.
    #[serde(rename = "type")]
    pub ty: String,
    /// What was done with it.
    pub outcome: Outcome,
    /// `|Y - X W^T| / |Y|` on held-out tokens, before and after; null where nothing was tried.
    pub error: Option<(f64, f64)>,
    /// True if its zeros were kept.
    pub zeros_kept: bool,
    /// What became of its experts; null where it is one matrix.
    pub experts: Option<ExpertsReport>,
}

impl TensorReport {
    /// The report on a tensor, without figures.
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

/// A stack of experts' matrices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpertsReport {
    /// How many it holds.
    pub n: usize,
    /// How many have new numbers.
    pub refitted: usize,
    /// Those that no token reached, or no held-out one. In a restore they keep their weights, and a
    /// token counts where it reaches the expert in both models; else their weights alone decide.
    pub without_tokens: Vec<usize>,
}

/// What was done with a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It has new numbers.
    Refitted,
    /// The new numbers were no better on held-out tokens.
    NoBetter,
    /// It holds a matrix for each head, which are not refitted.
    Stacked,
    /// ggml does not write its type, or it is one that compression leaves alone.
    LeftAlone,
}
