//! What can be wrong with a repair.

use crate::gguf::GgmlType;
use crate::{direction, gguf, llama, quant};

/// A result of this folder.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong between a direction and an edited matrix.
#[allow(missing_docs)] // the sentence of each variant is its documentation
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Gguf(#[from] gguf::Error),
    #[error("{0}")]
    Quant(#[from] quant::Error),
    #[error("{0}")]
    Llama(#[from] llama::Error),
    #[error("{0}")]
    Direction(#[from] direction::Error),

    #[error(
        "alpha is {alpha}, expected more than 0\n\
         hint: aird makes models refuse more; it does not remove a refusal direction"
    )]
    Alpha { alpha: f64 },
    #[error("the direction is {found} wide, the model {expected}: it is of another model")]
    Width { found: usize, expected: u64 },
    #[error("there is no block {block}: the model has blocks 0 to {last}")]
    NoBlock { block: u32, last: u32 },
    #[error(
        "block {block} cannot be edited there: between a matrix and the residual stream \
         llama.cpp's graph has node '{node}' ({op}), which is not linear\n\
         hint: aird inspect --structure MODEL shows the halves that can be edited"
    )]
    NotLinear { block: u32, node: String, op: String },
    #[error("block {block} has no matrix that writes into the residual stream")]
    NoWriter { block: u32 },
    #[error("the matrix {name} has rows of {found} outputs, expected {expected}")]
    Rows { name: String, found: u64, expected: u64 },
    #[error(
        "{name}, which what {matrix} writes is multiplied by, has {found} numbers, expected \
         {expected}"
    )]
    Gains { name: String, matrix: String, found: usize, expected: usize },
    #[error("what {name} writes has nothing of the direction: there is nothing to strengthen")]
    NothingThere { name: String },
    #[error("{name} would hold a NaN or an infinity as {ty}")]
    NotFinite { name: String, ty: GgmlType },
    #[error("{name}: an alpha of {realised:.3} comes out in {ty}, {asked} was asked for")]
    Lost { name: String, ty: GgmlType, realised: f64, asked: f64, tried_finer: bool },
    #[error(
        "{name} was read back with an alpha of {found:.4}, expected {expected:.4}\n\
         hint: the disk or the memory may be failing"
    )]
    NotThere { name: String, found: f64, expected: f64 },
    #[error("llama.cpp takes no adapter for {name}, an NVFP4 matrix with a scale of its own")]
    NoAdapter { name: String },
}
