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
        /// The tensor.
        name: String,
        /// Its row.
        row: u64,
        /// Its column.
        column: u64,
    },
}
