//! `aird report`: the report of a study's run again, from its results.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::paths::Verb;
use super::ui::Ui;
use crate::report::{CARD, PAGE, write};

/// Write the report and the model card of a study's run again, from its results.json
#[derive(Debug, Args)]
pub(super) struct Report {
    /// The run's folder; its report.html and README.md are replaced.
    run: PathBuf,
    /// Print what was written as JSON.
    #[arg(long)]
    json: bool,
}

/// What `aird report --json` prints.
#[derive(Debug, Serialize)]
pub(super) struct Written {
    /// The page.
    pub report: String,
    /// The model card.
    pub card: String,
}

impl Verb for Report {
    fn run(self, ui: &Ui) -> Result<()> {
        write(&self.run)?;
        let path = |name| self.run.join(name).display().to_string();
        let written = Written { report: path(PAGE), card: path(CARD) };
        match self.json {
            true => ui.print_json(&written),
            false => ui.print(format_args!("{}\n{}\n", written.report, written.card)),
        }
    }
}
