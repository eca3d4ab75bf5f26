//! The report of a study's run again, from its results.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::host::Host;
use super::stopped::Stopped;
use crate::report::{CARD, PAGE, read_bases, write, write_overview};

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
    /// The page: of the study or, for several bases, of all.
    pub report: String,
    /// The model card; null for several bases, which have one each.
    pub card: Option<String>,
    /// What was written for each base where the run has several, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bases: Vec<Report>,
}

/// Writes the report and the model card: of each base, if the run has several.
///
/// # Errors
/// The results are missing, malformed or of another version; the disk's.
pub fn run(request: &Request, _: &dyn Host) -> Result<Report, Stopped> {
    let run = &request.run;
    let Some(bases) = read_bases(run)? else { return study(run) };
    let bases = bases.bases.iter().map(|name| study(&run.join(name))).collect::<Result<_, _>>()?;
    write_overview(run)?;
    Ok(Report { report: run.join(PAGE).display().to_string(), card: None, bases })
}

fn study(run: &Path) -> Result<Report, Stopped> {
    write(run)?;
    let path = |name| run.join(name).display().to_string();
    Ok(Report { report: path(PAGE), card: Some(path(CARD)), bases: Vec::new() })
}
