//! What can be wrong with a refit.

use crate::{gguf, llama, quant};

/// A result of this folder.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong between calibration texts and a refitted matrix.
#[allow(missing_docs)] // the sentence of each variant is its documentation
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Gguf(#[from] gguf::Error),
    #[error("{0}")]
    Quant(#[from] quant::Error),
    #[error("{0}")]
    Llama(#[from] llama::Error),

    #[error(
        "the calibration texts have {n_tokens} tokens, too few to hold some out\n\
         hint: more of them, or longer ones"
    )]
    TooShort { n_tokens: usize },
    #[error(
        "what enters {name} is NaN or infinite in channel {channel}\n\
         hint: aird verify names tensors with such numbers"
    )]
    NotFiniteInput { name: String, channel: usize },
    #[error("{name} row {row}: the refitted numbers are NaN or infinite")]
    NotFinite { name: String, row: u64 },
}
