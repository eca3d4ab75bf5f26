//! What an edit along the direction aims at, and the edit that a restore leaves to be made.

use std::path::Path;

use super::original::OriginalDirection;
use super::refitted::Pair;
use super::report::AimReport;
use super::request::{Aim, DirectionSource, EditAfterRestore, Repair};
use crate::gguf::{Layout, Model, Rewrite, Step, Tensor};
use crate::llama::graph::Part;
use crate::repair::search::{Counts, as_original};
use crate::repair::{Edit, Edited, Proof, Storage, Zeros, halves_text};
use crate::report::search::SearchReport;
use crate::verbs::error::Result;
use crate::verbs::model::file_name;
use crate::verbs::parts::put_into;
use crate::verbs::search::{Blocks, Goal, Place, Question, SearchSetup, counts, front_text};

/// What became of the aim, and the edit if one is made; neither where nothing was asked.
#[derive(Default)]
pub(super) struct Aimed {
    pub report: Option<AimReport>,
    pub edit: Option<AddedEdit>,
}

/// An edit along the direction of what was restored, found by a search.
pub(super) struct AddedEdit {
    place: Place,
    direction_sha256: String,
    pub edited: Vec<Edited>,
    /// Finds the edit in the file.
    pub proof: Proof,
}

/// What a search found in what was restored.
struct FoundEdit {
    edit: Option<AddedEdit>,
    search: SearchReport,
}

/// How an original and a model answer what a search asks.
#[derive(Clone, Copy)]
pub(super) struct PairCounts {
    pub original: Counts,
    pub ours: Counts,
}

impl Repair<'_> {
    /// How `reference` and `model` answer what a search asks; None if one thinks before it answers.
    pub(super) fn counts(
        &self,
        setup: &SearchSetup,
        reference: &Model,
        model: &Model,
    ) -> Result<Option<PairCounts>> {
        let searcher = self.searcher(setup);
        let Some(original) = searcher.count(reference)? else { return Ok(None) };
        Ok(searcher.count(model)?.map(|ours| PairCounts { original, ours }))
    }

    /// Finds the edit that what was restored still lacks. `tensors` are what the restore changed,
    /// `folder` is where a copy of the whole may lie meanwhile.
    pub(super) fn add(
        &self,
        setup: &EditAfterRestore,
        pair: Pair<'_>,
        tensors: &[Tensor<'_>],
        folder: &Path,
    ) -> Result<Aimed> {
        let path = folder.join("restored.gguf");
        let mut rewrite = Rewrite::new(pair.model, Layout::Single);
        put_into(&mut rewrite, tensors.iter().copied())?;
        rewrite.write(&path, true, self.host)?;
        let restored = Model::open(&path)?;
        let Some(counted) = self.counts(&setup.search, pair.original, &restored)? else {
            self.host.warn(
                "the model thinks before it answers: whether it refuses as its original does was \
                 not checked\n\
                 hint: a chat template that ends the thought at once, or no edit",
            );
            return Ok(Aimed::default());
        };
        let mut report = AimReport::new(
            setup.aim.name(),
            self.searcher(&setup.search).asked(&restored)?,
            [counts(&counted.original), counts(&counted.ours)],
        );
        let enough = as_original(counted.original.refused);
        if setup.aim == Aim::Original && counted.ours.refused >= enough {
            let keeps = matches!(setup.direction, DirectionSource::Found { keep: Some(_) });
            if keeps || setup.search.front.is_some() {
                self.host.warn(
                    "the restored model refuses as its original does: nothing was searched for, \
                     and neither a direction nor a front is written",
                );
            }
            return Ok(Aimed { report: Some(report), edit: None });
        }
        self.host.say(report.text().trim_end());
        let found = match self.find_edit(setup, pair.original, &restored, counted) {
            Ok(found) => found,
            Err(error) if error.is_interrupt() || self.host.interrupted() => return Err(error),
            // What was restored is worth more than what might come on top.
            Err(error) => {
                let why = error.to_string();
                let why = why.lines().next().unwrap_or_default();
                self.host.warn(format_args!("no edit along the direction is made: {why}"));
                return Ok(Aimed { report: Some(report), edit: None });
            }
        };
        match &found.edit {
            Some(edit) => {
                report.blocks = halves_text(&edit.place.halves);
                report.alpha = Some(edit.place.alpha);
                report.tensors = edit.edited.iter().map(Into::into).collect();
            }
            None => self.host.warn(nothing_found(setup.aim, &counted)),
        }
        report.search = Some(found.search);
        Ok(Aimed { report: Some(report), edit: found.edit })
    }

    /// Searches what was restored, and makes the edit that is found.
    fn find_edit(
        &self,
        setup: &EditAfterRestore,
        original: &Model,
        restored: &Model,
        counted: PairCounts,
    ) -> Result<FoundEdit> {
        let reference = &original.shards()[0].path;
        let OriginalDirection { direction, sha256 } =
            self.direction(reference, &setup.direction)?;
        let structure = &self.host.prober().structure(restored)?;
        let PairCounts { original, ours } = counted;
        let question = Question {
            model_name: &file_name(self.request.destination.path(&self.request.model)),
            direction: &direction,
            direction_sha256: &sha256,
            blocks: &Blocks::Searched(vec![Part::Attention, Part::Mlp]),
            alpha: None,
            goal: match setup.aim {
                Aim::Original => Goal::Original { original, before: ours },
                Aim::Strongest => Goal::Strongest { before: Some(ours) },
            },
        };
        let answer = self.searcher(&setup.search).search(restored, &question)?;
        self.host.say(front_text(&answer.report, "restored").trim_end());
        // After it was shown: a disk that is full does not take the search away.
        self.keep_front(&setup.search, &answer.report)?;
        let search = answer.report;
        let Some(place) = answer.place else { return Ok(FoundEdit { edit: None, search }) };
        let is_in_place = self.request.destination.is_in_place();
        let edit = Edit {
            unit: &direction.unit()?,
            alpha: place.alpha,
            halves: &place.halves,
            storage: if is_in_place { Storage::Keep } else { Storage::Auto },
            zeros: Zeros::Keep,
            structure,
        };
        let edited = self.edited(restored, edit)?;
        let proof = Proof::before(restored, &edited, self.host)?;
        let edit = AddedEdit { place, direction_sha256: sha256, edited, proof };
        Ok(FoundEdit { edit: Some(edit), search })
    }
}

impl AddedEdit {
    /// The step of the restore, which changed `restored`, with the edit that came after it.
    pub(super) fn recorded(&self, step: Step, restored: &[Tensor<'_>]) -> Step {
        let names: Vec<&str> = self.edited.iter().map(|e| e.name.as_str()).collect();
        let is_new = |name: &&str| !restored.iter().any(|tensor| tensor.info.name == *name);
        step.changed(names.iter().copied().filter(is_new))
            .parameter("blocks", halves_text(&self.place.halves))
            .parameter("alpha", self.place.alpha)
            .parameter("edited", names)
            .source("direction", &self.direction_sha256)
    }
}

/// Why no edit is made.
fn nothing_found(aim: Aim, counted: &PairCounts) -> String {
    let (n, refused) = (counted.ours.n_harmful, counted.ours.refused);
    match aim {
        Aim::Original => format!(
            "no edit that was tried refuses {} of {n} harmful prompts, nearly as many as the \
             original, with no more false refusals and degenerate answers: none is made\n\
             hint: the aim 'strongest', or a higher limit on KL",
            as_original(counted.original.refused)
        ),
        Aim::Strongest if refused == n => {
            format!("the restored model refuses all {n} harmful prompts: no edit is made")
        }
        Aim::Strongest => {
            "no edit that was tried refuses clearly more within the budget: none is made".into()
        }
    }
}
