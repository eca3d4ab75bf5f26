//! What can go wrong in a refit.

use crate::{gguf, llama, quant};

/// A result of this folder.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong between calibration texts and a refitted matrix.
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
    /// The calibration texts are too few to hold some out.
    #[error(
        "the calibration texts have {n_tokens} tokens, too few to hold some out\n\
         hint: more of them, or longer ones"
    )]
    TooShort {
        /// Tokens of all texts.
        n_tokens: usize,
    },
    /// The input of a matrix holds a NaN or an infinity.
    #[error("the input of {name} is NaN or infinite in channel {channel}")]
    NotFiniteInput {
        /// Name of the tensor, e.g. `blk.0.ffn_down.weight`.
        name: String,
        /// The first such channel.
        channel: usize,
    },
    /// A refitted matrix holds a NaN or an infinity.
    #[error("{name} row {row}: the refitted weights are NaN or infinite")]
    NotFinite {
        /// Name of the tensor, e.g. `blk.0.ffn_down.weight`.
        name: String,
        /// The first such row.
        row: u64,
    },
}
