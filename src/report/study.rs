//! A view of a study's results: the base, its variants with their repairs, and the comparisons.

use super::results::{ModelResult, RepairResult, Results, Role, State, StepResult};
use super::stage::Stage;
use crate::eval::asr::{Difference, Outcome};
use crate::eval::interval::Rate;

/// Below this p-value a difference counts as significant.
pub(super) const SIGNIFICANT: f64 = 0.05;

/// A study's results, with the look-ups that reports need.
#[derive(Clone, Copy)]
pub(super) struct Study<'a> {
    /// All of it.
    pub results: &'a Results,
}

/// A compressed model and its repairs.
#[derive(Clone)]
pub(super) struct Variant<'a> {
    /// The compressed model.
    pub compressed: &'a ModelResult,
    /// The repaired models; empty if the study did not try.
    pub repaired: Vec<&'a ModelResult>,
}

impl<'a> Study<'a> {
    /// The original model; None if the results lack it.
    pub(super) fn base(self) -> Option<&'a ModelResult> {
        self.results.models.iter().find(|m| m.role == Role::Base)
    }

    /// The base's name in the study.
    pub(super) fn base_name(self) -> &'a str {
        self.base().map_or("base", |m| m.name.as_str())
    }

    /// The base's name for readers: its name in the study if that is more than `base`, else its
    /// file's name, else the name that its direction's file holds.
    pub(super) fn base_title(self) -> &'a str {
        let Some(base) = self.base() else { return "The base model" };
        let file = base.file.as_deref().map(|file| file.rsplit('/').next().unwrap_or(file));
        let stem = file.map(|file| file.strip_suffix(".gguf").unwrap_or(file));
        let own = base.direction.as_ref().map(|about| about.model.as_str());
        let says = |name: &&str| !name.is_empty() && *name != "base";
        let all = [Some(base.name.as_str()), stem, own].into_iter().flatten();
        all.into_iter().find(says).unwrap_or("The base model")
    }

    /// The variants, each with its repairs.
    pub(super) fn variants(self) -> Vec<Variant<'a>> {
        let models = &self.results.models;
        let repairs_of = |name: &str| {
            let is = |m: &&ModelResult| m.role == Role::Repaired && m.of.as_deref() == Some(name);
            models.iter().filter(is).collect()
        };
        let variants = models.iter().filter(|m| m.role == Role::Variant);
        variants.map(|m| Variant { compressed: m, repaired: repairs_of(&m.name) }).collect()
    }

    /// Names of the repairs, in their order.
    pub(super) fn repairs(self) -> Vec<Option<&'a str>> {
        let repaired = self.results.models.iter().filter(|m| m.role == Role::Repaired);
        first_of_each(repaired.map(|m| m.repaired_by.as_deref()))
    }

    /// What was done to `model`. A repair looks the same in every variant.
    pub(super) fn stage<'m>(self, model: &'m ModelResult) -> Stage<'m> {
        let name = model.repaired_by.as_deref();
        match model.role {
            Role::Base => Stage::BASE,
            Role::Variant => Stage::COMPRESSED,
            Role::Repaired => {
                let place = self.repairs().into_iter().position(|other| other == name);
                Stage::repair(place.unwrap_or(0), name)
            }
        }
    }

    /// Every stage that the study has.
    pub(super) fn stages(self) -> Vec<Stage<'a>> {
        let repairs = self.repairs().into_iter().enumerate();
        let repairs = repairs.map(|(i, name)| Stage::repair(i, name));
        [Stage::BASE, Stage::COMPRESSED].into_iter().chain(repairs).collect()
    }

    /// True if variants are repaired in more than one way.
    pub(super) fn has_several_repairs(self) -> bool {
        self.repairs().len() > 1
    }

    /// Names of the attacks, or of the benign sets, that any model was asked, in their order.
    pub(super) fn sets(self, attack: bool) -> Vec<&'a str> {
        let sets = self.results.models.iter().flat_map(|m| &m.sets);
        first_of_each(sets.filter(|s| s.attack == attack).map(|s| s.set.as_str()))
    }

    /// Names of the benchmarks, in their order.
    pub(super) fn tasks(self) -> Vec<&'a str> {
        let tasks = self.results.models.iter().flat_map(|m| &m.tasks);
        first_of_each(tasks.map(|t| t.task.as_str()))
    }

    /// `model` against `base` on a set; the measure is asr for attacks, refusal for benign sets.
    pub(super) fn difference(
        self,
        (base, model): (&str, &str),
        set: &str,
        measure: &str,
    ) -> Option<&'a Difference> {
        let is = |d: &&Difference| {
            d.base == base && d.model == model && d.set == set && d.measure == measure
        };
        self.results.attack_differences.iter().find(is)
    }

    /// McNemar's p of `model` against `base` on a set, if both were compared.
    pub(super) fn p(self, names: (&str, &str), set: &str, measure: &str) -> Option<f64> {
        self.difference(names, set, measure).map(|d| d.p)
    }

    /// Steps that did not come to an end.
    pub(super) fn troubles(self) -> Vec<&'a StepResult> {
        self.results.steps.iter().filter(|s| s.state != State::Done).collect()
    }

    /// Why figures of `model` are missing, in words: a step that failed, a search that found
    /// nothing, a model that it would have been made from.
    pub(super) fn why_missing(self, model: &ModelResult) -> String {
        // A step is named after its model; a study's only repair after the model that it repairs.
        let is_only = model.role == Role::Repaired && model.repaired_by.is_none();
        let repaired = model.of.as_deref().filter(|_| is_only);
        let about = |step: &&&StepResult| {
            let (owner, what) = step.name.split_once(':').unwrap_or((&step.name, ""));
            match what.trim() {
                "repair" if is_only => repaired == Some(owner),
                "repair" if model.role != Role::Repaired => false,
                _ => owner == model.name,
            }
        };
        let troubles = self.troubles();
        let found = |state| troubles.iter().filter(about).find(|s| s.state == state);
        if let Some(step) = found(State::Failed).or_else(|| found(State::Skipped)) {
            let error = step.error.as_deref().unwrap_or("no reason was kept");
            let error = error.lines().next().unwrap_or_default().trim_end_matches('.');
            return format!("step ‘{}’ {}: {error}", step.name, state_text(step.state));
        }
        if model.repair.as_ref().is_some_and(RepairResult::found_nothing) {
            return "no repair was found within the budget".into();
        }
        let source = model.of.as_deref().and_then(|of| self.model(of));
        match source.filter(|source| source.role != Role::Base && !source.is_measured()) {
            Some(source) => format!("it needs {}: {}", source.name, self.why_missing(source)),
            None => "not measured in this study".into(),
        }
    }

    /// The model of that name.
    pub(super) fn model(self, name: &str) -> Option<&'a ModelResult> {
        self.results.models.iter().find(|m| m.name == name)
    }
}

impl ModelResult {
    /// The answers to a set.
    pub(super) fn outcome(&self, set: &str) -> Option<&Outcome> {
        self.sets.iter().find(|s| s.set == set).map(|s| &s.outcome)
    }

    /// Attack success, or refusals of a benign set.
    pub(super) fn rate(&self, set: &str, attack: bool) -> Option<Rate> {
        let shares = &self.outcome(set)?.shares;
        Some(if attack { shares.asr } else { shares.refusal })
    }

    /// True if any measurement of it exists.
    pub(super) fn is_measured(&self) -> bool {
        !self.sets.is_empty() || !self.tasks.is_empty() || self.perplexity.is_some()
    }

    /// How it was made, in one line.
    pub(super) fn made_text(&self) -> String {
        self.made.join(", then ")
    }
}

/// In words.
pub(super) fn state_text(state: State) -> &'static str {
    match state {
        State::Done => "done",
        State::Failed => "failed",
        State::Skipped => "was skipped",
    }
}

fn first_of_each<T: PartialEq>(names: impl Iterator<Item = T>) -> Vec<T> {
    let mut found: Vec<T> = Vec::new();
    names.for_each(|name| {
        if !found.contains(&name) {
            found.push(name);
        }
    });
    found
}
