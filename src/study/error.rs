//! What can go wrong in a study outside its steps; errors in a step are reported by the step.

use std::path::PathBuf;

use crate::{gguf, llama, prompts, report, verbs};

/// A result of this folder.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong outside a step.
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
    Report(#[from] report::Error),
    #[error("{0}")]
    Verb(#[from] verbs::Error),

    #[error("{}: cannot {verb}: {source}", path.display())]
    Disk { path: PathBuf, verb: &'static str, source: std::io::Error },
    #[error("{}: {}", path.display(), said.trim_end())]
    Toml { path: PathBuf, said: String },
    #[error("recipe: {within}: there is no key '{key}', expected some of {expected}{hint}")]
    UnknownKey { within: String, key: String, expected: String, hint: String },
    #[error("recipe: {within}: {key} is the study's own to set\nhint: leave it out")]
    Reserved { within: String, key: String },
    #[error("recipe: {within}: {key} is {found}, expected {expected}")]
    Value { within: String, key: String, found: String, expected: String },
    #[error("recipe: {within}: {key} is missing, expected {expected}")]
    MissingKey { within: String, key: &'static str, expected: &'static str },
    #[error("recipe: {within}: {said}")]
    Options { within: String, said: String },
    #[error("recipe: {what}")]
    Recipe { what: String },
    #[error("--set {text}: {what}")]
    Set { text: String, what: String },
    #[error(
        "the recipe names files that do not exist: {}\n\
         hint: relative paths begin at the recipe's folder or at the current one",
        names(files)
    )]
    MissingFiles { files: Vec<PathBuf> },
    #[error(
        "{} holds other things, expected a run's folder or a new one\n\
         hint: name a new folder; a run begins in an empty one and goes on in its own",
        path.display()
    )]
    OtherFolder { path: PathBuf },
    #[error("no folder is given for the run")]
    NoFolder,
    #[error("a study runs aird as other processes, and no program is given for them")]
    NoProgram,
    #[error(
        "{} is the input itself, and would be overwritten\n\
         hint: run a copy of it that lies outside the run's folder",
        path.display()
    )]
    RecipeInRun { path: PathBuf },
    #[error("{}: {what}", path.display())]
    File { path: PathBuf, what: String },
}

fn names(files: &[PathBuf]) -> String {
    files.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Makes an error of a failed operation on a file.
pub(super) fn disk(
    path: impl Into<PathBuf>,
    verb: &'static str,
) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.into();
    move |source| Error::Disk { path, verb, source }
}
