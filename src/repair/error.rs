//! What can go wrong in a repair.

use crate::gguf::GgmlType;
use crate::{direction, gguf, llama, quant};

/// A result of this folder.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong between a direction and an edited matrix.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A model's file cannot be read or written.
    #[error("{0}")]
    Gguf(#[from] gguf::Error),
    /// Rows of a tensor cannot be decoded or encoded.
    #[error("{0}")]
    Quant(#[from] quant::Error),
    /// llama.cpp cannot load or run a model.
    #[error("{0}")]
    Llama(#[from] llama::Error),
    /// A direction cannot be found or read.
    #[error("{0}")]
    Direction(#[from] direction::Error),
    /// The strength is not above 0.
    #[error(
        "alpha is {alpha}, expected more than 0\n\
         hint: aird makes models refuse more; it does not remove a refusal direction"
    )]
    Alpha {
        /// The strength that was asked for.
        alpha: f64,
    },
    /// The direction is as wide as another model's residual stream.
    #[error("the direction is {found} wide, the model {expected}: it is of another model")]
    Width {
        /// Its width.
        found: usize,
        /// The model's width.
        expected: u64,
    },
    /// A block is to be edited that the model does not have.
    #[error("there is no block {block}: the model has blocks 0 to {last}")]
    NoBlock {
        /// Index of the block, from 0.
        block: u32,
        /// The model's last block.
        last: u32,
    },
    /// A node between a matrix and the residual stream is not linear, so that no edit of the matrix
    /// does what is asked.
    #[error(
        "block {block} cannot be edited there: between a matrix and the residual stream \
         llama.cpp's graph has node '{node}' ({op}), which is not linear"
    )]
    NotLinear {
        /// Index of the block, from 0.
        block: u32,
        /// Name of the node in llama.cpp's graph.
        node: String,
        /// ggml's operation.
        op: String,
    },
    /// A half of a block is to be edited and writes nothing into the residual stream.
    #[error("block {block} has no matrix that writes into the residual stream")]
    NoWriter {
        /// Index of the block, from 0.
        block: u32,
    },
    /// A matrix does not have one row for each channel of the residual stream.
    #[error("the matrix {name} has rows of {found} outputs, expected {expected}")]
    Rows {
        /// Name of the tensor, e.g. `blk.0.ffn_down.weight`.
        name: String,
        /// Its rows.
        found: u64,
        /// The model's width.
        expected: u64,
    },
    /// Gains after a matrix are not as many as the residual stream has channels.
    #[error(
        "{name}, which what {matrix} writes is multiplied by, has {found} numbers, expected \
         {expected}"
    )]
    Gains {
        /// Name of the gains, e.g. `blk.0.post_ffw_norm.weight`.
        name: String,
        /// Name of the tensor, e.g. `blk.0.ffn_down.weight`.
        matrix: String,
        /// Gains found.
        found: usize,
        /// The model's width.
        expected: usize,
    },
    /// A matrix writes nothing along the direction.
    #[error("what {name} writes has nothing of the direction: there is nothing to strengthen")]
    NothingThere {
        /// Name of the tensor, e.g. `blk.0.ffn_down.weight`.
        name: String,
    },
    /// An edited tensor holds a NaN or an infinity.
    #[error("{name} would hold a NaN or an infinity as {ty}")]
    NotFinite {
        /// Name of the tensor, e.g. `blk.0.ffn_down.weight`.
        name: String,
        /// The tensor type, e.g. `Q4_K`.
        ty: GgmlType,
    },
    /// Rounding takes too much of the edit back.
    #[error("{name}: an alpha of {realised:.3} comes out in {ty}, {asked} was asked for")]
    Lost {
        /// Name of the tensor, e.g. `blk.0.ffn_down.weight`.
        name: String,
        /// The tensor type, e.g. `Q4_K`.
        ty: GgmlType,
        /// The alpha after rounding.
        realised: f64,
        /// The alpha that was asked for.
        asked: f64,
        /// A finer type was tried, too.
        tried_finer: bool,
    },
    /// The written file holds another alpha than was reported.
    #[error(
        "{name} was read back with an alpha of {found:.4}, expected {expected:.4}\n\
         hint: the disk or the memory may be failing"
    )]
    NotThere {
        /// Name of the tensor, e.g. `blk.0.ffn_down.weight`.
        name: String,
        /// The alpha in the file.
        found: f64,
        /// The alpha that was reported.
        expected: f64,
    },
    /// llama.cpp would abort on an adapter for this matrix.
    #[error("llama.cpp takes no adapter for {name}, an NVFP4 matrix with its own scale")]
    NoAdapter {
        /// Name of the tensor, e.g. `blk.0.ffn_down.weight`.
        name: String,
    },
}
