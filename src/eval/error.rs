//! What can go wrong while a model is measured.

use std::path::PathBuf;

use crate::{direction, gguf, llama, prompts};

/// A result of this folder.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong between a model and its figures.
#[allow(missing_docs)] // the sentence of each variant is its documentation
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Gguf(#[from] gguf::Error),
    #[error(transparent)]
    Llama(#[from] llama::Error),
    #[error(transparent)]
    Prompts(#[from] prompts::Error),
    #[error(transparent)]
    Direction(#[from] direction::Error),

    #[error("{}: {what}", path.display())]
    File { path: PathBuf, what: String },
    #[error("{}: cannot {verb}: {source}", path.display())]
    Disk { path: PathBuf, verb: &'static str, source: std::io::Error },
    #[error(
        "{} was made with other settings: {key} is {found} there, {expected} now\n\
         hint: go on with the settings it was begun with, or name another file",
        path.display()
    )]
    OtherSettings { path: PathBuf, key: String, found: String, expected: String },
}
