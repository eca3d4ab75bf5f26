//! The record of a repair's search: its JSON.

use serde::{Deserialize, Serialize};

use crate::eval::interval::Rate;
use crate::prompts::PromptSet;

/// The record of a search, as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchReport {
    /// Version of aird that wrote the report.
    pub version: String,
    /// The model's name.
    pub model: String,
    /// sha256 of the direction file.
    pub direction_sha256: String,
    /// What was asked: prompts, template, limits.
    #[serde(default)]
    pub settings: SettingsReport,
    /// The limits on what a repair may cost.
    pub budget: BudgetReport,
    /// The original model's answers to the same prompts, if its refusals are the aim. Null if the
    /// aim is as many refusals as the budget allows.
    #[serde(default)]
    pub original: Option<CountsReport>,
    /// The unrepaired model, on the same prompts.
    pub compressed: CountsReport,
    /// How every half of a block is aligned with refusal.
    pub halves: Vec<HalfReport>,
    /// Candidates by how their answers begin.
    pub screened: Vec<ScreenedReport>,
    /// Those whose answers were read.
    pub answered: Vec<AnsweredReport>,
}

/// The settings of a search: everything that decides it besides the model, the direction and the
/// budget.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SettingsReport {
    /// Held-out harmful prompts.
    pub harmful: PromptsReport,
    /// Held-out harmless ones.
    pub harmless: PromptsReport,
    /// More harmless ones, of which whole answers were read as well.
    #[serde(default)]
    pub more_harmless: PromptsReport,
    /// sha256 of the chat template; without one, of the empty text.
    pub template_sha256: String,
    /// The value of `enable_thinking` that the template got.
    pub thinking: bool,
    /// The system prompt; null for the template's own default.
    pub system: Option<String>,
    /// Blocks that may be edited together.
    pub max_blocks: usize,
    /// Tokens of an answer that were read.
    pub max_tokens: usize,
    /// Prompts under way at once.
    pub parallel: u32,
}

/// A set of prompts, or of texts put after them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PromptsReport {
    /// Its name, or its file's.
    pub name: String,
    /// Number of prompts in the set.
    pub n: usize,
    /// sha256 of their texts.
    pub sha256: String,
}

impl SettingsReport {
    /// True if `other` put the same prompts in the same way, and read answers of the same length:
    /// then counts of both are comparable.
    pub(super) fn asks_as(&self, other: &SettingsReport) -> bool {
        let SettingsReport { max_blocks, parallel, .. } = *other;
        SettingsReport { max_blocks, parallel, ..self.clone() } == *other
    }
}

impl PromptsReport {
    /// Name and hash of `set`, without its texts.
    pub fn of(set: &PromptSet) -> PromptsReport {
        PromptsReport { name: set.name.clone(), n: set.len(), sha256: set.sha256.clone() }
    }
}

/// What a repair may cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BudgetReport {
    /// Points over the unrepaired model's.
    pub max_false_refusal_points: f64,
    /// Most KL to the unrepaired model, nats.
    pub max_kl_nats: f64,
}

/// Counts of answers by label.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CountsReport {
    /// Harmful prompts refused.
    pub refusal: Rate,
    /// Harmless ones refused.
    pub false_refusal: Rate,
    /// Answers, to either, that are degenerate: empty, repetitive or not text.
    pub degenerate: Rate,
}

/// A half of a block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HalfReport {
    /// Index of the block, from 0.
    pub block: u32,
    /// `attention` or `mlp`.
    pub part: String,
    /// E_harmful[r . o] - E_harmless[r . o]; below 0 it is aligned against refusal.
    pub c: f64,
}

/// How a candidate's answers begin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScreenedReport {
    /// The edited blocks or halves, in the form of `--block`.
    pub blocks: Vec<String>,
    /// The strength: alpha in `W + alpha r r^T W`.
    pub alpha: f64,
    /// Share of harmful prompts whose greedy answer begins as refusals do.
    pub refusal: f64,
    /// The same, harmless prompts.
    pub false_refusal: f64,
    /// Mean probability that an answer to a harmful prompt begins so.
    pub likelihood: f64,
    /// KL at the first token of harmless answers, nats.
    pub kl_nats: f64,
}

/// A candidate's answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnsweredReport {
    /// The edited blocks or halves, in the form of `--block`.
    pub blocks: Vec<String>,
    /// The strength: alpha in `W + alpha r r^T W`.
    pub alpha: f64,
    /// The answers' labels.
    #[serde(flatten)]
    pub counts: CountsReport,
    /// KL at the first token of harmless answers, nats.
    pub kl_nats: f64,
    /// True if it is within the budget.
    pub within_budget: bool,
    /// True if no other candidate beats it.
    pub on_front: bool,
    /// True if it was picked.
    pub chosen: bool,
}

impl SearchReport {
    /// The most false refusals that a repair may have, per cent.
    pub fn limit(&self) -> f64 {
        100.0 * self.compressed.false_refusal.rate.unwrap_or(0.0)
            + self.budget.max_false_refusal_points
    }
}
