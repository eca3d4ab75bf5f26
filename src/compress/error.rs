//! What can be wrong with compressing a model.

use crate::gguf::GgmlType;
use crate::{gguf, quant, stats};

/// A result of this folder.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong between weights and smaller weights.
#[allow(missing_docs)] // the sentence of each variant is its documentation
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Gguf(#[from] gguf::Error),
    #[error("{0}")]
    Quant(#[from] quant::Error),
    #[error("{0}")]
    Stats(#[from] stats::Error),
    #[error(
        "{name}: element {index} is no finite number in {ty}\n\
         hint: aird verify looks the model over"
    )]
    NonFiniteWeight { name: String, index: u64, ty: GgmlType },
    #[error(
        "{name} is {ty} already: quantizing once more adds its errors to those\n\
         hint: start from the float model, or say --requantize"
    )]
    AlreadyQuantized { name: String, ty: GgmlType },
    #[error("ggml does not write {ty}\nhint: q8_0, q6_k, q5_k, q4_k, q4_1, q4_0, iq4_nl")]
    NotEncodable { ty: GgmlType },
    #[error("ggml writes {ty} with statistics alone\nhint: --stats FILE or --data FILE")]
    NeedsStats { ty: GgmlType },
    #[error("the statistics say nothing about {name}, which is to be scaled")]
    NoMeans { name: String },
    #[error("sparsity {found} lies outside 0 to 1, both excluded")]
    Sparsity { found: f64 },
    #[error("the pattern {n}:{m} zeroes {n} of each {m}: expected 0 < {n} < {m}")]
    Pattern { n: usize, m: usize },
    #[error(
        "rows of {n_cols} elements are no whole number of runs of {len}\n\
         hint: choose a type or a pattern whose length divides {n_cols}"
    )]
    Width { n_cols: usize, len: usize },
    #[error("{what}: {found} numbers, expected {expected}")]
    Length { what: &'static str, found: usize, expected: usize },
    #[error("{what} of block {block} is {found}, expected a finite number of 0 or more")]
    OutlierShare { what: &'static str, block: usize, found: f64 },
    #[error(
        "scales of '{group}': {what} is {found}\n\
         hint: look for NaN and infinity in the weights (aird verify) and in the statistics"
    )]
    NotFinite { group: String, what: String, found: f64 },
    #[error("scale {index} of '{group}' is {found}, expected a positive finite number")]
    Scale { group: String, index: usize, found: f32 },
    #[error("scales {a} and {b} of '{group}' differ, but both divide one row of attn_v")]
    Untied { group: String, a: usize, b: usize },
}
