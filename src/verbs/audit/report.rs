//! What an audit found.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

pub use super::files::FilesReport;
use super::subject::ModelReading;
use crate::direction::cosine;
use crate::eval::asr::{Difference, Outcome};
pub use crate::eval::audit::{Drift, Judgement, KindScores, Scores, Shift, Verdict};
use crate::eval::audit::{scores, shift};
pub use crate::report::search::PromptsReport;

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// aird's version.
    pub version: String,
    /// The verdict, what decided it, and the rule.
    pub judgement: Judgement,
    /// The model.
    pub model: AuditedModel,
    /// Its original; null if none was given.
    pub original: Option<AuditedModel>,
    /// How answers were made.
    pub settings: Settings,
    /// The prompts of every set.
    pub prompts: IndexMap<String, PromptsReport>,
    /// The answers to every set: `harmful`, `harmless`, and `borderline` unless a file of harmless
    /// prompts was given.
    pub answers: IndexMap<String, AnswersReport>,
    /// Refusal scores; null where the model has none that could be read.
    pub margin: Option<MarginReport>,
    /// How far predictions drift from the original's along its answers to harmless prompts.
    pub drift: Option<Drift>,
    /// How far the difference between harmful and harmless prompts turned in the residual stream.
    pub direction: Option<DirectionShift>,
    /// How the files differ; null without an original.
    pub files: Option<FilesReport>,
    /// What became of each condition.
    pub conditions: Vec<ConditionReport>,
}

/// A model by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditedModel {
    /// Its file's name.
    pub file: String,
    /// Of the file.
    pub sha256: String,
    /// Of the chat template that it was asked through.
    pub template_sha256: String,
    /// True if it thinks before it answers: no refusal scores are then read.
    pub thinks: bool,
}

/// How answers were made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Tokens of an answer, at most.
    pub max_tokens: usize,
    /// Prompts and answers under way at once.
    pub parallel: u32,
    /// Blocks on the GPU.
    pub gpu_layers: u32,
    /// The system prompt; null for the template's own.
    pub system: Option<String>,
    /// A digest of aird's sources: another build may round in another way.
    pub build: String,
    /// What llama.cpp uses of the CPU; another one rounds in another way.
    pub cpu: String,
}

/// The answers to a set of prompts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswersReport {
    /// The model's.
    pub model: Outcome,
    /// The original's.
    pub original: Option<Outcome>,
    /// The model's refusals against the original's, on the same prompts.
    pub refusals: Option<Difference>,
}

/// Refusal scores: the log-odds that an answer begins as refusals do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MarginReport {
    /// How refusals begin: their first tokens, spelled.
    pub refusals_begin: Vec<String>,
    /// The model's scores.
    pub model: KindScores,
    /// The original's scores.
    pub original: Option<KindScores>,
    /// How those of harmful prompts moved.
    pub shift: Option<Shift>,
}

/// The mean residual of harmful minus that of harmless prompts, at the last token: the candidates
/// among which `direction` chooses, in the model and in its original.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectionShift {
    /// The layer at which the original tells the two kinds apart most.
    pub layer: usize,
    /// The cosine there.
    pub cosine: Option<f64>,
    /// The cosine at the input of every block.
    pub by_layer: Vec<Option<f64>>,
}

/// A condition and what was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConditionReport {
    /// As it was given.
    pub condition: String,
    /// The figure, with what has no answer counted as worst; null where the condition is a
    /// verdict.
    pub value: Option<f64>,
    /// True if it holds.
    pub failed: bool,
}

impl Report {
    /// The first condition that holds, and must not.
    pub fn failed_condition(&self) -> Option<&ConditionReport> {
        self.conditions.iter().find(|condition| condition.failed)
    }
}

impl MarginReport {
    /// Summarizes the scores of a model and of its original; None where a set is empty.
    pub(super) fn new(
        refusals_begin: Vec<String>,
        model: &ModelReading,
        original: Option<&ModelReading>,
    ) -> Option<MarginReport> {
        let of = |reading: &ModelReading| {
            let (harmful, harmless) = (scores(&reading.harmful)?, scores(&reading.harmless)?);
            Some(KindScores { harmful, harmless })
        };
        Some(MarginReport {
            refusals_begin,
            model: of(model)?,
            shift: original.and_then(|original| shift(&original.harmful, &model.harmful)),
            original: original.and_then(of),
        })
    }
}

impl DirectionShift {
    /// Compares the differences of means; None for models of different shapes.
    pub(super) fn new(model: &ModelReading, original: &ModelReading) -> Option<DirectionShift> {
        let (ours, theirs) = (&model.difference, &original.difference);
        if (ours.n_layer, ours.n_embd) != (theirs.n_layer, theirs.n_embd) {
            return None;
        }
        let by_layer: Vec<Option<f64>> =
            (0..ours.n_layer).map(|l| cosine(ours.at(l, 0), theirs.at(l, 0))).collect();
        let apart = original.separation.iter().enumerate().filter(|(_, x)| x.is_finite());
        let (layer, _) = apart.max_by(|(_, a), (_, b)| a.total_cmp(b))?;
        Some(DirectionShift { layer, cosine: by_layer[layer], by_layer })
    }

    /// The layer whose cosine is lowest, and that cosine.
    pub fn lowest(&self) -> Option<(usize, f64)> {
        let cosines = self.by_layer.iter().enumerate().filter_map(|(l, x)| Some((l, (*x)?)));
        cosines.min_by(|(_, a), (_, b)| a.total_cmp(b))
    }
}
