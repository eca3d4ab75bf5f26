//! Statistics, for the verbs that compress: from a file, or collected first and kept beside the
//! output.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::calibration::{Calibration, CalibrationSetup};
use super::error::{Context, Error, Result};
use super::host::Host;
use super::model::load;
use super::words::{counted, few};
use crate::gguf::{Model, hex, split_ending};
use crate::llama::Options;
use crate::stats::{self, Stats};

/// Where statistics come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statistics {
    /// No statistics.
    None,
    /// From a file, of `aird calibrate` or llama-imatrix.
    File(PathBuf),
    /// Collected first.
    Collected(CalibrationSetup),
}

/// Statistics of the model, and the hash of their file.
#[derive(Debug)]
pub struct Given {
    /// The statistics, of tensors that the model has.
    pub stats: Stats,
    /// sha256 of the file.
    pub sha256: String,
    /// The file.
    pub path: PathBuf,
    /// What was read to collect them; None if they were there.
    pub calibration: Option<Calibration>,
    /// Entries about tensors that the model does not have, left out.
    pub beyond: Vec<String>,
}

impl Statistics {
    /// True if there will be statistics.
    pub fn any(&self) -> bool {
        *self != Statistics::None
    }

    /// Reads or collects the statistics of `model`; None without them. Collected ones are
    /// kept beside `output`.
    ///
    /// # Errors
    /// The file cannot be read, or is of another model; see [`CalibrationSetup::samples`].
    pub fn given(
        &self,
        host: &dyn Host,
        model: &Model,
        output: &Path,
        options: Options,
    ) -> Result<Option<Given>> {
        let (path, calibration) = match self {
            Statistics::None => return Ok(None),
            Statistics::File(path) => (path.clone(), None),
            Statistics::Collected(setup) => {
                let (path, calibration) = collected(setup, host, model, output, options)?;
                (path, Some(calibration))
            }
        };
        let given = Given::read(model, path, calibration)?;
        if !given.beyond.is_empty() {
            host.warn(format_args!(
                "the statistics hold {} that the model does not have: {}",
                counted(given.beyond.len(), "tensor"),
                few(&given.beyond)
            ));
        }
        warn_of_unseen(host, &given.stats);
        Ok(Some(given))
    }
}

/// Collects statistics of `model` into a file beside `output`.
fn collected(
    setup: &CalibrationSetup,
    host: &dyn Host,
    model: &Model,
    output: &Path,
    options: Options,
) -> Result<(PathBuf, Calibration)> {
    let path = kept_beside(output);
    let engine = load(host, model, options)?;
    let calibration = setup.samples(host, model, &engine)?;
    stats::write(&path, &calibration.collect_all(host, &engine)?)?;
    host.say(format_args!("kept the statistics in {}", path.display()));
    Ok((path, calibration))
}

/// Where statistics that are collected for `output` are kept.
pub fn kept_beside(output: &Path) -> PathBuf {
    let name = output.file_name().unwrap_or_default().to_string_lossy();
    output.with_file_name(format!("{}.imatrix.gguf", split_ending(&name).0))
}

impl Given {
    /// The statistics in a file, which must be of `model`.
    ///
    /// # Errors
    /// It cannot be read, is of another model, or is what an interrupted run left.
    pub fn read(model: &Model, path: PathBuf, calibration: Option<Calibration>) -> Result<Given> {
        let of = || format!("{}", path.display());
        let (stats, partial) = stats::read(&path)?;
        if let Some(partial) = partial {
            return Err(Error::Unfinished { path, n_done: partial.n_done });
        }
        let beyond = stats.beyond(model);
        let stats = stats.fitted_to(model).about(of)?;
        let bytes = std::fs::read(&path).map_err(|source| Error::Io { what: of(), source })?;
        Ok(Given { stats, sha256: hex(&Sha256::digest(bytes)), path, calibration, beyond })
    }
}

/// Warns of experts that no token reached: pruning and quantizing them goes by their weights only.
pub(super) fn warn_of_unseen(host: &dyn Host, stats: &Stats) {
    let unseen = unseen_experts(stats);
    if !unseen.is_empty() {
        host.warn(format_args!(
            "{} saw no token: {}\nhint: more samples, or data of more kinds",
            counted(unseen.len(), "expert"),
            few(&unseen)
        ));
    }
}

/// Experts that no token reached, as `weight#index`.
pub(super) fn unseen_experts(stats: &Stats) -> Vec<String> {
    stats.unseen_experts().map(|(weight, expert)| format!("{weight}#{expert}")).collect()
}
