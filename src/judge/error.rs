//! What can go wrong while a model judges.

use std::path::PathBuf;

use crate::{llama, prompts};

/// A result of this folder.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong.
#[allow(missing_docs)] // the sentence of each variant is its documentation
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Llama(#[from] llama::Error),
    #[error("{0}")]
    Prompts(#[from] prompts::Error),
    #[error(
        "{}: its chat template asks for no 'safe' or 'unsafe', expected a model of the LlamaGuard \
         family",
        path.display()
    )]
    NoGuard { path: PathBuf },
}
