//! What can go wrong while a model is evaluated.

use std::path::PathBuf;

use crate::{direction, gguf, llama, prompts};

/// A result of this folder.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong between a model and its figures.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A model's file cannot be read or written.
    #[error("{0}")]
    Gguf(#[from] gguf::Error),
    /// llama.cpp cannot load or run a model.
    #[error("{0}")]
    Llama(#[from] llama::Error),
    /// Prompts or a chat template cannot be read.
    #[error("{0}")]
    Prompts(#[from] prompts::Error),
    /// A direction cannot be found or read.
    #[error("{0}")]
    Direction(#[from] direction::Error),
    /// A data file or a results file is malformed.
    #[error("{}: {what}", path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong, and where.
        what: String,
    },
    /// A file cannot be read or written.
    #[error("{}: cannot {verb}: {source}", path.display())]
    Disk {
        /// Path of the file.
        path: PathBuf,
        /// What was tried: `read`, `write`.
        verb: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Results are to be resumed that were made with other settings.
    #[error(
        "{} was made with other settings: {key} is {found} there, {expected} now\n\
         hint: go on with the settings it was begun with, or name another folder",
        path.display()
    )]
    OtherSettings {
        /// The results file.
        path: PathBuf,
        /// The first setting that differs.
        key: String,
        /// Its value in the file.
        found: String,
        /// Its value in this run.
        expected: String,
    },
    /// The data folder holds no file of a task.
    #[error(
        "{}: no data for task {task}, expected one of {}\n\
         hint: the set is published at {source_url}; lm-evaluation-harness's samples of it will do \
         under one of these names",
        folder.display(), names.join(", ")
    )]
    NoData {
        /// Name of the task.
        task: &'static str,
        /// The data folder.
        folder: PathBuf,
        /// File names that would do.
        names: &'static [&'static str],
        /// Where the data set is published.
        source_url: &'static str,
    },
    /// No task has this name.
    #[error("no task is called '{name}', expected some of {}", expected.join(", "))]
    NoSuchTask {
        /// The name.
        name: String,
        /// The tasks' names.
        expected: Vec<&'static str>,
    },
    /// A single choice is longer than the model's context.
    #[error(
        "task {task}, line {line}: a choice of {n_tokens} tokens, expected at most {most}: the \
         model reads no more\nhint: take the item out of the data file"
    )]
    ChoiceTooLong {
        /// Name of the task.
        task: &'static str,
        /// The item's line in the data file.
        line: usize,
        /// Tokens of the choice.
        n_tokens: usize,
        /// Tokens that the model reads.
        most: usize,
    },
    /// A score is NaN or infinite.
    #[error("a score of the model is NaN or infinite ({what})")]
    NoNumbers {
        /// The score.
        what: String,
    },
    /// A text does not fill one window.
    #[error(
        "{}: {found} tokens, expected at least {expected} for a window of {n_ctx}",
        path.display()
    )]
    TooLittleText {
        /// The text.
        path: PathBuf,
        /// Tokens of the text.
        found: usize,
        /// Tokens needed.
        expected: usize,
        /// Tokens of a window.
        n_ctx: usize,
    },
    /// The model and its reference read the text as different tokens.
    #[error(
        "the reference reads this text as other tokens: it knows {found}, the model {expected}\n\
         hint: KL compares models of one vocabulary, such as a model and its quants"
    )]
    OtherVocabulary {
        /// Tokens in the reference's vocabulary.
        found: usize,
        /// Tokens in the model's vocabulary.
        expected: usize,
    },
}
