//! The report of a study's run again, from its results.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::host::Host;
use super::stopped::Stopped;
use crate::report::{CARD, PAGE, write};

/// Which run.
#[derive(Debug, Clone)]
pub struct Request {
    /// The run's folder; its report.html and README.md are replaced.
    pub run: PathBuf,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// The page.
    pub report: String,
    /// The model card.
    pub card: String,
}

/// Writes the report and the model card.
///
/// # Errors
/// The results are missing, malformed or of another version; the disk's.
pub fn run(request: &Request, _: &dyn Host) -> Result<Report, Stopped> {
    write(&request.run)?;
    let path = |name| request.run.join(name).display().to_string();
    Ok(Report { report: path(PAGE), card: path(CARD) })
}
