//! `aird diff --origin`: its report in print, and its exit code.

use anyhow::Result;

use super::exit::GateFailed;
use super::text::{by_kind, counted, shown, table};
use super::ui::Ui;
use crate::origin::{Figures, Finding, Reason};
use crate::verbs::origin::{Report, Request, TensorReport, Verdict, run as compare};

/// Compares, prints, and fails where a tensor is not the original's.
pub(super) fn run(request: &Request, accept_history: bool, json: bool, ui: &Ui) -> Result<()> {
    let report = compare(request, ui)?;
    ui.report(json, &report, || report.text())?;
    match report.verdict {
        Verdict::Yes => Ok(()),
        Verdict::Edited if accept_history => Ok(()),
        Verdict::Edited | Verdict::No => Err(GateFailed::new(report.summary()).into()),
    }
}

impl Report {
    fn text(&self) -> String {
        let source = |role: &str, source: &crate::verbs::origin::Source| {
            vec![role.into(), shown(&source.name), source.sha256.clone()]
        };
        let mut files = vec![source("quant", &self.quant), source("original", &self.original)];
        files.extend(self.imatrix.iter().map(|file| source("imatrix", file)));
        let mut text = table(&files, &[], "");
        let within = self.tensors.iter().filter(|t| t.finding == Finding::Within);
        let within: Vec<&str> = within.map(|t| t.name.as_str()).collect();
        if !within.is_empty() {
            text += &format!("within the rounding error: {}\n", shown(&by_kind(within)));
        }
        if self.original_is_quantized {
            text += "the original is quantized itself: edits smaller than its own rounding do not \
                     show\n";
        }
        if !self.keys.is_empty() {
            text += &format!("keys that differ: {}\n", shown(&self.keys.join(", ")));
        }
        let rows: Vec<Vec<String>> = self
            .tensors
            .iter()
            .filter(|t| t.finding == Finding::No)
            .map(TensorReport::row)
            .collect();
        if !rows.is_empty() {
            text += &format!("not the original's\n{}", table(&rows, &[], "  "));
        }
        text + &self.summary() + "\n"
    }

    /// The answer in a line.
    fn summary(&self) -> String {
        let (counts, n) = (self.counts, counted(self.tensors.len(), "tensor"));
        let ours = format!("{} equal, {} within the rounding error", counts.equal, counts.within);
        match self.verdict {
            Verdict::Yes => format!("yes, the original's quant: {n}, {ours}"),
            Verdict::Edited => format!(
                "the original's quant but for {}, as its history says: {n}, {ours}",
                counted(counts.explained, "changed tensor")
            ),
            Verdict::No => format!(
                "no, not the original's quant: {n}, {ours}, {} explained by the history, {} not \
                 the original's",
                counts.explained, counts.no
            ),
        }
    }
}

impl TensorReport {
    /// A line of what is not the original's.
    fn row(&self) -> Vec<String> {
        let ty = self.ty.as_deref().or(self.original_type.as_deref()).unwrap_or("-");
        let why: Vec<String> = self.reasons.iter().map(|r| self.reason(*r)).collect();
        let mut why = why.join("; ");
        if let Some(step) = &self.explained_by {
            why = format!("{why} (history: {})", shown(step));
        }
        vec![shown(&self.name), ty.into(), why]
    }

    fn reason(&self, reason: Reason) -> String {
        let figure = |of: fn(&Figures) -> f64| self.figures.as_ref().map_or(f64::NAN, of);
        match reason {
            Reason::Added => "the original has no such tensor".into(),
            Reason::Missing => "it is missing".into(),
            Reason::Shape => "another shape".into(),
            Reason::Bytes => "other bytes".into(),
            Reason::Value => "values that are not the original's, rounded".into(),
            Reason::NotFinite => "values that are NaN or infinite".into(),
            Reason::Changed => {
                let n = self.n_rows - self.equal_rows;
                format!("{} of {} changed", counted(n, "row"), self.n_rows)
            }
            Reason::Error => {
                format!("error {:.3} times the type's", figure(|f| f.error))
            }
            Reason::Row => format!("a row's error {:.2} times the type's", figure(|f| f.row)),
            Reason::Block => format!("a block's error {:.2} times the type's", figure(|f| f.block)),
            Reason::Misplaced => {
                let share = 100.0 * figure(|f| f.misplaced.unwrap_or(f64::NAN));
                format!("{share:.3} % of values at the wrong level")
            }
            Reason::Gain => {
                format!("{:+.2} % along the original", 100.0 * figure(|f| f.gain))
            }
            Reason::Direction => {
                format!(
                    "an error with a direction, {:.2} times rounding's",
                    figure(|f| f.direction)
                )
            }
        }
    }
}
