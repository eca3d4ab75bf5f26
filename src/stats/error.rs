//! What can be wrong with statistics.

use std::path::PathBuf;

use crate::{gguf, llama};

/// A result of this folder.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong with activation statistics.
#[allow(missing_docs)] // the sentence of each variant is its documentation
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Gguf(#[from] gguf::Error),
    #[error("{0}")]
    Engine(#[from] llama::Error),

    #[error("{}: {what}", path.display())]
    File { path: PathBuf, what: String },
    #[error("the statistics hold nothing about {name}'s input")]
    NoInput { name: String },
    #[error(
        "the statistics are of architecture '{found}', the model is '{expected}'\n\
         hint: make them from this model: aird calibrate MODEL --data ... -o STATS"
    )]
    Architecture { found: String, expected: String },
    #[error("the statistics are of another model: it has none of their tensors, as {name}")]
    NoTensor { name: String },
    #[error(
        "the statistics are of another model: {name} has {found} channels there, \
         expected {expected}"
    )]
    Width { name: String, found: u64, expected: u64 },
    #[error(
        "the statistics are of another model: {name} has {found} experts there, \
         expected {expected}"
    )]
    Experts { name: String, found: u64, expected: u64 },
    #[error("the statistics say that {name} saw no row: there is nothing to go by")]
    ZeroCount { name: String },
    #[error("the statistics of {name} are all zero: there is nothing to go by")]
    ZeroSums { name: String },
    #[error("the input of {name} holds a NaN or an infinity, in channel {channel}")]
    NotFinite { name: String, channel: usize },
    #[error(
        "too little calibration text: {found} tokens, needed are {needed} ({n_samples} samples of \
         {n_ctx})\nhint: more text, or fewer --samples, or a shorter --ctx"
    )]
    TooLittleText { found: usize, needed: usize, n_samples: usize, n_ctx: usize },
    #[error("there is no sample with a token that counts")]
    NoSamples,
    #[error("architecture '{architecture}' showed no linear layer in its blocks")]
    NoLinear { architecture: String },
}
