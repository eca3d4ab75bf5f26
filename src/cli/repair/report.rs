//! What `aird repair` reports: its JSON, and the table.

use serde::Serialize;

use super::{Chosen, Repair};
use crate::cli::output::FileReport;
use crate::cli::text::table;
use crate::cli::ui::Ui;
use crate::repair::{Adapted, Arrived, Edited, halves_text};
use crate::report::search::SearchReport;

/// What `aird repair --json` prints.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Files that were (with `--dry-run`, would be) written or changed.
    pub files: Vec<FileReport>,
    /// True if nothing was written.
    pub dry_run: bool,
    /// Where the old bytes are kept, for `--in-place`.
    pub journals: Vec<String>,
    /// Whether the file's own `aird.history` holds the repair; null where nothing was written. In
    /// place it may lack the room: the journal has it then.
    pub in_history: Option<bool>,
    /// The edited tensors, or those that an adapter strengthens.
    pub tensors: Vec<TensorReport>,
    /// What arrives in the residual stream of what is edited in front of a norm.
    pub after_norms: Vec<ArrivedReport>,
    /// The edited blocks or halves of them; none where nothing helps.
    pub blocks: Vec<String>,
    /// The strength; null where nothing helps.
    pub alpha: Option<f64>,
    /// sha256 of the direction's file.
    pub direction_sha256: String,
    /// What was tried; null where both were given.
    pub search: Option<SearchReport>,
}

/// What a norm leaves of an edit, over the last tokens of built-in prompts.
#[derive(Debug, Serialize)]
pub struct ArrivedReport {
    /// The matrix that the norm stands after; of several with one sum the first.
    pub name: String,
    /// How many times what was added along the direction before, by least squares.
    pub along: f64,
    /// How many times what was added across it, by least squares.
    pub across: f64,
    /// What was added besides, in parts of what was added along the direction.
    pub astray: f64,
    /// How many tokens it was seen on.
    pub n_tokens: usize,
}

impl From<&Arrived> for ArrivedReport {
    fn from(arrived: &Arrived) -> ArrivedReport {
        let Arrived { tensor, along, across, astray, n_tokens } = arrived.clone();
        ArrivedReport { name: tensor, along, across, astray, n_tokens }
    }
}

/// One edited tensor.
#[derive(Debug, Serialize)]
pub struct TensorReport {
    /// Its name.
    pub name: String,
    /// Its type before.
    pub from: String,
    /// Its type after.
    pub to: String,
    /// The alpha that is really in the file, of all experts together.
    pub realised_alpha: f64,
    /// The same of the expert that is furthest off.
    pub worst_alpha: f64,
    /// What rounding added, relative to the tensor (Frobenius).
    pub noise: f64,
    /// The same of the type's own rounding.
    pub own_noise: f64,
}

impl From<&Edited> for TensorReport {
    fn from(e: &Edited) -> TensorReport {
        TensorReport {
            name: e.name.clone(),
            from: e.from.to_string(),
            to: e.to.to_string(),
            realised_alpha: e.realised_alpha,
            worst_alpha: e.worst_alpha,
            noise: e.noise,
            own_noise: e.own_noise,
        }
    }
}

impl From<&Adapted> for TensorReport {
    /// An adapter's tensors are not rounded.
    fn from(a: &Adapted) -> TensorReport {
        TensorReport {
            name: a.name.clone(),
            from: a.ty.to_string(),
            to: a.ty.to_string(),
            realised_alpha: a.alpha,
            worst_alpha: a.alpha,
            noise: 0.0,
            own_noise: 0.0,
        }
    }
}

/// What came of a repair, apart from what was asked.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub files: Vec<FileReport>,
    pub journals: Vec<String>,
    pub in_history: Option<bool>,
    pub tensors: Vec<TensorReport>,
}

impl Repair {
    pub(super) fn print(&self, ui: &Ui, outcome: Outcome, chosen: &Chosen) -> anyhow::Result<()> {
        let Outcome { files, journals, in_history, tensors } = outcome;
        if self.json {
            return ui.print_json(&Report {
                files,
                dry_run: self.dry_run,
                journals,
                in_history,
                tensors,
                after_norms: chosen.after_norms.iter().map(Into::into).collect(),
                blocks: halves_text(&chosen.halves),
                alpha: Some(chosen.alpha),
                direction_sha256: chosen.direction_sha256.clone(),
                search: chosen.search.clone(),
            });
        }
        let mut rows = vec![["tensor", "type", "alpha", "realised"].map(String::from).to_vec()];
        for t in &tensors {
            let ty = match t.from == t.to {
                true => t.to.clone(),
                false => format!("{} -> {}", t.from, t.to),
            };
            let [asked, realised] = [chosen.alpha, t.realised_alpha].map(|x| format!("{x:.3}"));
            rows.push(vec![t.name.clone(), ty, asked, realised]);
        }
        let mut text = table(&rows, &[2, 3], "");
        if !chosen.after_norms.is_empty() {
            text += "\n";
            text += &self.norms_text(chosen);
        }
        ui.print(text)
    }

    /// What norms leave of the edit.
    fn norms_text(&self, chosen: &Chosen) -> String {
        let head = ["after its norm arrives", "along", "asked", "across", "asked", "astray"];
        let mut rows = vec![head.map(String::from).to_vec()];
        for arrived in chosen.after_norms.iter().map(ArrivedReport::from) {
            let numbers = [arrived.along, 1.0 + chosen.alpha, arrived.across, 1.0, arrived.astray];
            let numbers = numbers.map(|x| format!("{x:.3}"));
            rows.push([&[arrived.name][..], &numbers].concat());
        }
        table(&rows, &[1, 2, 3, 4, 5], "")
    }
}
