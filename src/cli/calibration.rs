//! Calibration data and statistics, as the command line has them.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use super::args::EngineArgs;
use super::chat::ChatArgs;
use super::output::OutputArgs;
use super::paths::Paths;
use crate::verbs::{CalibrationSetup, Data, Format, Statistics, TokenMask, kept_beside};

/// What calibration reads.
#[derive(Debug, Args)]
pub(super) struct CalibrationArgs {
    /// Calibration data: a text, prompts with answers (JSON, JSON lines, CSV, TSV), prompts only;
    /// builtin:alpaca (harmless prompts and the model's answers) or builtin:align (harmful
    /// prompts and the model's refusals).
    #[arg(long, value_name = "FILE")]
    data: Option<String>,
    /// What FILE is; guessed by default.
    #[arg(long, value_enum, requires = "data")]
    format: Option<FormatArg>,
    /// Which tokens count; default: those of answers, where there are any.
    #[arg(long, value_enum, requires = "data")]
    mask: Option<MaskArg>,
    /// Samples to read, drawn from the data with --seed.
    #[arg(long, default_value_t = 128, value_name = "N")]
    samples: usize,
    /// Tokens of a sample, at most; of a text's window, exactly. Default: 512, or what the model
    /// was trained for if that is less.
    #[arg(long, value_name = "N")]
    ctx: Option<u32>,
    /// Seed of the draw.
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    #[command(flatten)]
    chat: ChatArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FormatArg {
    /// Running text, read in windows.
    Text,
    /// instruction, input, output.
    Alpaca,
    /// prompt, response.
    Align,
    /// Prompts without answers.
    Prompts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum MaskArg {
    /// The answer's tokens.
    Response,
    /// Every token.
    All,
}

/// Where statistics come from.
#[derive(Debug, Args)]
pub(super) struct StatsArgs {
    /// Activation statistics: of aird calibrate or llama-imatrix.
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    pub stats: Option<PathBuf>,
    #[command(flatten)]
    calibration: CalibrationArgs,
    #[command(flatten)]
    pub engine: EngineArgs,
}

impl CalibrationArgs {
    /// `paths`, and the files that these arguments name.
    pub(super) fn read_from(&self, paths: Paths) -> Paths {
        self.chat.read_from(paths).reads_unless(self.data.as_deref(), &["builtin:"])
    }

    /// As the verbs take it; what can be wrong is reported before a model is opened.
    pub(super) fn setup(&self) -> Result<CalibrationSetup> {
        let Some(data) = &self.data else { bail!("--data is missing: nothing to calibrate on") };
        if self.samples == 0 || self.ctx.is_some_and(|n| n < 2) {
            bail!("--samples is at least 1 and --ctx at least 2");
        }
        let data = match data.as_str() {
            "builtin:alpaca" => Data::Alpaca,
            "builtin:align" => Data::Align,
            _ if data.starts_with("builtin:") => {
                bail!("there is no {data}, expected builtin:alpaca or builtin:align")
            }
            file => Data::File(file.into()),
        };
        let format = self.format.map(|format| match format {
            FormatArg::Text => Format::Text,
            FormatArg::Alpaca => Format::Alpaca,
            FormatArg::Align => Format::Align,
            FormatArg::Prompts => Format::Prompts,
        });
        let mask = self.mask.map(|mask| match mask {
            MaskArg::Response => TokenMask::Response,
            MaskArg::All => TokenMask::All,
        });
        let setup = CalibrationSetup {
            data,
            format,
            mask,
            samples: self.samples,
            n_ctx: self.ctx,
            seed: self.seed,
            chat: self.chat.setup(),
        };
        setup.check()?;
        Ok(setup)
    }
}

impl StatsArgs {
    /// The paths of a verb that makes a smaller `model` by these arguments: statistics that it
    /// `collects` are kept beside the output.
    pub(super) fn paths(&self, model: &PathBuf, out: &OutputArgs, collects: bool) -> Paths {
        let output = &out.output;
        let data = self.calibration.data.as_ref().filter(|_| collects);
        let beside = data.map(|_| kept_beside(output));
        let paths = self.calibration.read_from(Paths::default());
        let paths = paths.reads(std::iter::once(model).chain(&self.stats));
        paths.writes(std::iter::once(output).chain(&beside)).with(out.force, out.dry_run)
    }

    /// True if there will be statistics.
    pub(super) fn any(&self) -> bool {
        self.stats.is_some() || self.calibration.data.is_some()
    }

    /// As the verbs take it.
    pub(super) fn statistics(&self) -> Result<Statistics> {
        match (&self.stats, &self.calibration.data) {
            (Some(path), _) => Ok(Statistics::File(path.clone())),
            (None, Some(_)) => Ok(Statistics::Collected(self.calibration.setup()?)),
            (None, None) => Ok(Statistics::None),
        }
    }

    /// Calibration texts for a sweep by `method`.
    pub(super) fn texts(&self, method: &str) -> Result<CalibrationSetup> {
        if self.calibration.mask == Some(MaskArg::Response) {
            bail!("--method {method} goes by every token, and not by --mask response");
        }
        match self.calibration.data {
            Some(_) => self.calibration.setup(),
            None => bail!(
                "--method {method} needs --data FILE: it goes by how inputs vary together, which \
                 statistics do not hold"
            ),
        }
    }
}
