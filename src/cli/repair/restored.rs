//! What a restore reports: its JSON, and the table.

use anyhow::Result;
use serde::Serialize;

use super::aim::AimReport;
use crate::cli::output::FileReport;
use crate::cli::text::{counted, table};
use crate::cli::ui::Ui;
use crate::refit::{Outcome, Refitted};

/// What `aird repair --method restore --json` prints.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Files that were (with `--dry-run`, would be) written or changed.
    pub files: Vec<FileReport>,
    /// True if nothing was written.
    pub dry_run: bool,
    /// Where the old bytes are kept, for `--in-place`.
    pub journals: Vec<String>,
    /// Whether the file's own `aird.history` holds the repair; null where nothing was written.
    pub in_history: Option<bool>,
    /// How the original and the restored model answer held-out prompts, and the edit along the
    /// direction that was made for it; null where nothing was asked.
    pub aim: Option<AimReport>,
    /// Block by block.
    #[serde(flatten)]
    pub restored: Refitted,
}

impl Report {
    pub(super) fn print(&self, ui: &Ui, json: bool) -> Result<()> {
        if json { ui.print_json(self) } else { ui.print(self.text()) }
    }

    fn text(&self) -> String {
        let head = ["block", "matrices", "off by", "now", "stream off by", "now"];
        let mut rows = vec![head.map(String::from).to_vec()];
        for block in &self.restored.blocks {
            let (before, after) = block.mean_error();
            let of = |o: Outcome| block.tensors.iter().filter(|t| t.outcome == o).count();
            let all = block.tensors.len();
            let mut row =
                vec![block.block.to_string(), format!("{} of {all}", of(Outcome::Refitted))];
            row.extend(
                [before, after, block.residual.0, block.residual.1].map(|x| format!("{x:.3}")),
            );
            rows.push(row);
        }
        let mut text = table(&rows, &[0, 1, 2, 3, 4, 5], "");
        let left = |outcome: Outcome| -> usize {
            self.restored.tensors().filter(|t| t.outcome == outcome).count()
        };
        for (outcome, why) in [
            (Outcome::NoBetter, "kept: no better on held-out text"),
            (Outcome::Stacked, "kept: a matrix for each head"),
        ] {
            let n = left(outcome);
            if n > 0 {
                text += &format!("{}: {why}\n", counted(n, "tensor"));
            }
        }
        let experts = || self.restored.tensors().filter_map(|t| t.experts.as_ref());
        let (done, all) = experts().fold((0, 0), |(done, all), e| (done + e.refitted, all + e.n));
        if all > 0 {
            text += &format!("{done} of {all} matrices of experts refitted\n");
        }
        text += &format!(
            "fitted to {}, errors of {} held out\n",
            counted(self.restored.n_tokens, "token"),
            counted(self.restored.n_held_out, "token")
        );
        if let Some(aim) = &self.aim {
            text += &aim.text();
        }
        text
    }
}
