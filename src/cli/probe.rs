//! `aird probe`: the process that a model is tried in. Not for people: aird starts it.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::args::EngineArgs;
use super::paths::Verb;
use super::ui::Ui;
use crate::llama::Trial;

/// Load a model, decode one token, print what came of it as JSON
#[derive(Debug, Args)]
pub struct Probe {
    /// The model's file, the first one of several.
    model: PathBuf,
    /// An adapter to set.
    #[arg(long, value_name = "FILE")]
    lora: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineArgs,
}

impl Verb for Probe {
    fn run(self, ui: &Ui) -> Result<()> {
        let (lora, options) = (self.lora.as_deref(), self.engine.options());
        ui.print_exactly(&(Trial { model: &self.model, lora, options }.run() + "\n"))
    }
}
