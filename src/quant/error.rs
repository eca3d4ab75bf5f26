//! What can go wrong with rows.

use crate::{gguf, llama};

/// A result of this folder.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong between bytes and values.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// ggml cannot decode or encode rows.
    #[error("{0}")]
    Codec(#[from] llama::Error),
    /// A model's file cannot be read or written.
    #[error("{0}")]
    Gguf(#[from] gguf::Error),
    /// A weight of the input is NaN or infinite.
    #[error("{name} row {row} column {column} is NaN or infinite in the input")]
    NonFinite {
        /// Name of the tensor, e.g. `blk.0.ffn_down.weight`.
        name: String,
        /// Index of its row, from 0.
        row: u64,
        /// Index of its column, from 0.
        column: u64,
    },
}
