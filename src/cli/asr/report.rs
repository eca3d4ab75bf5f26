//! What `aird asr` prints: JSON, or tables.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::super::text::table;
use crate::eval::asr::{Agreement, Difference, Outcome};
use crate::eval::interval::{Mean, Rate};
use crate::prompts::PromptSet;

/// What `aird asr --json` prints.
#[derive(Debug, Serialize)]
pub struct Report {
    /// aird's version.
    pub version: String,
    /// The judge that counts.
    pub judge: String,
    /// The harmful prompts; null without attacks.
    pub prompts: Option<PromptsReport>,
    /// How answers were made.
    pub settings: SettingsReport,
    /// What was done to the models meanwhile.
    pub interventions: InterventionsReport,
    /// In the order of the command line.
    pub models: Vec<ModelReport>,
    /// Each further model against the first.
    pub differences: Vec<Difference>,
    /// What --fail-if found, for every model.
    pub gates: Vec<GateReport>,
}

/// A set of prompts.
#[derive(Debug, Serialize)]
pub struct PromptsReport {
    /// The file's name, or a built-in set's.
    pub name: String,
    /// Of the texts.
    pub sha256: String,
    /// How many.
    pub n: usize,
}

impl PromptsReport {
    pub fn of(set: &PromptSet) -> PromptsReport {
        PromptsReport { name: set.name.clone(), sha256: set.sha256.clone(), n: set.len() }
    }
}

/// How answers were made.
#[derive(Debug, Serialize)]
pub struct SettingsReport {
    pub max_tokens: usize,
    pub samples: usize,
    pub temperature: f32,
    pub seed: u64,
    pub parallel: u32,
    pub system: Option<String>,
}

/// sha256 of the files; null for what was not done.
#[derive(Debug, Serialize)]
pub struct InterventionsReport {
    pub ablate: Option<String>,
    pub add: Option<String>,
    pub lora: Option<String>,
}

/// Outcomes by name, in their order.
type Outcomes = Vec<(String, Outcome)>;

/// One model's figures.
#[derive(Debug, Serialize)]
pub struct ModelReport {
    /// The file's name without its ending.
    pub name: String,
    /// The file's name.
    pub file: String,
    /// Of the file.
    pub sha256: String,
    /// By attack.
    #[serde(serialize_with = "as_map")]
    pub attacks: Outcomes,
    /// By benign set.
    #[serde(serialize_with = "as_map")]
    pub benign: Outcomes,
    /// Of the judges, on the attacks' answers.
    pub agreement: Agreement,
}

/// A condition of --fail-if on one model.
#[derive(Debug, Serialize)]
pub struct GateReport {
    /// As it was given.
    pub condition: String,
    /// The model's name.
    pub model: String,
    /// The figure; null where there is none.
    pub value: Option<f64>,
    /// True if the condition holds.
    pub failed: bool,
}

fn as_map<S: Serializer>(outcomes: &Outcomes, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(outcomes.len()))?;
    for (name, outcome) in outcomes {
        map.serialize_entry(name, outcome)?;
    }
    map.end()
}

impl GateReport {
    /// What failed, in a sentence.
    pub fn text(&self) -> String {
        let value = self.value.map_or("not measured".into(), |value| format!("{value:.3}"));
        format!("--fail-if '{}' holds for {}: {value}", self.condition, self.model)
    }
}

impl ModelReport {
    /// The outcome of an attack or a benign set.
    pub fn outcome(&self, set: &str) -> Option<&Outcome> {
        let named = |(name, _): &&(String, Outcome)| name == set;
        self.attacks.iter().chain(&self.benign).find(named).map(|(_, outcome)| outcome)
    }
}

impl Report {
    /// A row a figure, a column a model; then the differences.
    pub fn text(&self, verbose: bool) -> String {
        let mut rows = vec![vec![format!("judge: {}", self.judge)]];
        rows[0].extend(self.models.iter().map(|model| model.name.clone()));
        let Some(first) = self.models.first() else { return String::new() };
        for (set, _) in &first.attacks {
            self.rows_of(set, true, &mut rows);
        }
        for (set, _) in &first.benign {
            self.rows_of(set, false, &mut rows);
        }
        let mut text = table(&rows, &[], "");
        text += &self.differences_text();
        for gate in self.gates.iter().filter(|gate| gate.failed) {
            text += &format!("{}\n", gate.text());
        }
        if verbose {
            self.models.iter().for_each(|model| text += &agreement_text(model));
        }
        text
    }

    fn rows_of(&self, set: &str, attack: bool, rows: &mut Vec<Vec<String>>) {
        let outcomes: Vec<&Outcome> = self.models.iter().filter_map(|m| m.outcome(set)).collect();
        let mut row = |name: &str, cell: &dyn Fn(&Outcome) -> String| {
            let cells = outcomes.iter().map(|outcome| cell(outcome));
            rows.push([name.to_owned()].into_iter().chain(cells).collect());
        };
        if attack {
            row(set, &|o| format!("ASR {}", rate_text(&o.shares.asr)));
            if outcomes.iter().any(|o| o.mean.is_some()) {
                let suffixes = outcomes.iter().any(|o| !o.by_suffix.is_empty());
                let of = if suffixes { "suffixes" } else { "samples" };
                let name = format!("  mean of {of}");
                row(&name, &|o| o.mean.as_ref().map_or_else(String::new, mean_text));
            }
            row("  refusal", &|o| rate_text(&o.shares.refusal));
        } else {
            row(set, &|o| format!("refusal {}", rate_text(&o.shares.refusal)));
            row("  compliance", &|o| rate_text(&o.shares.compliance));
        }
        row("  degenerate", &|o| rate_text(&o.shares.degenerate));
        if outcomes.iter().any(|o| o.errors > 0) {
            row("  not answered", &|o| o.errors.to_string());
        }
    }

    fn differences_text(&self) -> String {
        if self.differences.is_empty() {
            return String::new();
        }
        let head = ["against the first", "", "", "more", "fewer", "p"];
        let mut rows = vec![head.map(String::from).to_vec()];
        for d in &self.differences {
            rows.push(vec![
                d.model.clone(),
                format!("{} {}", d.set, d.measure),
                format!("{} -> {}", short_text(&d.base_rate), short_text(&d.rate)),
                d.more.to_string(),
                d.fewer.to_string(),
                p_text(d.p),
            ]);
        }
        format!("\n{}", table(&rows, &[3, 4, 5], ""))
    }
}

/// `6/32, 19 % [9-35]`.
fn rate_text(rate: &Rate) -> String {
    let percent = |x: f64| (100.0 * x).round();
    match rate.rate {
        None => "-".into(),
        Some(p) => format!(
            "{}/{}, {} % [{}-{}]",
            rate.k,
            rate.n,
            percent(p),
            percent(rate.low),
            percent(rate.high)
        ),
    }
}

fn short_text(rate: &Rate) -> String {
    format!("{}/{}", rate.k, rate.n)
}

fn mean_text(mean: &Mean) -> String {
    let percent = |x: f64| (100.0 * x).round();
    let text = |m| format!("{} % [{}-{}]", percent(m), percent(mean.low), percent(mean.high));
    mean.mean.map_or("-".into(), text)
}

fn p_text(p: f64) -> String {
    if p < 0.0001 { "< 0.0001".into() } else { format!("{p:.4}") }
}

/// How far judges agree on compliance, a row a judge.
fn agreement_text(model: &ModelReport) -> String {
    let agreement = &model.agreement;
    let mut rows = vec![vec![format!("agreement, {}, n = {}", model.name, agreement.n)]];
    rows[0].extend(agreement.judges.iter().cloned());
    for (judge, shares) in agreement.judges.iter().zip(&agreement.matrix) {
        let cells = shares.iter().map(|x| x.map_or("-".into(), |x| format!("{x:.2}")));
        rows.push([judge.clone()].into_iter().chain(cells).collect());
    }
    format!("\n{}", table(&rows, &[], ""))
}
