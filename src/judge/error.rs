//! What can go wrong while a model judges.

use std::path::PathBuf;

use crate::{llama, prompts};

/// A result of this folder.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// llama.cpp cannot load or run a model.
    #[error("{0}")]
    Llama(#[from] llama::Error),
    /// Prompts or a chat template cannot be read.
    #[error("{0}")]
    Prompts(#[from] prompts::Error),
    /// A model of the LlamaGuard family is expected, and its chat template asks for no such
    /// verdict.
    #[error(
        "{}: its chat template asks for no 'safe' or 'unsafe', expected a model of the LlamaGuard \
         family",
        path.display()
    )]
    NoGuard {
        /// Path of the model file.
        path: PathBuf,
    },
}
