//! The result of a dry run: what a study would do.

use serde::{Deserialize, Serialize};

use super::estimate::{Estimate, Rates};
use super::execute::Settled;
use super::keys::Keys;
use super::plan::Plan;
use super::recipe::Recipe;
use super::step::Step;

/// What a study would do, as `--dry-run` reports it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanReport {
    /// The study's name.
    pub name: String,
    /// Files that the recipe names and that do not exist.
    pub missing: Vec<String>,
    /// Notes for the user about the recipe.
    pub notes: Vec<String>,
    /// Tokens per second that the base reads here; null if it does not exist or there is nothing to
    /// do.
    pub read_per_second: Option<f64>,
    /// Tokens per second that it writes.
    pub written_per_second: Option<f64>,
    /// All steps, in the order in which they run.
    pub steps: Vec<PlannedStep>,
}

/// The state of a step before the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlannedState {
    /// It would run.
    Open,
    /// It is done already.
    Done,
    /// Something that it needs can no longer be made.
    Skipped,
}

/// A step before it runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedStep {
    /// Name of the step.
    pub name: String,
    /// The verb and its arguments, files only by their names.
    pub command: String,
    /// The key of its results; null if it depends on a file that is missing.
    pub key: Option<String>,
    /// Whether it would run.
    pub state: PlannedState,
    /// Estimated bytes of the models that it makes; null if not known.
    pub bytes: Option<u64>,
    /// Estimated seconds; null if not known.
    pub seconds: Option<f64>,
}

impl PlanReport {
    /// From a plan and the state of its folder.
    pub(super) fn new(
        recipe: &Recipe,
        plan: &Plan,
        keys: &Keys,
        (settled, due): (&[Settled], &[bool]),
        estimate: &Estimate,
        rates: Option<Rates>,
    ) -> PlanReport {
        let step = |(i, step): (usize, &Step)| PlannedStep {
            name: step.name.clone(),
            command: step.shown(&|_| true),
            key: keys.steps[i].clone(),
            state: match (&settled[i], due[i]) {
                (Settled::Skipped(_), _) => PlannedState::Skipped,
                (_, true) => PlannedState::Open,
                _ => PlannedState::Done,
            },
            bytes: estimate.bytes[i],
            seconds: estimate.seconds[i],
        };
        PlanReport {
            name: recipe.name.clone(),
            missing: plan.missing().iter().map(|path| path.display().to_string()).collect(),
            notes: recipe.notes.clone(),
            read_per_second: rates.map(|rates| rates.read),
            written_per_second: rates.map(|rates| rates.written),
            steps: plan.steps.iter().enumerate().map(step).collect(),
        }
    }
}

/// The open steps in few lines: a model's steps one after another.
pub(super) fn plan_lines(plan: &Plan, due: &[bool]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut model = None;
    for (step, _) in plan.steps.iter().zip(due).filter(|(_, due)| **due) {
        match step.name.split_once(": ") {
            Some((name, what)) if model == Some(name) => {
                if let Some(line) = lines.last_mut() {
                    *line += &format!(", {what}");
                }
            }
            other => {
                model = other.map(|(name, _)| name);
                lines.push(step.name.clone());
            }
        }
    }
    lines
}
