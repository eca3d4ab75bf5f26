//! Files in reports.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// What would be written.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// The files.
    pub files: Vec<FileReport>,
    /// Bytes of tensors that are computed; all others are copied.
    pub computed_bytes: u64,
    /// Seconds that the verb would take here; None where that is not estimated.
    pub estimated_seconds: Option<f64>,
}

/// One output file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileReport {
    /// Where it is.
    pub path: String,
    /// Its size.
    pub bytes: u64,
}

impl FileReport {
    /// Of a file of that size.
    pub fn new(path: &Path, bytes: u64) -> FileReport {
        FileReport { path: path.display().to_string(), bytes }
    }
}
