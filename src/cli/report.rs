//! `aird report`: its arguments.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::paths::Verb;
use super::ui::Ui;
use crate::verbs;
use crate::verbs::report::{Request, run};

/// Write the report and the model card of a study's run again, from its results.json
#[derive(Debug, Args)]
pub(super) struct Report {
    /// The run's folder; its report.html and README.md are replaced.
    run: PathBuf,
    /// Print what was written as JSON.
    #[arg(long)]
    json: bool,
}

impl Verb for Report {
    fn run(self, ui: &Ui) -> Result<()> {
        let report = run(&Request { run: self.run }, ui)?;
        ui.report(self.json, &report, || lines(&report))
    }
}

/// The page and the card, then those of every base.
fn lines(report: &verbs::report::Report) -> String {
    let own = [Some(&report.report), report.card.as_ref()].into_iter().flatten();
    let own: String = own.map(|path| format!("{path}\n")).collect();
    own + &report.bases.iter().map(lines).collect::<String>()
}
