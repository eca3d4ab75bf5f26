//! `aird direction`: its arguments.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use super::args::{EngineArgs, output_path};
use super::chat::ChatArgs;
use super::paths::{Paths, Verb};
use super::stopped::or_stop_report;
use super::ui::Ui;
use crate::direction::{Cell, Choice, Limits};
use crate::verbs::direction::{
    DirectionSetup, MAX_KL, N_HELD_OUT, N_TRAIN, PARALLEL, Request, run,
};

/// Find the direction in the residual stream that carries refusal
#[derive(Debug, Args)]
pub(super) struct FindDirection {
    /// A GGUF file; any shard of a split one.
    model: PathBuf,
    /// Prompts that an aligned model refuses; default: aird's own.
    #[arg(long, value_name = "FILE")]
    harmful: Option<PathBuf>,
    /// Prompts that an aligned model answers; default: aird's own.
    #[arg(long, value_name = "FILE")]
    harmless: Option<PathBuf>,
    /// The field or column of those files that holds the prompt.
    #[arg(long, value_name = "NAME")]
    field: Option<String>,
    /// Prompts of each kind for the means, the first of each file.
    #[arg(long, default_value_t = N_TRAIN, value_name = "N")]
    train: usize,
    /// Prompts of each kind for the selection, the next of each file.
    #[arg(long, default_value_t = N_HELD_OUT, value_name = "N")]
    held_out: usize,
    /// The direction file to write (safetensors).
    #[arg(short, long, value_name = "DIR", value_parser = output_path())]
    output: PathBuf,
    /// Replace what exists.
    #[arg(long)]
    force: bool,
    /// Drop candidates whose removal changes harmless answers by more, in nats.
    #[arg(long, default_value_t = MAX_KL, value_name = "NATS")]
    max_kl: f64,
    /// Fail where no candidate passes, instead of widening --max-kl in steps.
    #[arg(long)]
    strict: bool,
    /// Evaluate every candidate on every prompt.
    #[arg(long)]
    exhaustive: bool,
    /// Take this layer, without a selection.
    #[arg(long, requires = "position", conflicts_with_all = ["exhaustive", "strict"])]
    layer: Option<usize>,
    /// Take this position, with --layer; -1 is the prompt's last token.
    #[arg(long, requires = "layer", allow_negative_numbers = true, value_name = "I")]
    position: Option<i32>,
    /// Write the candidates of all prompts, unfiltered, and choose none.
    #[arg(long, conflicts_with_all = ["layer", "exhaustive", "strict"])]
    capture_only: bool,
    /// Write the direction as a llama.cpp control vector, too.
    #[arg(long, value_name = "FILE", conflicts_with = "capture_only", value_parser = output_path())]
    cvector: Option<PathBuf>,
    /// Prompts read at once.
    #[arg(long, default_value_t = PARALLEL, value_name = "N")]
    parallel: u32,
    #[command(flatten)]
    chat: ChatArgs,
    #[command(flatten)]
    engine: EngineArgs,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

impl Verb for FindDirection {
    fn paths(&self) -> Paths {
        self.chat
            .read_from(Paths::default())
            .reads(std::iter::once(&self.model).chain(&self.harmful).chain(&self.harmless))
            .writes(std::iter::once(&self.output).chain(&self.cvector))
            .with(self.force, false)
    }

    fn models(&mut self) -> Result<Vec<&mut PathBuf>> {
        Ok(vec![&mut self.model])
    }

    fn run(self, ui: &Ui) -> Result<()> {
        let report = or_stop_report(ui, self.json, run(&self.request()?, ui))?;
        ui.report(self.json, &report, || report.text())
    }
}

impl FindDirection {
    fn request(&self) -> Result<Request> {
        let setup = DirectionSetup {
            model: self.model.clone(),
            harmful: self.harmful.clone(),
            harmless: self.harmless.clone(),
            field: self.field.clone(),
            n_train: self.train,
            n_held_out: self.held_out,
            choice: self.choice()?,
            parallel: self.parallel,
            chat: self.chat.setup(),
            engine: self.engine.options(),
        };
        Ok(Request { setup, output: self.output.clone(), cvector: self.cvector.clone() })
    }

    fn choice(&self) -> Result<Choice> {
        match (self.layer, self.position) {
            (Some(layer), Some(position)) if position < 0 => {
                Ok(Choice::Given(Cell { layer, behind: (-1 - position) as usize }))
            }
            (Some(_), Some(position)) => {
                bail!("--position is {position}, expected -1 (the last token) or less")
            }
            _ if self.capture_only => Ok(Choice::CaptureOnly),
            _ => Ok(Choice::Select(Limits {
                max_kl: self.max_kl,
                strict: self.strict,
                exhaustive: self.exhaustive,
            })),
        }
    }
}
