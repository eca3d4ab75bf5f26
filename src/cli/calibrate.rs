//! `aird calibrate`: its arguments, and its report in print.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::args::{EngineArgs, output_path};
use super::calibration::CalibrationArgs;
use super::paths::{Paths, Verb};
use super::text::counted;
use super::ui::Ui;
use crate::verbs::Stopped;
use crate::verbs::calibrate::{Leftover, Report, Request, partial_path, run};

/// Collect activation statistics, as an importance matrix that llama.cpp reads too
#[derive(Debug, Args)]
pub(super) struct Calibrate {
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
    /// Continue an interrupted run from STATS.partial.
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    engine: EngineArgs,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
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

    fn models(&mut self) -> Result<Vec<&mut PathBuf>> {
        Ok(vec![&mut self.model])
    }

    fn run(self, ui: &Ui) -> Result<()> {
        let leftover = match (self.resume, self.force) {
            (true, _) => Leftover::Resume,
            (_, true) => Leftover::Discard,
            _ => Leftover::Refuse,
        };
        let request = Request {
            calibration: self.calibration.setup()?,
            model: self.model,
            output: self.output,
            leftover,
            engine: self.engine.options(),
        };
        match run(&request, ui) {
            Ok(report) => ui.report(self.json, &report, || text(&report)),
            Err(Stopped::Interrupted) => {
                if partial_path(&request.output).exists() {
                    ui.say("--resume goes on with it");
                }
                Err(Stopped::Interrupted.into())
            }
            Err(stopped) => Err(stopped.into()),
        }
    }
}

fn text(report: &Report) -> String {
    format!(
        "{}, {} each, from {} of {} (tokens counted: {})\n",
        counted(report.n_weights, "weight"),
        counted(report.n_rows, "row"),
        counted(report.about.n_samples, "sample"),
        report.about.data,
        report.about.mask,
    )
}
