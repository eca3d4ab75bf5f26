//! `aird undo`: take an in-place repair back.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::paths::Verb;
use super::text::{bytes_text, counted};
use super::ui::Ui;
use crate::gguf::{Pending, Undone};

/// Take an in-place repair back, byte for byte
///
/// The journal MODEL.aird-undo, which the repair left beside the model, holds what was there
/// before. Undo puts that back, whatever became of the repair (done, cut off, killed), and removes
/// the journal. It refuses if the model was replaced since. If it is cut off itself: run it again.
///
/// A model that has several names in its folder (hard links) may be undone by any of them. From
/// another folder only the name that was repaired leads to the journal.
#[derive(Debug, Args)]
pub struct Undo {
    /// The repaired GGUF file; any shard of a split one.
    model: PathBuf,
    /// Keep the repair for good: remove the journal, if the whole repair is in the file. If the
    /// file's history had no room for the repair, it is told in MODEL.aird-history.json.
    #[arg(long)]
    forget: bool,
    /// Print what would be taken back, and change nothing.
    #[arg(long, conflicts_with = "forget")]
    dry_run: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// What `aird undo --json` prints.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The model's files that had a journal.
    pub files: Vec<String>,
    /// True if the repair was kept: `--forget`.
    pub kept: bool,
    /// True if nothing was done.
    pub dry_run: bool,
    /// Tensors that the repair changed, or meant to.
    pub tensors: Vec<String>,
    /// Bytes that it changed, or meant to.
    pub bytes: u64,
    /// Those of them that did not hold what they had held before: 0 if the repair had not begun to
    /// write.
    pub changed_bytes: u64,
    /// The repair, as the file's history would hold it.
    pub step: Option<serde_json::Value>,
    /// Whether it stood in the file's history.
    pub in_history: bool,
}

impl Verb for Undo {
    fn run(self, ui: &Ui) -> Result<()> {
        let pending = Pending::find(&self.model)?;
        let undone = match (self.dry_run, self.forget) {
            (true, _) => pending.look()?,
            (_, true) => pending.forget()?,
            _ => pending.undo()?,
        };
        self.tell(ui, &undone)?;
        if self.json { ui.print_json(&self.report(undone)) } else { Ok(()) }
    }
}

impl Undo {
    fn tell(&self, ui: &Ui, undone: &Undone) -> Result<()> {
        for name in &undone.tensors {
            ui.detail(format_args!("changed {name}"));
        }
        let text = self.text(undone);
        match self.dry_run {
            true if !self.json => ui.print(text + "\n")?,
            true => {}
            false => ui.say(text),
        }
        if self.forget && undone.step.is_some() && !undone.in_history {
            ui.say(format_args!(
                "the file's own history had no room for the repair: it is told in {}",
                undone.history_path.display()
            ));
        }
        Ok(())
    }

    fn text(&self, undone: &Undone) -> String {
        let model = self.model.display();
        let step = undone.step.as_ref().and_then(|step| step.get("verb")?.as_str());
        let what = format!(
            "{} of {model}: {}, {}",
            step.unwrap_or("change"),
            counted(undone.tensors.len(), "tensor"),
            bytes_text(undone.bytes)
        );
        match undone {
            _ if self.forget => format!("kept for good the {what}"),
            Undone { changed_bytes: 0, tensors, .. } if tensors.is_empty() => {
                format!("{model} is as it was: the repair ended before it began to write")
            }
            Undone { changed_bytes: 0, .. } => {
                format!("{model} is as it was: nothing is left to take back")
            }
            _ if self.dry_run => format!("would take back the {what}"),
            _ => format!("took back the {what}"),
        }
    }

    fn report(&self, undone: Undone) -> Report {
        Report {
            files: undone.files.iter().map(|f| f.display().to_string()).collect(),
            kept: self.forget,
            dry_run: self.dry_run,
            tensors: undone.tensors,
            bytes: undone.bytes,
            changed_bytes: undone.changed_bytes,
            step: undone.step,
            in_history: undone.in_history,
        }
    }
}
