//! What can go wrong with a study's run folder.

use std::path::PathBuf;

use thiserror::Error;

use crate::gguf;

/// This folder's results.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong with a study's run folder.
#[derive(Debug, Error)]
pub enum Error {
    /// A file of the run does not exist, or cannot be read.
    #[error("cannot read {}: {why}", path.display())]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// The system's reason.
        why: std::io::Error,
    },
    /// It is not JSON, or does not fit its schema.
    #[error("{} holds no results of a study: {why}", path.display())]
    Malformed {
        /// Path of the file.
        path: PathBuf,
        /// What, and where.
        why: String,
    },
    /// Another version of aird wrote it.
    #[error(
        "{} has schema {found}, expected {expected}\nhint: {hint}",
        path.display()
    )]
    Schema {
        /// Path of the file.
        path: PathBuf,
        /// Its schema.
        found: u64,
        /// The schema of this aird.
        expected: u32,
        /// What the user can do about it.
        hint: &'static str,
    },
    /// The report cannot be written.
    #[error("{0}")]
    Write(#[from] gguf::Error),
}
