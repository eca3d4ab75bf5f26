//! What a repair reports, by either method.

use serde::{Deserialize, Serialize};

use crate::eval::interval::Rate;
use crate::refit::{BlockReport, Refitted};
use crate::repair::Arrived;
use crate::repair::search::as_original;
use crate::report::results::EditedTensor;
use crate::report::search::{CountsReport, SearchReport, SettingsReport};
use crate::verbs::files::FileReport;

/// What was repaired. In JSON the two kinds differ by their fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, try_from = "serde_json::Value")]
#[allow(clippy::large_enum_variant)] // a run makes one of them
pub enum Report {
    /// Matrices were refitted, and perhaps edited then.
    Restored(RestoreReport),
    /// The model was only edited.
    Edited(EditReport),
}

/// An edit along the direction.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EditReport {
    /// Files that were (in a dry run, would be) written or changed.
    pub files: Vec<FileReport>,
    /// True if nothing was written.
    pub dry_run: bool,
    /// In a dry run: bytes of the tensors that would be computed; null for an adapter.
    pub computed_bytes: Option<u64>,
    /// In a dry run: seconds that the run would take here, a search with it; null where that is
    /// not known: in place, for an adapter, and where norms follow what is edited.
    pub estimated_seconds: Option<f64>,
    /// Where the old bytes are kept after a change in place.
    pub journals: Vec<String>,
    /// Whether the file's own `aird.history` holds the repair; null where nothing was written. In
    /// place it may lack the room: the journal has it then.
    pub in_history: Option<bool>,
    /// The edited tensors, or those that an adapter strengthens.
    pub tensors: Vec<EditedTensor>,
    /// What arrives in the residual stream of what is edited in front of a norm.
    pub after_norms: Vec<ArrivedReport>,
    /// The edited blocks or halves of them, as `14` and `16:mlp`; none where nothing helps.
    pub blocks: Vec<String>,
    /// The strength; null where nothing helps.
    pub alpha: Option<f64>,
    /// sha256 of the direction's file.
    pub direction_sha256: String,
    /// What was tried; null where both were given.
    pub search: Option<SearchReport>,
}

/// What a norm leaves of an edit, over the last tokens of built-in prompts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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

/// A restore, and the edit that was made after it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreReport {
    /// Files that were (in a dry run, would be) written or changed.
    pub files: Vec<FileReport>,
    /// True if nothing was written.
    pub dry_run: bool,
    /// In a dry run: what the restore takes; else null.
    pub planned: Option<PlannedRestore>,
    /// Where the old bytes are kept after a change in place.
    pub journals: Vec<String>,
    /// Whether the file's own `aird.history` holds the repair; null where nothing was written.
    pub in_history: Option<bool>,
    /// How the original and the restored model answer held-out prompts, and the edit along the
    /// direction that was made for it; null where nothing was asked.
    pub aim: Option<AimReport>,
    /// Tokens that matrices were fitted to.
    pub n_tokens: usize,
    /// Tokens held out, which errors are of.
    pub n_held_out: usize,
    /// Block by block.
    pub blocks: Vec<BlockReport>,
}

/// What a restore takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedRestore {
    /// Blocks to refit.
    pub blocks: u64,
    /// Bytes that are needed on the disk meanwhile, at the most.
    pub disk_bytes: u64,
}

impl TryFrom<serde_json::Value> for Report {
    type Error = serde_json::Error;

    /// Not serde's own way with `untagged`, whose errors name no field.
    fn try_from(report: serde_json::Value) -> Result<Report, serde_json::Error> {
        match report.get("n_tokens") {
            Some(_) => serde_json::from_value(report).map(Report::Restored),
            None => serde_json::from_value(report).map(Report::Edited),
        }
    }
}

impl From<Arrived> for ArrivedReport {
    fn from(arrived: Arrived) -> ArrivedReport {
        let Arrived { tensor, along, across, astray, n_tokens } = arrived;
        ArrivedReport { name: tensor, along, across, astray, n_tokens }
    }
}

impl RestoreReport {
    /// With what was refitted.
    pub(super) fn with(self, refitted: Refitted) -> RestoreReport {
        let Refitted { n_tokens, n_held_out, blocks } = refitted;
        RestoreReport { n_tokens, n_held_out, blocks, ..self }
    }
}

/// What became of the aim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AimReport {
    /// `original` or `strongest`.
    pub aim: String,
    /// What both models were asked, and how.
    #[serde(default)]
    pub settings: SettingsReport,
    /// The original, on the search's held-out prompts.
    pub original: CountsReport,
    /// The restored model.
    pub restored: CountsReport,
    /// The edited blocks or halves of them; none where nothing was edited.
    pub blocks: Vec<String>,
    /// The strength; null where nothing was edited.
    pub alpha: Option<f64>,
    /// The edited tensors.
    pub tensors: Vec<EditedTensor>,
    /// What was tried; null where nothing was.
    pub search: Option<SearchReport>,
}

/// Why a search found nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NothingFound {
    /// The model already refuses as much as is aimed at.
    AlreadyRefuses,
    /// Nothing refuses nearly as much as the original.
    NotAsOriginal,
    /// Nothing refuses clearly more within the budget.
    NotMore,
}

impl AimReport {
    /// Before a search.
    pub(super) fn new(
        aim: &str,
        settings: SettingsReport,
        [original, restored]: [CountsReport; 2],
    ) -> AimReport {
        AimReport {
            aim: aim.into(),
            settings,
            original,
            restored,
            blocks: Vec::new(),
            alpha: None,
            tensors: Vec::new(),
            search: None,
        }
    }

    /// A line for each kind of prompt.
    pub(crate) fn text(&self) -> String {
        let edited = self.search.iter().flat_map(|s| &s.answered).find(|a| a.chosen);
        let line = |kind: &str, of: fn(&CountsReport) -> Rate| {
            let (original, restored) = (of(&self.original), of(&self.restored));
            let edited = edited.map(|a| {
                let (blocks, alpha, k) = (a.blocks.join(","), a.alpha, of(&a.counts).k);
                format!(", edited ({blocks}, alpha {alpha:.3}) {k}")
            });
            format!(
                "refused of {} {kind} held-out prompts: original {}, restored {}{}\n",
                original.n,
                original.k,
                restored.k,
                edited.unwrap_or_default()
            )
        };
        line("harmful", |c| c.refusal) + &line("harmless", |c| c.false_refusal)
    }
}

impl EditReport {
    /// Why the search found nothing, if it did not.
    pub(crate) fn nothing_found(&self) -> Option<NothingFound> {
        let search = self.search.as_ref().filter(|_| self.alpha.is_none())?;
        let original = search.original.as_ref().map(|original| original.refusal.k);
        let compressed = &search.compressed.refusal;
        Some(match original {
            _ if compressed.k >= original.map_or(compressed.n, as_original) => {
                NothingFound::AlreadyRefuses
            }
            Some(_) => NothingFound::NotAsOriginal,
            None => NothingFound::NotMore,
        })
    }

    /// Why nothing was edited, in a sentence.
    pub(crate) fn nothing_helps_text(&self) -> String {
        let (Some(why), Some(search)) = (self.nothing_found(), &self.search) else {
            return "nothing was written".into();
        };
        let (k, n) = (search.compressed.refusal.k, search.compressed.refusal.n);
        let original = search.original.as_ref().map(|original| original.refusal.k);
        match why {
            NothingFound::AlreadyRefuses => format!(
                "the model already refuses {k} of {n} harmful prompts{}: there is nothing to \
                 repair, and nothing was written",
                original.map_or(String::new(), |k| format!(", its original {k}"))
            ),
            NothingFound::NotAsOriginal => format!(
                "nothing that was tried refuses {} of {n} harmful prompts, nearly as many as the \
                 original, with no more false refusals and degenerate answers; nothing was written",
                as_original(original.unwrap_or(n))
            ),
            NothingFound::NotMore => format!(
                "nothing that was tried refuses clearly more than {k} of {n} harmful prompts \
                 within the budget; nothing was written"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::search::{BudgetReport, CountsReport};
    use crate::verbs::search::counts;

    fn refusals(refused: usize) -> CountsReport {
        counts(&crate::repair::search::Counts {
            refused,
            n_harmful: 20,
            n_benign: 20,
            ..Default::default()
        })
    }

    fn found_nothing(original: Option<usize>, refused: usize) -> EditReport {
        let search = SearchReport {
            version: crate::VERSION.into(),
            model: "m.gguf".into(),
            direction_sha256: String::new(),
            settings: SettingsReport::default(),
            budget: BudgetReport { max_false_refusal_points: 10.0, max_kl_nats: 0.1 },
            original: original.map(refusals),
            compressed: refusals(refused),
            halves: Vec::new(),
            screened: Vec::new(),
            answered: Vec::new(),
        };
        EditReport { search: Some(search), ..EditReport::default() }
    }

    #[test]
    fn the_json_of_repair_is_its_report() {
        let block = BlockReport { residual: (0.5, 0.25), ..BlockReport::default() };
        let restored = RestoreReport { blocks: vec![block], ..RestoreReport::default() };
        let edited = found_nothing(Some(20), 3);
        for report in [Report::Restored(restored), Report::Edited(edited)] {
            let mut json = serde_json::to_value(&report).unwrap();
            assert_eq!(serde_json::from_value::<Report>(json.clone()).unwrap(), report);
            json["unheard_of"] = 1.into();
            let error = serde_json::from_value::<Report>(json).unwrap_err().to_string();
            assert!(error.contains("unknown field `unheard_of`"), "{error}");
        }
    }

    #[test]
    fn why_a_search_found_nothing_depends_on_the_aim() {
        use NothingFound as N;
        for (original, refused, why, text) in [
            (None, 20, N::AlreadyRefuses, "already refuses 20 of 20 harmful prompts: there"),
            (Some(20), 19, N::AlreadyRefuses, "refuses 19 of 20 harmful prompts, its original 20:"),
            (Some(20), 3, N::NotAsOriginal, "nothing that was tried refuses 19 of 20"),
            (None, 3, N::NotMore, "nothing that was tried refuses clearly more than 3 of 20"),
        ] {
            let report = found_nothing(original, refused);
            assert_eq!(report.nothing_found(), Some(why), "{original:?} {refused}");
            assert!(report.nothing_helps_text().contains(text), "{}", report.nothing_helps_text());
        }
        let report = EditReport { alpha: Some(1.0), ..found_nothing(None, 3) };
        assert_eq!(report.nothing_found(), None);
    }
}
