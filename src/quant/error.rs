//! What can be wrong with rows.

use crate::{gguf, llama};

/// A result of this folder.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong between bytes and numbers.
#[allow(missing_docs)] // the sentence of each variant is its documentation
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Codec(#[from] llama::Error),
    #[error("{0}")]
    Gguf(#[from] gguf::Error),
    #[error(
        "{name} row {row} column {column} is NaN or infinite in the input\n\
         hint: aird verify names every such tensor"
    )]
    NonFinite { name: String, row: u64, column: u64 },
}
