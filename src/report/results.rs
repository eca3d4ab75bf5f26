//! `results.json` of a study: its one schema, written by `aird study`, read by `aird report`.
//!
//! It holds no date, no path, no machine: the same recipe on the same files gives the same bytes.

use serde::{Deserialize, Serialize};

use super::search::{CountsReport, SearchReport, SettingsReport};
use crate::direction::{About, Comparison};
use crate::eval::asr::{Agreement, Difference, Outcome};
use crate::eval::tasks::{Difference as ItemDifference, Tally};
use crate::eval::text::{Kl, Perplexity};
use crate::gguf::{Model, Value};
use crate::repair::{Adapted, Edited};

/// Increased when a field changes its meaning or is removed.
pub const SCHEMA: u32 = 1;

/// Everything that a study found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Results {
    /// Version of the file's schema: [`SCHEMA`].
    pub schema: u32,
    /// The recipe's name.
    pub name: String,
    /// Version of aird that wrote the file.
    pub aird: String,
    /// The version of the crate that carries llama.cpp.
    pub llama_cpp: String,
    /// sha256 of the resolved recipe.
    pub recipe_sha256: String,
    /// Where the base comes from, for the model card.
    #[serde(default)]
    pub origin: Origin,
    /// The base first, then every variant, each followed by its repairs.
    pub models: Vec<ModelResult>,
    /// Comparisons of models on the same prompts: variants against the base, repairs against the
    /// variant that they repair and against the base.
    pub attack_differences: Vec<Difference>,
    /// The same comparisons on the benchmarks' items.
    pub task_differences: Vec<TaskDifference>,
    /// Name of the judge whose labels count.
    pub judge: String,
    /// Every step of the plan, in its order.
    pub steps: Vec<StepResult>,
}

/// Origin of the base, from its file's keys. [`Origin::default`] if nothing is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// `owner/name` on a model hub.
    pub repository: Option<String>,
    /// The licence, from `general.license`.
    pub license: Option<String>,
}

impl Origin {
    /// Reads the origin from the keys of the base's file.
    pub fn of(base: &Model) -> Origin {
        const KEYS: [&str; 3] =
            ["general.source.repo_url", "general.repo_url", "general.base_model.0.repo_url"];
        Origin {
            repository: KEYS.iter().find_map(|key| repository(base.kv().get(*key)?.as_str()?)),
            license: base.kv().get("general.license").and_then(license),
        }
    }
}

/// A licence's name, or the names of several. The key is optional, and a malformed one is ignored.
fn license(value: &Value) -> Option<String> {
    let Value::Array(several) = value else { return Some(value.to_text()?.into_owned()) };
    let names: Vec<String> = several.iter().filter_map(|v| license(&v)).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// `owner/name` of `https://HOST/owner/name`; None for a longer or shorter path.
fn repository(url: &str) -> Option<String> {
    let (_, place) = url.split_once("://")?;
    let (_, path) = place.split_once('/')?;
    let path = path.trim_end_matches('/');
    let (owner, name) = path.split_once('/')?;
    (!owner.is_empty() && !name.is_empty() && !name.contains('/')).then(|| path.to_owned())
}

/// The role of a model in the study.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The original model.
    Base,
    /// A compressed model.
    Variant,
    /// A repaired variant.
    Repaired,
}

/// The results of one model. What no step measured is null or empty.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelResult {
    /// Its name in the recipe; a repaired model's is the variant's and the repair's, or the
    /// variant's and `-repaired`.
    pub name: String,
    /// Its role in the study.
    pub role: Role,
    /// The model that it was made from: its name here. None for the base.
    pub of: Option<String>,
    /// The name of the repair that made it, e.g. `aird` or `restore`. None for the base, for
    /// variants, and where the recipe has only one `[repair]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repaired_by: Option<String>,
    /// How it was made, one line per step, e.g. `prune --method wanda --sparsity 0.5`.
    pub made: Vec<String>,
    /// The file's name; relative to the run's folder if it is kept there.
    pub file: Option<String>,
    /// Size of the file in bytes.
    pub bytes: Option<u64>,
    /// sha256 of the file.
    pub sha256: Option<String>,
    /// Its own refusal direction; None if it refuses too little to have one.
    pub direction: Option<About>,
    /// Comparison of that direction, or of its candidates, with the base's. None for the base.
    pub comparison: Option<Comparison>,
    /// Its answers, one entry per set: attacks first, then benign sets.
    pub sets: Vec<SetResult>,
    /// How far judges agree on its answers to attacks.
    pub agreement: Option<Agreement>,
    /// Harmful prompts with the direction removed: is it needed?
    pub necessity: Option<Intervention>,
    /// Harmless prompts with the direction added: is it enough?
    pub sufficiency: Option<Intervention>,
    /// The edit that made it. None for models that are not repairs.
    pub repair: Option<RepairResult>,
    /// How much its weights differ from those of the model that it was made from, by tensor.
    pub weights: Vec<WeightChange>,
    /// Benchmarks, in the recipe's order.
    pub tasks: Vec<TaskResult>,
    /// Perplexity on the recipe's text.
    pub perplexity: Option<Perplexity>,
    /// KL to the base, on the recipe's text.
    pub kl: Option<Kl>,
}

/// Answers to one set of prompts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetResult {
    /// The attack, or the benign set.
    pub set: String,
    /// True for an attack, false for a benign set.
    pub attack: bool,
    /// The answers, counted.
    pub outcome: Outcome,
}

/// The same prompts without and with an intervention at run time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intervention {
    /// The model whose direction it is: its name here.
    pub direction_of: String,
    /// The set of prompts.
    pub set: String,
    /// The answers without the intervention.
    pub before: Outcome,
    /// The answers with the intervention.
    pub after: Outcome,
}

/// The results of a repair.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepairResult {
    /// What was restored before the edit; None if nothing was.
    #[serde(default)]
    pub restored: Option<RestoreResult>,
    /// The edited blocks or halves of them, in the form of `--block`; empty if nothing helped.
    pub blocks: Vec<String>,
    /// The strength; None if nothing helped.
    pub alpha: Option<f64>,
    /// The edited tensors.
    pub tensors: Vec<EditedTensor>,
    /// The search's record; None if blocks and strength were both given.
    pub search: Option<SearchReport>,
}

impl RepairResult {
    /// True if the search ended without an edit, and nothing was restored.
    pub(super) fn found_nothing(&self) -> bool {
        self.restored.is_none() && (self.blocks.is_empty() || self.alpha.is_none())
    }

    /// How the repaired model answers held-out prompts, and which; None if that was not read.
    pub(super) fn held_out(&self) -> Option<(&SettingsReport, &CountsReport)> {
        let edited = self.search.as_ref().and_then(|search| {
            let chosen = search.answered.iter().find(|a| a.chosen)?;
            Some((&search.settings, &chosen.counts))
        });
        edited.or_else(|| {
            let held_out = self.restored.as_ref()?.held_out.as_ref()?;
            Some((&held_out.settings, &held_out.restored))
        })
    }
}

/// The results of a restore.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreResult {
    /// Matrices that were refitted.
    pub n_matrices: usize,
    /// Tokens that they were fitted to.
    pub n_tokens: usize,
    /// Answers to held-out prompts, before any edit; None if nothing was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out: Option<HeldOutResult>,
}

/// How an original and a restored model answer held-out prompts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldOutResult {
    /// What both were asked, and how.
    pub settings: SettingsReport,
    /// The original's answers.
    pub original: CountsReport,
    /// The restored model's answers.
    pub restored: CountsReport,
}

/// One edited tensor, or one that an adapter strengthens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EditedTensor {
    /// Name of the tensor, e.g. `blk.0.ffn_down.weight`.
    pub name: String,
    /// Type in the unrepaired file.
    pub from: String,
    /// Type in the repaired file.
    pub to: String,
    /// The alpha after rounding, of all experts together.
    pub realised_alpha: f64,
    /// The same of the expert that is furthest off; None in results of an older aird.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worst_alpha: Option<f64>,
    /// What rounding added, relative to the tensor (Frobenius).
    pub noise: f64,
    /// The same of the type's own rounding.
    pub own_noise: f64,
}

impl From<&Edited> for EditedTensor {
    fn from(e: &Edited) -> EditedTensor {
        EditedTensor {
            name: e.name.clone(),
            from: e.from.to_string(),
            to: e.to.to_string(),
            realised_alpha: e.realised_alpha,
            worst_alpha: Some(e.worst_alpha),
            noise: e.noise,
            own_noise: e.own_noise,
        }
    }
}

impl From<&Adapted> for EditedTensor {
    /// An adapter's tensors are not rounded.
    fn from(a: &Adapted) -> EditedTensor {
        EditedTensor {
            name: a.name.clone(),
            from: a.ty.to_string(),
            to: a.ty.to_string(),
            realised_alpha: a.alpha,
            worst_alpha: Some(a.alpha),
            noise: 0.0,
            own_noise: 0.0,
        }
    }
}

/// How much a tensor changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightChange {
    /// Name of the tensor, e.g. `blk.0.ffn_down.weight`.
    pub tensor: String,
    /// Its block; None outside the blocks.
    pub block: Option<u32>,
    /// Frobenius `|B - A| / |A|`.
    pub relative: f64,
}

/// A model's results in one benchmark.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskResult {
    /// Name of the benchmark, e.g. `arc_easy`.
    pub task: String,
    /// The items, counted.
    pub tally: Tally,
}

/// Two models on the same items of a benchmark.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskDifference {
    /// The model's name.
    pub model: String,
    /// The name of the model that it is compared with.
    pub against: String,
    /// Name of the benchmark, e.g. `arc_easy`.
    pub task: String,
    /// The metric: `acc`, `acc_norm`, ...
    pub metric: String,
    /// What changed from one model to the other.
    #[serde(flatten)]
    pub difference: ItemDifference,
}

/// The state of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It ran, in this run or an earlier one.
    Done,
    /// It ran and failed.
    Failed,
    /// Something that it needs failed, or was looked for and not found.
    Skipped,
}

/// One step of the plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepResult {
    /// Its name in the plan.
    pub name: String,
    /// The verb and its arguments, files only by their names.
    pub command: String,
    /// sha256 over what it reads: the key that it is kept by.
    pub key: String,
    /// Whether it ran, failed or was skipped.
    pub state: State,
    /// Why it failed or was skipped.
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_an_owner_and_a_name() {
        assert_eq!(repository("https://a.b/o/m-1").as_deref(), Some("o/m-1"));
        assert_eq!(repository("https://a.b/o/m/").as_deref(), Some("o/m"));
        for other in ["o/m", "https://a.b/o", "https://a.b/o/m/tree/main", "https://a.b//m", ""] {
            assert_eq!(repository(other), None, "{other}");
        }
    }
}
