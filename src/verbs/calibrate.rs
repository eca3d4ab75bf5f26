//! Collect activation statistics, as an importance matrix that llama.cpp reads too.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::calibration::{Calibration, CalibrationSetup};
use super::error::{Error, Result};
use super::host::Host;
use super::model::load;
use super::statistics::{unseen_experts, warn_of_unseen};
use super::stopped::Stopped;
use super::words::counted;
use crate::gguf::Model;
use crate::llama::Options;
use crate::stats::{self, Collected, Stats};

/// What to collect.
#[derive(Debug, Clone)]
pub struct Request {
    /// A GGUF file; any shard of a split one.
    pub model: PathBuf,
    /// What the model reads.
    pub calibration: CalibrationSetup,
    /// The file to write (GGUF).
    pub output: PathBuf,
    /// What to do about an interrupted run's file.
    pub leftover: Leftover,
    /// How llama.cpp runs.
    pub engine: Options,
}

/// What to do about the file that an interrupted run left beside the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftover {
    /// Refuse to run.
    Refuse,
    /// Start over.
    Discard,
    /// Go on with it.
    Resume,
}

/// What was collected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The file.
    pub path: String,
    /// Where the statistics come from.
    #[serde(flatten)]
    pub about: stats::About,
    /// Linear layers with statistics.
    pub n_weights: usize,
    /// Rows that each dense layer saw, at most.
    pub n_rows: u64,
    /// Experts that saw no row, as `weight#index`.
    pub unseen_experts: Vec<String>,
}

/// Collects statistics.
///
/// # Errors
/// The data's (see [`CalibrationSetup::samples`]); the engine's; the disk's; an interrupt, which
/// leaves what was collected in [`partial_path`].
pub fn run(request: &Request, host: &dyn Host) -> Result<Report, Stopped> {
    request.calibration.check()?;
    let partial = partial_path(&request.output);
    if partial.exists() && request.leftover == Leftover::Refuse {
        return Err(Error::LeftoverExists { path: partial }.into());
    }
    let model = Model::open(&request.model)?;
    let engine = load(host, &model, request.engine)?;
    let calibration = request.calibration.samples(host, &model, &engine)?;
    let so_far = match request.leftover {
        Leftover::Resume => resumed(&partial, &calibration)?,
        _ => Collected::default(),
    };
    let collected = calibration.collect(host, &engine, so_far)?;
    if collected.interrupted {
        keep(host, &partial, &calibration, &collected)?;
        return Err(Stopped::Interrupted);
    }
    let stats = calibration.stats(collected);
    stats::write(&request.output, &stats)?;
    if request.leftover == Leftover::Resume {
        // What it held is in the output now.
        let _ = std::fs::remove_file(&partial);
    }
    warn_of_unseen(host, &stats);
    host.say(format_args!("wrote {}", request.output.display()));
    Ok(report(request, calibration, &stats))
}

fn report(request: &Request, calibration: Calibration, stats: &Stats) -> Report {
    Report {
        path: request.output.display().to_string(),
        about: calibration.about,
        n_weights: stats.inputs.len(),
        n_rows: stats.inputs.values().flat_map(|i| &i.counts).max().copied().unwrap_or(0),
        unseen_experts: unseen_experts(stats),
    }
}

/// Where an interrupted run keeps what it has.
pub fn partial_path(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

/// Keeps what an interrupted run has.
fn keep(
    host: &dyn Host,
    partial: &Path,
    calibration: &Calibration,
    collected: &Collected,
) -> Result<()> {
    if collected.n_done == 0 {
        host.warn("interrupted before the first samples were read: nothing is kept");
        return Ok(());
    }
    stats::write_partial(partial, &calibration.about, collected)?;
    let (done, of) = (collected.n_done, calibration.samples.len());
    host.warn(format_args!(
        "interrupted after {done} of {}, kept in {}: it can be resumed",
        counted(of, "sample"),
        partial.display()
    ));
    Ok(())
}

/// What an interrupted run of the same model, data and settings left.
fn resumed(partial: &Path, calibration: &Calibration) -> Result<Collected> {
    if !partial.exists() {
        let path = partial.display();
        return Err(Error::Sentence(format!("there is no {path}: nothing to resume")));
    }
    let (stats, so_far) = stats::read(partial)?;
    let Some(so_far) = so_far else {
        let path = partial.display();
        return Err(Error::Sentence(format!("{path} is not what an interrupted run leaves")));
    };
    let differs = match &stats.about {
        Some(about) if about.model_sha256 != calibration.about.model_sha256 => "model",
        Some(about) if about.data_sha256 != calibration.about.data_sha256 => "data",
        Some(about) if *about != calibration.about => "version or settings",
        Some(_) => return Ok(so_far),
        None => "origin",
    };
    Err(Error::LeftoverOfAnother { path: partial.into(), what: differs })
}
