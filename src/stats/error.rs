//! What can go wrong with statistics.

use std::path::PathBuf;

use crate::{gguf, llama};

/// A result of this folder.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong with activation statistics.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A model's file cannot be read or written.
    #[error("{0}")]
    Gguf(#[from] gguf::Error),
    /// llama.cpp cannot load or run a model.
    #[error("{0}")]
    Engine(#[from] llama::Error),
    /// A statistics file is malformed.
    #[error("{}: {what}", path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong, as the end of a sentence.
        what: String,
    },
    /// The statistics lack a matrix.
    #[error("the statistics hold nothing about {name}'s input")]
    NoInput {
        /// Name of the tensor, e.g. `blk.0.ffn_down.weight`.
        name: String,
    },
    /// The statistics are of another architecture than the model.
    #[error("the statistics are of architecture '{found}', the model is '{expected}'")]
    Architecture {
        /// Their architecture.
        found: String,
        /// The model's architecture.
        expected: String,
    },
    /// The model has none of the statistics' tensors.
    #[error("the statistics are of another model: it has none of their tensors, e.g. {name}")]
    NoTensor {
        /// One of those tensors.
        name: String,
    },
    /// A tensor has another number of channels in the statistics.
    #[error(
        "the statistics are of another model: {name} has {found} channels there, \
         expected {expected}"
    )]
    Width {
        /// Name of the tensor, e.g. `blk.0.ffn_down.weight`.
        name: String,
        /// Channels in the statistics.
        found: u64,
        /// Channels in the model.
        expected: u64,
    },
    /// A tensor has another number of experts in the statistics.
    #[error(
        "the statistics are of another model: {name} has {found} experts there, \
         expected {expected}"
    )]
    Experts {
        /// Name of the tensor, e.g. `blk.0.ffn_down.weight`.
        name: String,
        /// Experts in the statistics.
        found: u64,
        /// Experts in the model.
        expected: u64,
    },
    /// No row of a matrix's input was counted.
    #[error("the statistics count no input row for {name}, expected 1 or more")]
    ZeroCount {
        /// Name of the tensor, e.g. `blk.0.ffn_down.weight`.
        name: String,
    },
    /// All sums of a matrix's input are zero.
    #[error("the statistics of {name} are all zero, expected sums above 0")]
    ZeroSums {
        /// Name of the tensor, e.g. `blk.0.ffn_down.weight`.
        name: String,
    },
    /// The input of a matrix holds a NaN or an infinity.
    #[error("the input of {name} holds a NaN or an infinity, in channel {channel}")]
    NotFinite {
        /// Name of the tensor, e.g. `blk.0.ffn_down.weight`.
        name: String,
        /// The first such channel.
        channel: usize,
    },
    /// The calibration text is shorter than the samples asked for.
    #[error(
        "too little calibration text: {found} tokens, expected {needed} ({n_samples} samples of \
         {n_ctx})"
    )]
    TooLittleText {
        /// Tokens found.
        found: usize,
        /// Tokens needed.
        needed: usize,
        /// Number of samples.
        n_samples: usize,
        /// Tokens of a sample.
        n_ctx: usize,
    },
    /// No token of any sample is counted.
    #[error("no sample has a token that counts")]
    NoSamples,
    /// llama.cpp's graph of the model has no matrix product in a block.
    #[error("architecture '{architecture}' showed no linear layer in its blocks")]
    NoLinear {
        /// `general.architecture`.
        architecture: String,
    },
}
