//! What can go wrong while a model is measured.

use std::path::PathBuf;

use crate::{direction, gguf, llama, prompts};

/// A result of this folder.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong between a model and its figures.
#[allow(missing_docs)] // the sentence of each variant is its documentation
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Gguf(#[from] gguf::Error),
    #[error("{0}")]
    Llama(#[from] llama::Error),
    #[error("{0}")]
    Prompts(#[from] prompts::Error),
    #[error("{0}")]
    Direction(#[from] direction::Error),

    #[error("{}: {what}", path.display())]
    File { path: PathBuf, what: String },
    #[error("{}: cannot {verb}: {source}", path.display())]
    Disk { path: PathBuf, verb: &'static str, source: std::io::Error },
    #[error(
        "{} was made with other settings: {key} is {found} there, {expected} now\n\
         hint: go on with the settings it was begun with, or name another folder",
        path.display()
    )]
    OtherSettings { path: PathBuf, key: String, found: String, expected: String },
    #[error(
        "{}: no data for task {task}, expected one of {}\n\
         hint: the set is published at {source_url}; lm-evaluation-harness's samples of it will do \
         under one of these names",
        folder.display(), names.join(", ")
    )]
    NoData {
        task: &'static str,
        folder: PathBuf,
        names: &'static [&'static str],
        source_url: &'static str,
    },
    #[error("no task is called '{name}', expected some of {}", expected.join(", "))]
    NoSuchTask { name: String, expected: Vec<&'static str> },
    #[error(
        "task {task}, line {line}: a choice of {n_tokens} tokens, expected at most {most}: the \
         model reads no more\nhint: take the item out of the data file"
    )]
    ChoiceTooLong { task: &'static str, line: usize, n_tokens: usize, most: usize },
    #[error(
        "the model's scores are no numbers ({what})\n\
         hint: `aird verify` looks for what is broken"
    )]
    NoNumbers { what: String },
    #[error("{}: {found} tokens, expected at least {expected} for a window of {n_ctx}",
        path.display())]
    TooLittleText { path: PathBuf, found: usize, expected: usize, n_ctx: usize },
    #[error(
        "the reference reads this text as other tokens: it knows {found}, the model {expected}\n\
         hint: KL compares models of one vocabulary, such as a model and its quants"
    )]
    OtherVocabulary { found: usize, expected: usize },
}
