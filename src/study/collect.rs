//! Builds `results.json` from what the steps printed.

use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::error::{Error, Result};
use super::execute::Settled;
use super::folder::{Folder, Keep};
use super::keys::Keys;
use super::plan::{Plan, PlannedModel};
use super::recipe::Recipe;
use super::step::Arg;
use super::sums::Sums;
use super::toml_text::toml_text;
use crate::direction::{About, Direction};
use crate::eval::asr::Difference;
use crate::gguf::{Model, block_of, hex};
use crate::llama::LLAMA_CPP;
use crate::refit::Outcome as Refitting;
use crate::report::results::{
    HeldOutResult, Intervention, ModelResult, Origin, RepairResult, RestoreResult, Results, SCHEMA,
    SetResult, State, StepResult, TaskDifference, TaskResult, WeightChange,
};
use crate::verbs::repair::{AimReport, EditReport, Report as Repaired, RestoreReport};
use crate::verbs::{asr, compare, diff, direction, tasks};

/// Collects everything that a run found.
///
/// # Errors
/// A result does not parse, or is missing.
pub fn collect(
    recipe: &Recipe,
    (plan, keys): (&Plan, &Keys),
    settled: &[Settled],
    folder: &Folder,
    keep: Keep,
) -> Result<Results> {
    let collector = Collector { plan, keys, settled, folder, keep };
    let mut results = Results {
        schema: SCHEMA,
        name: recipe.name.clone(),
        aird: env!("CARGO_PKG_VERSION").into(),
        llama_cpp: LLAMA_CPP.into(),
        recipe_sha256: hex(&Sha256::digest(toml_text(recipe))),
        origin: Model::open(&recipe.places.resolve(&recipe.model))
            .map(|base| Origin::of(&base))
            .unwrap_or_default(),
        models: Vec::new(),
        attack_differences: Vec::new(),
        task_differences: Vec::new(),
        judge: "default".into(),
        steps: collector.steps(),
    };
    for model in &plan.models {
        results.models.push(collector.model(model, &mut results.judge)?);
        results.attack_differences.extend(collector.attack_differences(model)?);
        results.task_differences.extend(collector.task_differences(model)?);
    }
    Ok(results)
}

struct Collector<'a> {
    plan: &'a Plan,
    keys: &'a Keys,
    settled: &'a [Settled],
    folder: &'a Folder,
    keep: Keep,
}

impl Collector<'_> {
    fn key(&self, step: usize) -> String {
        let lost = |i: usize| matches!(self.settled[i], Settled::Failed(_) | Settled::Skipped(_));
        self.keys.of(&self.plan.steps[step], &|i| !lost(i)).unwrap_or_default()
    }

    /// A step's JSON report; None if it is not done.
    fn printed<T: DeserializeOwned>(&self, step: Option<usize>) -> Result<Option<T>> {
        let Some(step) = step else { return Ok(None) };
        if !matches!(self.settled[step], Settled::Done(_)) {
            return Ok(None);
        }
        let path = self.folder.step_file(&self.key(step), "json");
        let text = std::fs::read_to_string(&path).map_err(super::error::disk(&path, "read"))?;
        let wrong = |e: serde_json::Error| Error::File {
            path: path.clone(),
            what: format!("'{}' printed something else: {e}", self.plan.steps[step].name),
        };
        serde_json::from_str(&text).map(Some).map_err(wrong)
    }

    fn steps(&self) -> Vec<StepResult> {
        let one = |(i, settled): (usize, &Settled)| {
            let step = &self.plan.steps[i];
            let lost =
                |j: usize| matches!(self.settled[j], Settled::Failed(_) | Settled::Skipped(_));
            let (state, error) = match settled {
                Settled::Done(_) => (State::Done, None),
                Settled::Failed(error) => (State::Failed, Some(error.clone())),
                Settled::Skipped(why) => (State::Skipped, Some(why.clone())),
                Settled::Open => (State::Skipped, Some("it did not run".into())),
            };
            StepResult {
                name: step.name.clone(),
                command: step.shown(&|j| !lost(j)),
                key: self.key(i),
                state,
                error,
            }
        };
        self.settled.iter().enumerate().map(one).collect()
    }

    fn model(&self, model: &PlannedModel, judge: &mut String) -> Result<ModelResult> {
        let (file, bytes, sha256) = self.file(&model.file);
        let answers = self.answers(model)?;
        let mut sets = Vec::new();
        let mut agreement = None;
        if let Some((found, of)) = answers {
            *judge = found;
            for (attack, outcomes) in [(true, of.attacks), (false, of.benign)] {
                let all = outcomes.into_iter();
                sets.extend(all.map(|(set, outcome)| SetResult { set, attack, outcome }));
            }
            agreement = Some(of.agreement);
        }
        let text: Option<tasks::Report> = self.printed(model.text)?;
        let text = text.and_then(|text| text.models.into_iter().next());
        let (perplexity, kl) = text.map_or((None, None), |text| (text.perplexity, text.kl));
        let compared: Option<compare::Report> = self.printed(model.comparison)?;
        Ok(ModelResult {
            name: model.name.clone(),
            role: model.role,
            of: model.of.clone(),
            repaired_by: model.repaired_by.clone(),
            made: model.made.clone(),
            file,
            bytes,
            sha256,
            direction: self.direction(model)?,
            comparison: compared.and_then(|compared| compared.others.into_iter().next()),
            necessity: self.intervention(model, model.necessity, &sets)?,
            sufficiency: self.intervention(model, model.sufficiency, &sets)?,
            sets,
            agreement,
            repair: self.repair(model)?,
            weights: self.weights(model)?,
            tasks: self.tasks(model)?,
            perplexity,
            kl,
        })
    }

    fn file(&self, file: &Arg) -> (Option<String>, Option<u64>, Option<String>) {
        match file {
            Arg::Made { step, path } => {
                let Settled::Done(record) = &self.settled[*step] else { return (None, None, None) };
                let Some(made) = record.output(path) else { return (None, None, None) };
                let kept = self.plan.keeps(self.keep, path);
                let shown = if kept { path.clone() } else { file.shown() };
                (Some(shown), Some(made.bytes), Some(made.sha256.clone()))
            }
            Arg::File(path) => {
                let bytes = Model::open(path).ok().map(|model| model.file_bytes());
                (Some(file.shown()), bytes, self.keys.sum(path).map(str::to_owned))
            }
            _ => (None, None, None),
        }
    }

    /// The judge, and the model's answers.
    fn answers(&self, model: &PlannedModel) -> Result<Option<(String, asr::ModelOutcomes)>> {
        for several in &model.answers {
            let printed: Option<asr::Report> = self.printed(Some(several.step))?;
            let place = several.names.iter().position(|name| *name == model.name);
            if let (Some(answers), Some(place)) = (printed, place) {
                let of = answers.models.into_iter().nth(place);
                return Ok(of.map(|of| (answers.judge, of)));
            }
        }
        Ok(None)
    }

    fn direction(&self, model: &PlannedModel) -> Result<Option<About>> {
        match &model.direction {
            Some(Arg::Made { step, .. }) => match &self.settled[*step] {
                Settled::Done(record) if record.found => {
                    let printed: Option<direction::Report> = self.printed(Some(*step))?;
                    Ok(printed.map(|report| report.about))
                }
                _ => Ok(None),
            },
            // If a file cannot be read, the steps that read it failed, and their errors are
            // reported.
            Some(Arg::File(path)) => Ok(Direction::read(path).ok().map(|read| read.about)),
            _ => Ok(None),
        }
    }

    fn intervention(
        &self,
        model: &PlannedModel,
        step: Option<usize>,
        plain: &[SetResult],
    ) -> Result<Option<Intervention>> {
        let Some(answers) = self.printed::<asr::Report>(step)? else { return Ok(None) };
        let of = answers.models.into_iter().next();
        let after = of.and_then(|of| of.attacks.into_iter().chain(of.benign).next());
        let Some((set, after)) = after else { return Ok(None) };
        let before = plain.iter().find(|other| other.set == set).map(|set| set.outcome.clone());
        let direction_of = model.name.clone();
        Ok(before.map(|before| Intervention { direction_of, set, before, after }))
    }

    fn repair(&self, model: &PlannedModel) -> Result<Option<RepairResult>> {
        let printed: Option<Repaired> = self.printed(model.repair)?;
        let Some(printed) = printed else { return Ok(None) };
        Ok(Some(match printed {
            Repaired::Edited(EditReport { blocks, alpha, tensors, search, .. }) => {
                RepairResult { restored: None, blocks, alpha, tensors, search }
            }
            Repaired::Restored(report) => restored(report),
        }))
    }

    fn weights(&self, model: &PlannedModel) -> Result<Vec<WeightChange>> {
        let printed: Option<diff::Report> = self.printed(model.weights)?;
        let changed = printed.map(|changes| changes.changed).unwrap_or_default();
        let change = |change: diff::ChangedTensor| {
            let relative = change.relative_change?;
            Some(WeightChange { block: block_of(&change.name), tensor: change.name, relative })
        };
        Ok(changed.into_iter().filter_map(change).collect())
    }

    fn tasks(&self, model: &PlannedModel) -> Result<Vec<TaskResult>> {
        for several in &model.tasks {
            let printed: Option<tasks::Report> = self.printed(Some(several.step))?;
            let place = several.names.iter().position(|name| *name == model.name);
            if let (Some(tasks), Some(place)) = (printed, place) {
                let of = tasks.models.into_iter().nth(place).map(|of| of.tasks);
                let result = |(task, tally)| TaskResult { task, tally };
                return Ok(of.unwrap_or_default().into_iter().map(result).collect());
            }
        }
        Ok(Vec::new())
    }

    fn attack_differences(&self, model: &PlannedModel) -> Result<Vec<Difference>> {
        let mut all = Vec::new();
        for several in &model.answers {
            let Some(answers) = self.printed::<asr::Report>(Some(several.step))? else { continue };
            let names: Vec<String> = answers.models.into_iter().map(|m| m.name).collect();
            for mut d in answers.differences {
                d.base = renamed(&d.base, &names, &several.names);
                d.model = renamed(&d.model, &names, &several.names);
                all.push(d);
            }
        }
        Ok(all)
    }

    fn task_differences(&self, model: &PlannedModel) -> Result<Vec<TaskDifference>> {
        let mut all = Vec::new();
        for several in &model.tasks {
            let Some(report) = self.printed::<tasks::Report>(Some(several.step))? else { continue };
            let names: Vec<String> = report.models.into_iter().map(|m| m.name).collect();
            for mut d in report.differences {
                d.against = renamed(&d.against, &names, &several.names);
                d.model = renamed(&d.model, &names, &several.names);
                all.push(d);
            }
        }
        Ok(all)
    }
}

/// A restore, with the edit that came after it.
fn restored(report: RestoreReport) -> RepairResult {
    let tensors = report.blocks.iter().flat_map(|block| &block.tensors);
    let n_matrices = tensors.filter(|t| t.outcome == Refitting::Refitted).count();
    let mut restored = RestoreResult { n_matrices, n_tokens: report.n_tokens, held_out: None };
    let Some(aim) = report.aim else {
        return RepairResult { restored: Some(restored), ..RepairResult::default() };
    };
    let AimReport { settings, original, restored: counts, blocks, alpha, tensors, search, .. } =
        aim;
    restored.held_out = Some(HeldOutResult { settings, original, restored: counts });
    RepairResult { restored: Some(restored), blocks, alpha, tensors, search }
}

/// Verbs name models by their files, a study by its recipe.
fn renamed(name: &str, files: &[String], models: &[String]) -> String {
    let place = files.iter().position(|file| file == name);
    place.and_then(|i| models.get(i)).map_or(name.to_owned(), Clone::clone)
}

/// sha256 of the files that stay, in the format of `sha256sum -c`: models, directions, the recipe,
/// the results.
///
/// # Errors
/// A file cannot be read.
pub fn sha256_sums(
    plan: &Plan,
    settled: &[Settled],
    folder: &Folder,
    keep: Keep,
    sums: &mut Sums,
) -> Result<String> {
    let mut names: Vec<String> = Vec::new();
    for record in settled.iter().filter_map(|settled| match settled {
        Settled::Done(record) => Some(record),
        _ => None,
    }) {
        let wanted = |path: &str| {
            let kind = ["models/", "directions/"].iter().any(|kind| path.starts_with(kind));
            kind && plan.keeps(keep, path)
        };
        names.extend(record.outputs.iter().map(|o| o.path.clone()).filter(|path| wanted(path)));
    }
    names.sort();
    names.extend(["recipe.toml", "results.json"].map(String::from));
    let mut text = String::new();
    for name in names {
        if let Some(sum) = sums.file(&folder.path.join(&name))? {
            text += &format!("{}  {name}\n", sum.sha256);
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_off_names() {
        assert_eq!(block_of("blk.17.attn_q.weight"), Some(17));
        assert_eq!(block_of("output.weight"), None);
    }
}
