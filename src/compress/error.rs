//! What can go wrong while a model is compressed.

use crate::gguf::GgmlType;
use crate::{gguf, quant, stats};

/// A result of this folder.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong between weights and compressed weights.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A model's file cannot be read or written.
    #[error("{0}")]
    Gguf(#[from] gguf::Error),
    /// Rows of a tensor cannot be decoded or encoded.
    #[error("{0}")]
    Quant(#[from] quant::Error),
    /// The statistics cannot be read, or do not fit the model.
    #[error("{0}")]
    Stats(#[from] stats::Error),
    /// A compressed weight is NaN or infinite.
    #[error("{name}: element {index} is NaN or infinite in {ty}")]
    NonFiniteWeight {
        /// Name of the tensor, e.g. `blk.0.ffn_down.weight`.
        name: String,
        /// The element's index.
        index: u64,
        /// The type that it was encoded in.
        ty: GgmlType,
    },
    /// A tensor to be quantized is quantized already.
    #[error("{name} is {ty} already, expected a float type: quantizing it again adds errors")]
    AlreadyQuantized {
        /// Name of the tensor, e.g. `blk.0.ffn_down.weight`.
        name: String,
        /// The tensor type, e.g. `Q4_K`.
        ty: GgmlType,
    },
    /// ggml has no encoder for the type.
    #[error("ggml does not write {ty}\nhint: q8_0, q6_k, q5_k, q4_k, q4_1, q4_0, iq4_nl")]
    NotEncodable {
        /// The tensor type, e.g. `Q4_K`.
        ty: GgmlType,
    },
    /// ggml writes the type only with importance weights, which are missing.
    #[error("ggml writes {ty} only with statistics, which are missing")]
    NeedsStats {
        /// The tensor type, e.g. `Q4_K`.
        ty: GgmlType,
    },
    /// The statistics have no means for a tensor to be scaled.
    #[error("the statistics hold no means for {name}, which is to be scaled")]
    NoMeans {
        /// Name of the tensor, e.g. `blk.0.ffn_down.weight`.
        name: String,
    },
    /// A sparsity is not between 0 and 1.
    #[error("sparsity {found} lies outside 0 to 1, both excluded")]
    Sparsity {
        /// The sparsity.
        found: f64,
    },
    /// A pattern n:m does not zero some columns and keep some.
    #[error("the pattern {n}:{m} zeroes {n} of each {m}: expected 0 < {n} < {m}")]
    Pattern {
        /// Zeros of each run.
        n: usize,
        /// Columns of a run.
        m: usize,
    },
    /// Rows do not divide into runs or blocks.
    #[error(
        "rows of {n_cols} elements are not a whole number of runs of {len}\n\
         hint: choose a type or a pattern whose length divides {n_cols}"
    )]
    Width {
        /// Elements of a row.
        n_cols: usize,
        /// Columns of a run or block.
        len: usize,
    },
    /// A slice has another length than the matrix asks for.
    #[error("{what}: {found} values, expected {expected}")]
    Length {
        /// What the slice holds.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The length asked for.
        expected: usize,
    },
    /// A share of outliers is negative or not finite.
    #[error("{what} of block {block} is {found}, expected a finite number of 0 or more")]
    OutlierShare {
        /// The share.
        what: &'static str,
        /// Index of the block, from 0.
        block: usize,
        /// Its value.
        found: f64,
    },
    /// A mean or a loss of the scale search is not a finite number.
    #[error("scales of '{group}': {what} is {found}, expected a finite number of 0 or more")]
    NotFinite {
        /// The group.
        group: String,
        /// What was computed.
        what: String,
        /// Its value.
        found: f64,
    },
    /// A scale is not a positive finite number.
    #[error("scale {index} of '{group}' is {found}, expected a positive finite number")]
    Scale {
        /// The group.
        group: String,
        /// The scale's index.
        index: usize,
        /// Its value.
        found: f32,
    },
    /// Two scales differ that divide the same row.
    #[error("scales {a} and {b} of '{group}' differ, but both divide one row of attn_v")]
    Untied {
        /// The group.
        group: String,
        /// The first scale's index.
        a: usize,
        /// The second scale's index.
        b: usize,
    },
}
