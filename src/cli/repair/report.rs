//! The report of a repair in print.

use anyhow::Result;

use super::Repair;
use crate::cli::output::print_plan;
use crate::cli::text::{bytes_text, counted, table};
use crate::cli::ui::Ui;
use crate::refit::Outcome;
use crate::verbs::FileReport;
use crate::verbs::repair::{EditReport, PlannedRestore, Report, RestoreReport};
use crate::verbs::search::front_text;

impl Repair {
    /// Prints what was tried, where none of it helps.
    pub(super) fn print_nothing_helps(&self, ui: &Ui, report: &EditReport) -> Result<()> {
        if let Some(search) = &report.search {
            let front = front_text(search, "unrepaired");
            match self.json {
                true => ui.say(front.trim_end()),
                // Then it is the result.
                false => ui.print(front)?,
            }
        }
        if self.json { ui.print_json(report) } else { Ok(()) }
    }

    /// Prints what was repaired, or in a dry run would be.
    pub(super) fn print(&self, ui: &Ui, report: &Report) -> Result<()> {
        if let Report::Edited(report) = report {
            if report.search.is_some() {
                ui.say(format_args!("the same without a search: {}", arguments(report)));
            }
            if report.dry_run && !self.json {
                self.print_plan(ui, report)?;
            }
        }
        ui.report(self.json, report, || match report {
            Report::Edited(report) => edit_text(report),
            Report::Restored(report) => match &report.planned {
                Some(planned) => self.planned_text(report, planned),
                None => restore_text(report),
            },
        })
    }

    fn print_plan(&self, ui: &Ui, report: &EditReport) -> Result<()> {
        let paths: Vec<&str> = report.files.iter().map(|f| f.path.as_str()).collect();
        let paths = paths.join(", ");
        match report.computed_bytes {
            Some(bytes) if self.in_place => {
                ui.print(format_args!("would change {} of {paths}\n", bytes_text(bytes)))
            }
            Some(_) => {
                print_plan(ui, &report.files, report.computed_bytes, report.estimated_seconds)
            }
            None => {
                let bytes = bytes_text(report.files.iter().map(|f| f.bytes).sum());
                ui.print(format_args!("would write\n  {paths}  {bytes}\n"))
            }
        }
    }

    fn planned_text(&self, report: &RestoreReport, planned: &PlannedRestore) -> String {
        let at_most = if self.lora.is_some() { "at most " } else { "" };
        let file = |f: &FileReport| format!("  {}  {at_most}{}\n", f.path, bytes_text(f.bytes));
        format!(
            "would write\n{}  once the matrices of {} are refitted on {}, with up to {} on the \
             disk meanwhile\n",
            report.files.iter().map(file).collect::<String>(),
            counted(planned.blocks, "block"),
            counted(self.restore.tokens, "token"),
            bytes_text(planned.disk_bytes)
        )
    }
}

/// What asks for the edit without a search.
fn arguments(report: &EditReport) -> String {
    format!("--block {} --alpha {}", report.blocks.join(","), report.alpha.unwrap_or_default())
}

fn edit_text(report: &EditReport) -> String {
    let alpha = report.alpha.unwrap_or_default();
    let mut rows = vec![["tensor", "type", "alpha", "realised"].map(String::from).to_vec()];
    for t in &report.tensors {
        let ty = match t.from == t.to {
            true => t.to.clone(),
            false => format!("{} -> {}", t.from, t.to),
        };
        let [asked, realised] = [alpha, t.realised_alpha].map(|x| format!("{x:.3}"));
        rows.push(vec![t.name.clone(), ty, asked, realised]);
    }
    let text = table(&rows, &[2, 3], "");
    match report.after_norms.is_empty() {
        true => text,
        false => format!("{text}\n{}", norms_text(report)),
    }
}

/// What norms leave of the edit.
fn norms_text(report: &EditReport) -> String {
    let head = ["after its norm arrives", "along", "asked", "across", "asked", "astray"];
    let mut rows = vec![head.map(String::from).to_vec()];
    for arrived in &report.after_norms {
        let asked = 1.0 + report.alpha.unwrap_or_default();
        let numbers = [arrived.along, asked, arrived.across, 1.0, arrived.astray];
        let numbers = numbers.map(|x| format!("{x:.3}"));
        rows.push([&[arrived.name.clone()][..], &numbers].concat());
    }
    table(&rows, &[1, 2, 3, 4, 5], "")
}

fn restore_text(report: &RestoreReport) -> String {
    let head = ["block", "matrices", "off by", "now", "stream off by", "now"];
    let mut rows = vec![head.map(String::from).to_vec()];
    for block in &report.blocks {
        let (before, after) = block.mean_error();
        let n = block.tensors.iter().filter(|t| t.outcome == Outcome::Refitted).count();
        let mut row = vec![block.block.to_string(), format!("{n} of {}", block.tensors.len())];
        row.extend([before, after, block.residual.0, block.residual.1].map(|x| format!("{x:.3}")));
        rows.push(row);
    }
    let mut text = table(&rows, &[0, 1, 2, 3, 4, 5], "");
    let tensors = || report.blocks.iter().flat_map(|block| &block.tensors);
    for (outcome, why) in [
        (Outcome::NoBetter, "kept: no better on held-out text"),
        (Outcome::Stacked, "kept: a matrix for each head"),
    ] {
        let n = tensors().filter(|t| t.outcome == outcome).count();
        if n > 0 {
            text += &format!("{}: {why}\n", counted(n, "tensor"));
        }
    }
    let experts = || tensors().filter_map(|t| t.experts.as_ref());
    let n_experts: usize = experts().map(|e| e.n).sum();
    if n_experts > 0 {
        let n: usize = experts().map(|e| e.refitted).sum();
        text += &format!("{n} of {n_experts} matrices of experts refitted\n");
    }
    text += &format!(
        "fitted to {}, errors of {} held out\n",
        counted(report.n_tokens, "token"),
        counted(report.n_held_out, "token")
    );
    if let Some(aim) = &report.aim {
        text += &aim.text();
    }
    text
}
