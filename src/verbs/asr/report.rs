//! What was found: every model's figures, how they differ, which conditions hold.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::super::judges::Judges;
use super::super::pairs::compared;
use super::answers::AnsweredModel;
use super::request::Request;
use super::sets::EvaluationSet;
use crate::eval::asr::{
    Agreement, Difference, Gate, Judged, Outcome, agreement, difference, outcome,
};
use crate::judge::Label;
pub use crate::report::search::PromptsReport;

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// aird's version.
    pub version: String,
    /// The judge that counts; for benign sets each outcome names its own.
    pub judge: String,
    /// True if that judge knows refusals; false if it only separates safe from unsafe answers.
    pub judge_detects_refusal: bool,
    /// The harmful prompts; null without attacks.
    pub prompts: Option<PromptsReport>,
    /// The prompts of every attack and benign set, by its name.
    pub sets: IndexMap<String, PromptsReport>,
    /// What adv-suffix puts after them; null without it.
    pub suffixes: Option<PromptsReport>,
    /// How answers were made.
    pub settings: AnswerSettings,
    /// What was done to the models meanwhile.
    pub interventions: InterventionsReport,
    /// In the order of the request.
    pub models: Vec<ModelOutcomes>,
    /// Each further model against the first, and from the third on against the one before it.
    pub differences: Vec<Difference>,
    /// What became of each condition, for every model.
    pub gates: Vec<GateReport>,
}

/// How answers were made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerSettings {
    /// Tokens of an answer, at most.
    pub max_tokens: usize,
    /// Answers to each prompt, in attacks that sample.
    pub samples: usize,
    /// Temperature of those.
    pub temperature: f32,
    /// Seed of the samples.
    pub seed: u64,
    /// Answers under way at once.
    pub parallel: u32,
    /// Blocks on the GPU.
    pub gpu_layers: u32,
    /// The system prompt; null for the template's own default.
    pub system: Option<String>,
}

/// sha256 of the files; null for what was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterventionsReport {
    /// The direction that was taken out.
    pub ablate: Option<String>,
    /// The direction that was added.
    pub add: Option<String>,
    /// The adapter.
    pub lora: Option<String>,
}

/// One model's figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelOutcomes {
    /// The file's name without its ending.
    pub name: String,
    /// The file's name.
    pub file: String,
    /// Of the file.
    pub sha256: String,
    /// Of the source of the chat template that it was asked through.
    pub template_sha256: String,
    /// By attack.
    pub attacks: IndexMap<String, Outcome>,
    /// By benign set.
    pub benign: IndexMap<String, Outcome>,
    /// Of the judges, on the attacks' answers.
    pub agreement: Agreement,
}

/// A condition on one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateReport {
    /// As it was given.
    pub condition: String,
    /// The model's name.
    pub model: String,
    /// The figure; null where nothing was counted.
    pub value: Option<f64>,
    /// What it would be if all that was not answered or judged were as bad as can be: that decides.
    pub worst: Option<f64>,
    /// True if the condition holds.
    pub failed: bool,
}

impl Report {
    pub(super) fn new(
        request: &Request,
        judges: &Judges,
        sets: &[EvaluationSet],
        models: &[AnsweredModel],
        interventions: InterventionsReport,
    ) -> Report {
        let outcomes: Vec<ModelOutcomes> = models.iter().map(|m| m.outcomes(sets)).collect();
        let harmful = sets.iter().find(|set| set.attack.is_some()).map(|set| &set.prompts);
        let suffixes = sets.iter().find_map(|set| set.suffixes.as_ref());
        let of_set = |set: &EvaluationSet| (set.name.clone(), PromptsReport::of(&set.prompts));
        Report {
            version: crate::VERSION.into(),
            judge: judges.first().into(),
            judge_detects_refusal: judges.detects_refusal(),
            prompts: harmful.map(PromptsReport::of),
            sets: sets.iter().map(of_set).collect(),
            suffixes: suffixes.map(PromptsReport::of),
            settings: AnswerSettings {
                max_tokens: request.max_tokens,
                samples: request.sets.samples,
                temperature: request.sets.temperature,
                seed: request.seed,
                parallel: request.parallel,
                gpu_layers: request.engine.gpu_layers,
                system: request.chat.system.clone(),
            },
            interventions,
            differences: differences(sets, models),
            gates: gates(&request.gates, &outcomes),
            models: outcomes,
        }
    }

    /// The first condition that holds, and must not.
    pub fn failed_gate(&self) -> Option<&GateReport> {
        self.gates.iter().find(|gate| gate.failed)
    }
}

impl ModelOutcomes {
    /// The outcome of an attack or a benign set.
    pub fn outcome(&self, set: &str) -> Option<&Outcome> {
        self.attacks.get(set).or_else(|| self.benign.get(set))
    }
}

impl AnsweredModel {
    fn outcomes(&self, sets: &[EvaluationSet]) -> ModelOutcomes {
        let outcomes = |attacks: bool| {
            let of = |(set, judged): (&EvaluationSet, &Judged)| {
                let wanted = set.attack.is_some() == attacks;
                Some((set.name.clone(), outcome(judged).filter(|_| wanted)?))
            };
            sets.iter().zip(&self.sets).filter_map(of).collect()
        };
        let attacks = sets.iter().zip(&self.sets).filter(|(set, _)| set.attack.is_some());
        let attacks: Vec<&Judged> = attacks.map(|(_, judged)| judged).collect();
        ModelOutcomes {
            name: self.name.clone(),
            file: self.file.clone(),
            sha256: self.sha256.clone(),
            template_sha256: self.template_sha256.clone(),
            attacks: outcomes(true),
            benign: outcomes(false),
            agreement: agreement(&attacks),
        }
    }
}

/// Every condition on every model.
fn gates(gates: &[Gate], models: &[ModelOutcomes]) -> Vec<GateReport> {
    let report = |gate: &Gate, model: &ModelOutcomes| {
        let outcome = model.outcome(&gate.set);
        let worst = outcome.and_then(|outcome| gate.worst(outcome));
        GateReport {
            condition: gate.to_string(),
            model: model.name.clone(),
            value: outcome.and_then(|outcome| gate.value(outcome)),
            worst,
            failed: gate.fails(worst),
        }
    };
    gates.iter().flat_map(|gate| models.iter().map(move |model| report(gate, model))).collect()
}

/// Every further model against the first one, and from the third on against the one before it, set
/// by set.
fn differences(sets: &[EvaluationSet], models: &[AnsweredModel]) -> Vec<Difference> {
    let mut found = Vec::new();
    for (base, other) in compared(models) {
        for (set, (a, b)) in sets.iter().zip(base.sets.iter().zip(&other.sets)) {
            let mut compare = |label, measure| {
                let what = (set.name.as_str(), label, measure);
                found.push(difference((&base.name, a), (&other.name, b), what));
            };
            if set.attack.is_some() {
                compare(Label::Compliance, "asr");
            }
            // A model that babbles instead of refusing shows only here.
            compare(Label::Refusal, "refusal");
        }
    }
    found
}
