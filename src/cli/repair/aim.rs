//! What an edit along the direction aims at, and the edit that a restore leaves to be made.

use std::path::Path;
use std::sync::atomic::Ordering;

use anyhow::{Result, bail};
use clap::ValueEnum;
use serde::Serialize;

use super::report::TensorReport;
use super::{Chosen, Repair};
use crate::cli::search::{Goal, Question, as_original, counts};
use crate::cli::ui::Ui;
use crate::direction::Direction;
use crate::eval::interval::Rate;
use crate::gguf::{Layout, Model, Rewrite, Step, Tensor};
use crate::llama::graph::Part;
use crate::repair::search::Counts;
use crate::repair::{Edit, Edited, Proof, Storage, Zeros, halves_text};
use crate::report::search::{CountsReport, SearchReport};
use crate::verbs::parts::put_into;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Aim {
    /// 95 % of the original's refusals or more, by the least edit, and no more false ones.
    Original,
    /// As many refusals as --max-false-refusal and --max-kl allow.
    Strongest,
    /// No edit along the direction.
    None,
}

impl Aim {
    pub fn name(self) -> &'static str {
        match self {
            Aim::Original => "original",
            Aim::Strongest => "strongest",
            Aim::None => "none",
        }
    }
}

/// An edit along the direction of what was restored, found by a search.
pub(super) struct Added {
    pub chosen: Chosen,
    pub edited: Vec<Edited>,
    /// Looks for the edit in the file.
    pub proof: Proof,
}

/// What became of the aim.
#[derive(Debug, Serialize)]
pub struct AimReport {
    /// `original` or `strongest`.
    pub aim: String,
    /// The original, on the search's held-out prompts.
    pub original: CountsReport,
    /// The restored model.
    pub restored: CountsReport,
    /// The edited blocks or halves of them; none where nothing was edited.
    pub blocks: Vec<String>,
    /// The strength; null where nothing was edited.
    pub alpha: Option<f64>,
    /// The edited tensors.
    pub tensors: Vec<TensorReport>,
    /// What was tried; null where nothing was.
    pub search: Option<SearchReport>,
}

impl AimReport {
    /// Nothing looked for yet.
    fn new(aim: Aim, original: &Counts, restored: &Counts) -> AimReport {
        AimReport {
            aim: aim.name().into(),
            original: counts(original),
            restored: counts(restored),
            blocks: Vec::new(),
            alpha: None,
            tensors: Vec::new(),
            search: None,
        }
    }

    /// A line for each kind of prompt.
    pub(super) fn text(&self) -> String {
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

impl Repair {
    /// Where the original is the aim it decides on false refusals.
    pub(super) fn check_limits(&self, aim: Aim) -> Result<()> {
        match aim == Aim::Original && self.search.limits_false_refusals() {
            false => Ok(()),
            true => bail!(
                "--max-false-refusal applies only to --aim strongest; with --aim original the \
                 original's own rate is the limit"
            ),
        }
    }

    /// How `reference` and `model` answer what a search asks; None if one thinks before it answers.
    pub(super) fn answers(
        &self,
        ui: &Ui,
        reference: &Model,
        model: &Model,
    ) -> Result<Option<(Counts, Counts)>> {
        let original = self.search.count(ui, reference)?;
        Ok(original.zip(self.search.count(ui, model)?))
    }

    /// Looks for the edit that what was restored still lacks. `tensors` are what the restore
    /// changed, `folder` is where a copy of the whole may lie meanwhile.
    pub(super) fn add(
        &self,
        ui: &Ui,
        (model, original): (&Model, &Model),
        tensors: &[Tensor<'_>],
        (aim, folder): (Aim, &Path),
    ) -> Result<(Option<AimReport>, Option<Added>)> {
        if aim == Aim::None {
            return Ok((None, None));
        }
        let path = folder.join("restored.gguf");
        let mut rewrite = Rewrite::new(model, Layout::Single);
        put_into(&mut rewrite, tensors.iter().copied())?;
        rewrite.write(&path, true, ui)?;
        let restored = Model::open(&path)?;
        let Some((theirs, ours)) = self.answers(ui, original, &restored)? else {
            ui.warn(
                "the model thinks before it answers: whether it refuses as its original does was \
                 not looked at\n\
                 hint: a --chat-template that ends the thought at once, or --aim none",
            );
            return Ok((None, None));
        };
        let mut report = AimReport::new(aim, &theirs, &ours);
        if aim == Aim::Original && ours.refused >= as_original(theirs.refused) {
            if self.keep_direction.is_some() || self.search.has_front() {
                ui.warn(
                    "the restored model refuses as its original does: nothing was searched for, \
                     and neither a direction nor a front is written",
                );
            }
            return Ok((Some(report), None));
        }
        ui.say(report.text().trim_end());
        let goal = match aim {
            Aim::Original => Goal::Original { original: theirs, before: ours },
            _ => Goal::Strongest { before: Some(ours) },
        };
        let found = self.direction(ui).and_then(|(direction, sha256)| {
            self.look_for(ui, &restored, (&direction, &sha256), goal)
        });
        let (added, search) = match found {
            Ok(found) => found,
            Err(error) if ui.interrupt().load(Ordering::Relaxed) => return Err(error),
            // What was restored is worth more than what might come on top.
            Err(error) => {
                let said = error.to_string();
                let said = said.lines().next().unwrap_or_default();
                ui.warn(format_args!("no edit along the direction is made: {said}"));
                return Ok((Some(report), None));
            }
        };
        match &added {
            Some(added) => {
                report.blocks = halves_text(&added.chosen.halves);
                report.alpha = Some(added.chosen.alpha);
                report.tensors = added.edited.iter().map(Into::into).collect();
            }
            None => ui.warn(nothing_found(aim, &theirs, &ours)),
        }
        report.search = Some(search);
        Ok((Some(report), added))
    }

    /// Searches what was restored, and makes the edit that is found.
    fn look_for(
        &self,
        ui: &Ui,
        restored: &Model,
        (direction, direction_sha256): (&Direction, &str),
        goal: Goal,
    ) -> Result<(Option<Added>, SearchReport)> {
        let structure = &ui.prober().structure(restored)?;
        let question = Question {
            direction,
            direction_sha256,
            halves: None,
            alpha: None,
            parts: &[Part::Attention, Part::Mlp],
            goal,
            start: "restored",
            dry_run: false,
            // The restore's own report is the result.
            json: true,
        };
        let answer = self.search.search(ui, (&self.restored_to(), restored), &question)?;
        let Some((halves, alpha)) = answer.chosen else { return Ok((None, answer.report)) };
        let storage = if self.in_place { Storage::Keep } else { Storage::Auto };
        let unit = direction.unit()?;
        let (halves, zeros) = (&halves[..], Zeros::Keep);
        let asked = Edit { unit: &unit, alpha, halves, storage, zeros, structure };
        let chosen = Chosen {
            halves: halves.to_vec(),
            alpha,
            direction_sha256: direction_sha256.into(),
            model_sha256: None,
            search: None,
            after_norms: Vec::new(),
        };
        let edited = self.edit(ui, restored, asked, &chosen)?;
        let proof = Proof::before(restored, &edited, ui)?;
        Ok((Some(Added { chosen, edited, proof }), answer.report))
    }
}

impl Added {
    /// The step of the restore, which changed `restored`, with the edit that came after it.
    pub fn recorded(&self, step: Step, restored: &[Tensor<'_>]) -> Step {
        let names: Vec<&str> = self.edited.iter().map(|e| e.name.as_str()).collect();
        let is_new = |name: &&str| !restored.iter().any(|tensor| tensor.info.name == *name);
        step.changed(names.iter().copied().filter(is_new))
            .parameter("blocks", halves_text(&self.chosen.halves))
            .parameter("alpha", self.chosen.alpha)
            .parameter("edited", names)
            .source("direction", &self.chosen.direction_sha256)
    }
}

/// Why no edit is made.
fn nothing_found(aim: Aim, original: &Counts, restored: &Counts) -> String {
    let (n, refused) = (restored.n_harmful, restored.refused);
    match aim {
        Aim::Original => format!(
            "no edit that was tried refuses {} of {n} harmful prompts, nearly as many as the \
             original, with no more false refusals and degenerate answers: none is made\n\
             hint: --aim strongest, or a higher --max-kl",
            as_original(original.refused)
        ),
        _ if refused == n => {
            format!("the restored model refuses all {n} harmful prompts: no edit is made")
        }
        _ => "no edit that was tried refuses clearly more within the budget: none is made".into(),
    }
}

/// The aim that was given, or the usual one.
pub(super) fn checked(aim: Option<Aim>, usual: Aim, has_reference: bool) -> Result<Aim> {
    match aim.unwrap_or(usual) {
        Aim::Original if !has_reference => {
            bail!("--aim original needs --reference: the original model itself")
        }
        aim => Ok(aim),
    }
}
