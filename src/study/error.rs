//! What can go wrong in a study outside its steps; errors in a step are reported by the step.

use std::path::PathBuf;

use crate::{gguf, llama, prompts, report, verbs};

/// A result of this folder.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong outside a step.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Of a model file.
    #[error("{0}")]
    Gguf(#[from] gguf::Error),
    /// Of llama.cpp.
    #[error("{0}")]
    Llama(#[from] llama::Error),
    /// Of prompts.
    #[error("{0}")]
    Prompts(#[from] prompts::Error),
    /// Of the report.
    #[error("{0}")]
    Report(#[from] report::Error),
    /// Of a verb that the study calls itself.
    #[error("{0}")]
    Verb(#[from] verbs::Error),

    /// A file or folder of the run.
    #[error("{}: cannot {verb}: {source}", path.display())]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        verb: &'static str,
        /// What went wrong.
        source: std::io::Error,
    },
    /// The recipe is not TOML.
    #[error("{}: {}", path.display(), said.trim_end())]
    Toml {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        said: String,
    },
    /// A key that recipes do not have.
    #[error("recipe: {within}: there is no key '{key}', expected some of {expected}{hint}")]
    UnknownKey {
        /// The table of the recipe.
        within: String,
        /// The key.
        key: String,
        /// What is expected.
        expected: String,
        /// The nearest known key, as a hint.
        hint: String,
    },
    /// An option that the study sets itself.
    #[error("recipe: {within}: {key} is the study's own to set\nhint: leave it out")]
    Reserved {
        /// The table of the recipe.
        within: String,
        /// The key.
        key: String,
    },
    /// A value of the wrong kind.
    #[error("recipe: {within}: {key} is {found}, expected {expected}")]
    Value {
        /// The table of the recipe.
        within: String,
        /// The key.
        key: String,
        /// The value.
        found: String,
        /// What is expected.
        expected: String,
    },
    /// A key that recipes must have.
    #[error("recipe: {within}: {key} is missing, expected {expected}")]
    MissingKey {
        /// The table of the recipe.
        within: String,
        /// The key.
        key: &'static str,
        /// What is expected.
        expected: &'static str,
    },
    /// The options of a step do not go together.
    #[error("recipe: {within}: {said}")]
    Options {
        /// The table of the recipe.
        within: String,
        /// What is wrong with it.
        said: String,
    },
    /// The recipe as a whole.
    #[error("recipe: {what}")]
    Recipe {
        /// What is wrong.
        what: String,
    },
    /// A change of the recipe on the command line.
    #[error("--set {text}: {what}")]
    Set {
        /// The change.
        text: String,
        /// What is wrong.
        what: String,
    },
    /// Files that the recipe names.
    #[error(
        "the recipe names files that do not exist: {}\n\
         hint: relative paths begin at the recipe's folder or at the current one",
        names(files)
    )]
    MissingFiles {
        /// The files.
        files: Vec<PathBuf>,
    },
    /// The folder is not that of a run.
    #[error(
        "{} holds other things, expected a run's folder or a new one\n\
         hint: name a new folder; a run begins in an empty one and goes on in its own",
        path.display()
    )]
    OtherFolder {
        /// The file or folder.
        path: PathBuf,
    },
    /// A run needs a folder.
    #[error("there is no folder for the run")]
    NoFolder,
    /// The host lends no program to run steps in.
    #[error("a study runs aird as other processes, and no program is given for them")]
    NoProgram,
    /// The recipe lies where the run keeps its own.
    #[error(
        "{} is the input itself, and would be overwritten\n\
         hint: run a copy of it that lies outside the run's folder",
        path.display()
    )]
    RecipeInRun {
        /// The file or folder.
        path: PathBuf,
    },
    /// A file of the run does not hold what it should.
    #[error("{}: {what}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
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
