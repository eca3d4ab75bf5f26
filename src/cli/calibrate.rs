//! `aird calibrate`: activation statistics, as an importance matrix that llama.cpp reads too.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;

use super::args::{EngineArgs, output_path};
use super::calibration::{self, Calibration, CalibrationArgs};
use super::paths::{Paths, Verb};
use super::text::{counted, few};
use super::ui::Ui;
use crate::gguf::Model;
use crate::llama;
use crate::stats::{self, Collected, Stats};

/// Collect activation statistics, as an importance matrix that llama.cpp reads too
#[derive(Debug, Args)]
pub struct Calibrate {
    /// A GGUF file; any shard of a split one.
    model: PathBuf,
    #[command(flatten)]
    calibration: CalibrationArgs,
    /// The file to write (GGUF).
    #[arg(short, long, value_name = "STATS", value_parser = output_path())]
    output: PathBuf,
    /// Replace STATS if it exists.
    #[arg(long)]
    force: bool,
    /// Go on where an interrupted run left STATS.partial.
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    engine: EngineArgs,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// What `aird calibrate --json` prints.
#[derive(Debug, Serialize)]
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

impl Verb for Calibrate {
    fn paths(&self) -> Paths {
        self.calibration
            .read_from(Paths::default())
            .reads([&self.model])
            .writes([&self.output])
            .replaces(partial_path(&self.output))
            .with(self.force, false)
    }

    fn run(self, ui: &Ui) -> Result<()> {
        self.calibration.check()?;
        let partial = partial_path(&self.output);
        if partial.exists() && !self.resume && !self.force {
            bail!(
                "{} is what an interrupted run left\n\
                 hint: --resume goes on with it, --force begins anew",
                partial.display()
            );
        }
        let model = Model::open(&self.model)?;
        let engine = self.engine.load(ui, &model)?;
        let calibration = self.calibration.samples(ui, &model, &engine)?;
        let so_far =
            if self.resume { resumed(&partial, &calibration)? } else { Collected::default() };
        let collected = calibration::run(ui, &engine, &calibration, so_far)?;
        if collected.interrupted {
            if collected.n_done == 0 {
                ui.warn("interrupted before the first samples were read: nothing is kept");
                return Err(llama::Error::Interrupted.into());
            }
            stats::write_partial(&partial, &calibration.about, &collected)?;
            let (done, of) = (collected.n_done, calibration.samples.len());
            ui.warn(format_args!(
                "interrupted after {done} of {}, kept in {}: go on with --resume",
                counted(of, "sample"),
                partial.display()
            ));
            return Err(llama::Error::Interrupted.into());
        }
        let stats = calibration::stats(&calibration, collected);
        stats::write(&self.output, &stats)?;
        if self.resume {
            // What it held is in STATS now.
            let _ = std::fs::remove_file(&partial);
        }
        warn_of_unseen(ui, &stats);
        ui.say(format_args!("wrote {}", self.output.display()));
        self.print(ui, &stats, calibration)
    }
}

impl Calibrate {
    fn print(&self, ui: &Ui, stats: &Stats, calibration: Calibration) -> Result<()> {
        let report = Report {
            path: self.output.display().to_string(),
            about: calibration.about,
            n_weights: stats.inputs.len(),
            n_rows: stats.inputs.values().flat_map(|i| &i.counts).max().copied().unwrap_or(0),
            unseen_experts: stats.unseen_experts().map(|(w, e)| format!("{w}#{e}")).collect(),
        };
        if self.json {
            return ui.print_json(&report);
        }
        ui.print(format_args!(
            "{}, {} each, from {} of {} (tokens counted: {})\n",
            counted(report.n_weights, "weight"),
            counted(report.n_rows, "row"),
            counted(report.about.n_samples, "sample"),
            report.about.data,
            report.about.mask,
        ))
    }
}

/// Says which experts no token went to: pruning and quantizing them goes by their weights alone.
pub fn warn_of_unseen(ui: &Ui, stats: &Stats) {
    let unseen: Vec<String> = stats.unseen_experts().map(|(w, e)| format!("{w}#{e}")).collect();
    if unseen.is_empty() {
        return;
    }
    ui.warn(format_args!(
        "{} saw no token: {}\nhint: more --samples, or data of more kinds",
        counted(unseen.len(), "expert"),
        few(&unseen)
    ));
}

fn partial_path(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

/// What an interrupted run of the same model, data and settings left.
fn resumed(partial: &Path, calibration: &Calibration) -> Result<Collected> {
    if !partial.exists() {
        bail!("there is no {}: nothing to resume", partial.display());
    }
    let (stats, so_far) = stats::read(partial)?;
    let Some(so_far) = so_far else {
        bail!("{} is not what an interrupted run leaves", partial.display());
    };
    let differs = match &stats.about {
        Some(about) if about.model_sha256 != calibration.about.model_sha256 => Some("model"),
        Some(about) if about.data_sha256 != calibration.about.data_sha256 => Some("data"),
        Some(about) if *about != calibration.about => Some("version or settings"),
        Some(_) => None,
        None => Some("origin"),
    };
    match differs {
        None => Ok(so_far),
        Some(what) => bail!(
            "{} is of another {what}\nhint: run without --resume to begin anew",
            partial.display()
        ),
    }
}
