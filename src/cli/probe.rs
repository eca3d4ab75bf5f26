//! `aird probe`: the process that a model is tried in. Not for people: aird starts it.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::args::TrialArgs;
use super::paths::Verb;
use super::ui::Ui;
use crate::llama::Trial;

/// Load a model, decode one token, print what came of it as JSON
#[derive(Debug, Args)]
pub(super) struct Probe {
    /// The model's file, the first one of several.
    model: PathBuf,
    /// An adapter to set.
    #[arg(long, value_name = "FILE")]
    lora: Option<PathBuf>,
    /// Trace its structure instead.
    #[arg(long)]
    structure: bool,
    #[command(flatten)]
    engine: TrialArgs,
}

impl Verb for Probe {
    fn run(self, ui: &Ui) -> Result<()> {
        let (lora, options) = (self.lora.as_deref(), self.engine.options());
        let trial = Trial { model: &self.model, lora, options };
        let answer = if self.structure { trial.trace() } else { trial.run() };
        ui.print_exactly(&(answer + "\n"))
    }
}
