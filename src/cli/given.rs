//! Statistics, for the verbs that compress: from a file, or collected first and kept beside.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use sha2::{Digest, Sha256};

use super::args::EngineArgs;
use super::calibrate::warn_of_unseen;
use super::calibration::{self, Calibration, CalibrationArgs};
use super::output::OutputArgs;
use super::paths::Paths;
use super::text::{counted, few};
use super::ui::Ui;
use crate::gguf::{Model, hex, split_ending};
use crate::llama::{self, Engine};
use crate::stats::{self, Collected, Stats};

/// Where statistics come from.
#[derive(Debug, Args)]
pub struct StatsArgs {
    /// Activation statistics: of aird calibrate or llama-imatrix.
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    pub stats: Option<PathBuf>,
    #[command(flatten)]
    calibration: CalibrationArgs,
    #[command(flatten)]
    pub engine: EngineArgs,
}

/// Statistics of the model, and the hash of their file.
pub struct Given {
    pub stats: Stats,
    pub sha256: String,
    /// The file.
    pub path: PathBuf,
    /// What was read to collect them; None if they were there.
    pub calibration: Option<Calibration>,
    /// Entries about tensors that the model does not have, left out.
    pub beyond: Vec<String>,
}

impl StatsArgs {
    /// The paths of a verb that makes a smaller `model` by these arguments: statistics that it
    /// `collects` are kept beside the output.
    pub fn paths(&self, model: &PathBuf, out: &OutputArgs, collects: bool) -> Paths {
        let output = &out.output;
        let data = self.calibration.data.as_ref().filter(|_| collects);
        let beside = data.map(|_| kept_beside(output));
        let paths = self.calibration.read_from(Paths::default());
        let paths = paths.reads(std::iter::once(model).chain(&self.stats));
        paths.writes(std::iter::once(output).chain(&beside)).with(out.force, out.dry_run)
    }

    /// True if there will be statistics.
    pub fn any(&self) -> bool {
        self.stats.is_some() || self.calibration.data.is_some()
    }

    /// True if calibration data is read.
    pub fn reads_data(&self) -> bool {
        self.calibration.data.is_some()
    }

    /// True if the tokens of answers alone are asked for.
    pub fn masks(&self) -> bool {
        self.calibration.masks()
    }

    /// The calibration samples, made for `model`.
    pub fn samples(&self, ui: &Ui, model: &Model) -> Result<Calibration> {
        let engine = self.engine.load(ui, model)?;
        self.calibration.samples(ui, model, &engine)
    }

    /// Reads or collects the statistics of `model`; None if none are asked for. Collected ones are
    /// kept beside `output`.
    pub fn given(&self, ui: &Ui, model: &Model, output: &Path) -> Result<Option<Given>> {
        let (path, calibration) = match &self.stats {
            Some(path) => (path.clone(), None),
            None if self.calibration.data.is_none() => return Ok(None),
            None => self.collect(ui, model, output)?,
        };
        let given = Given::read(model, path, calibration)?;
        if !given.beyond.is_empty() {
            ui.warn(format_args!(
                "the statistics hold {} that the model does not have: {}",
                counted(given.beyond.len(), "tensor"),
                few(&given.beyond)
            ));
        }
        warn_of_unseen(ui, &given.stats);
        Ok(Some(given))
    }

    fn collect(
        &self,
        ui: &Ui,
        model: &Model,
        output: &Path,
    ) -> Result<(PathBuf, Option<Calibration>)> {
        let beside = kept_beside(output);
        let engine = self.engine.load(ui, model)?;
        let calibration = self.calibration.samples(ui, model, &engine)?;
        stats::write(&beside, &collected(ui, &engine, &calibration)?)?;
        ui.say(format_args!("kept the statistics in {}", beside.display()));
        Ok((beside, Some(calibration)))
    }
}

/// Where statistics that were collected for `output` are kept.
fn kept_beside(output: &Path) -> PathBuf {
    let name = output.file_name().unwrap_or_default().to_string_lossy();
    output.with_file_name(format!("{}.imatrix.gguf", split_ending(&name).0))
}

impl Given {
    /// The statistics in a file, which must be of `model`.
    pub fn read(model: &Model, path: PathBuf, calibration: Option<Calibration>) -> Result<Given> {
        let of = || format!("{}", path.display());
        let (stats, partial) = stats::read(&path)?;
        if let Some(partial) = partial {
            let (path, done) = (path.display(), partial.n_done);
            bail!(
                "{path} is of an interrupted run, after {}\n\
                 hint: aird calibrate --resume",
                counted(done, "sample")
            );
        }
        let beyond = stats.beyond(model);
        let stats = stats.fitted_to(model).with_context(of)?;
        let sha256 = hex(&Sha256::digest(std::fs::read(&path).with_context(of)?));
        Ok(Given { stats, sha256, path, calibration, beyond })
    }
}

/// Statistics from all of the samples, or an interrupt.
pub fn collected(ui: &Ui, engine: &Engine, calibration: &Calibration) -> Result<Stats> {
    let collected = calibration::run(ui, engine, calibration, Collected::default())?;
    match collected.interrupted {
        true => Err(llama::Error::Interrupted.into()),
        false => Ok(calibration::stats(calibration, collected)),
    }
}
