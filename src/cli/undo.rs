//! `aird undo`: its arguments, and its report in print.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;

use super::paths::Verb;
use super::text::{bytes_text, counted};
use super::ui::Ui;
use crate::verbs::undo::{Action, Report, Request, run};

/// Undo an in-place repair, byte for byte
///
/// The journal MODEL.aird-undo, which the repair left beside the model, holds what was there
/// before. Undo puts that back, whatever became of the repair (done, interrupted, killed), and
/// removes the journal. It refuses if the model was replaced since. If undo itself is interrupted,
/// run it again.
///
/// A model that has several names in its folder (hard links) may be undone by any of them. From
/// another folder only the name that was repaired leads to the journal.
#[derive(Debug, Args)]
pub(super) struct Undo {
    /// The repaired GGUF file; any shard of a split one.
    model: PathBuf,
    /// Keep the repair for good: remove the journal, if the whole repair is in the file. If the
    /// file's history had no room for the repair, it is kept in MODEL.aird-history.json.
    #[arg(long)]
    forget: bool,
    /// Print what would be taken back, and change nothing.
    #[arg(long, conflicts_with = "forget")]
    dry_run: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

impl Verb for Undo {
    fn run(self, ui: &Ui) -> Result<()> {
        let action = match (self.dry_run, self.forget) {
            (true, _) => Action::DryRun,
            (_, true) => Action::Keep,
            _ => Action::TakeBack,
        };
        let request = Request { model: self.model, action };
        let report = run(&request, ui)?;
        let text = text(&request.model, &report);
        match report.dry_run {
            true if !self.json => ui.print(text + "\n")?,
            true => {}
            false => ui.say(text),
        }
        if report.kept && report.step.is_some() && !report.in_history {
            ui.say(format_args!(
                "the file's own history had no room for the repair: it is kept in {}",
                report.history_path
            ));
        }
        if self.json { ui.print_json(&report) } else { Ok(()) }
    }
}

fn text(model: &Path, report: &Report) -> String {
    let model = model.display();
    let step = report.step.as_ref().and_then(|step| step.get("verb")?.as_str());
    let what = format!(
        "{} of {model}: {}, {}",
        step.unwrap_or("change"),
        counted(report.tensors.len(), "tensor"),
        bytes_text(report.bytes)
    );
    match report {
        Report { kept: true, .. } => format!("kept for good the {what}"),
        Report { changed_bytes: 0, tensors, .. } if tensors.is_empty() => {
            format!("{model} is as it was: the repair ended before it began to write")
        }
        Report { changed_bytes: 0, .. } => {
            format!("{model} is as it was: nothing is left to take back")
        }
        Report { dry_run: true, .. } => format!("would take back the {what}"),
        _ => format!("took back the {what}"),
    }
}
