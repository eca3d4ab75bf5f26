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
    /// The judge that counts; for benign sets each outcome names its own.
    pub judge: String,
    /// The harmful prompts; null without attacks.
    pub prompts: Option<PromptsReport>,
    /// The prompts of every attack and benign set, by its name.
    #[serde(serialize_with = "as_map")]
    pub sets: Vec<(String, PromptsReport)>,
    /// What adv-suffix puts behind them; null without it.
    pub suffixes: Option<PromptsReport>,
    /// How answers were made.
    pub settings: SettingsReport,
    /// What was done to the models meanwhile.
    pub interventions: InterventionsReport,
    /// In the order of the command line.
    pub models: Vec<ModelReport>,
    /// Each further model against the first, and from the third on against the one before it.
    pub differences: Vec<Difference>,
    /// What --fail-if found, for every model.
    pub gates: Vec<GateReport>,
}

/// A set of prompts, or of suffixes.
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
    pub gpu_layers: u32,
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
    /// Of the source of the chat template that it was asked through.
    pub template_sha256: String,
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
    /// What it would be if all that was not answered or judged were as bad as can be: that decides.
    pub worst: Option<f64>,
    /// True if the condition holds.
    pub failed: bool,
}

fn as_map<S: Serializer, T: Serialize>(
    named: &[(String, T)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(named.len()))?;
    for (name, value) in named {
        map.serialize_entry(name, value)?;
    }
    map.end()
}

impl GateReport {
    /// What failed, in a sentence.
    pub fn text(&self) -> String {
        let text = |value: Option<f64>| value.map_or("not measured".into(), |x| format!("{x:.3}"));
        let (value, worst) = (text(self.value), text(self.worst));
        let counted = match value == worst {
            true => String::new(),
            false => format!(", {worst} with what has no answer or no verdict counted as worst"),
        };
        format!("--fail-if '{}' holds for {}: {value}{counted}", self.condition, self.model)
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
    /// A row a figure, a column a model; then the differences. `tells_refusal` says whether the
    /// judge that counts knows refusals, or what is safe alone.
    pub fn text(&self, verbose: bool, tells_refusal: bool) -> String {
        let mut rows = vec![vec![format!("judge: {}", self.judge)]];
        rows[0].extend(self.models.iter().map(|model| model.name.clone()));
        let Some(first) = self.models.first() else { return String::new() };
        for (set, _) in &first.attacks {
            self.attack_rows(set, tells_refusal, &mut rows);
        }
        for (set, _) in &first.benign {
            self.benign_rows(set, &mut rows);
        }
        let mut text = table(&rows, &[], "");
        text += &self.differences_text();
        for gate in self.gates.iter().filter(|gate| gate.failed) {
            text += &format!("{}\n", gate.text());
        }
        let agreement = if verbose { agreement_table } else { agreement_line };
        self.models.iter().for_each(|model| text += &agreement(model));
        text
    }

    fn outcomes(&self, set: &str) -> Vec<&Outcome> {
        self.models.iter().filter_map(|m| m.outcome(set)).collect()
    }

    fn attack_rows(&self, set: &str, tells_refusal: bool, rows: &mut Vec<Vec<String>>) {
        let outcomes = self.outcomes(set);
        rows.push(row(set, &outcomes, |o| format!("ASR {}", rate_text(&o.shares.asr))));
        if outcomes.iter().any(|o| o.mean.is_some()) {
            let suffixes = outcomes.iter().any(|o| !o.by_suffix.is_empty());
            let name = format!("  mean of {}", if suffixes { "suffixes" } else { "samples" });
            let text = |o: &Outcome| o.mean.as_ref().map_or_else(String::new, mean_text);
            rows.push(row(&name, &outcomes, text));
        }
        let name = if tells_refusal { "  refusal" } else { "  safe" };
        rows.push(row(name, &outcomes, |o| rate_text(&o.shares.refusal)));
        rows.extend(last_rows(&outcomes));
    }

    fn benign_rows(&self, set: &str, rows: &mut Vec<Vec<String>>) {
        let outcomes = self.outcomes(set);
        let own = outcomes.first().map(|o| &o.judge).filter(|judge| **judge != self.judge);
        let name = own.map_or(set.to_owned(), |judge| format!("{set} (judge: {judge})"));
        rows.push(row(&name, &outcomes, |o| format!("refusal {}", rate_text(&o.shares.refusal))));
        rows.push(row("  compliance", &outcomes, |o| rate_text(&o.shares.compliance)));
        rows.extend(last_rows(&outcomes));
    }

    fn differences_text(&self) -> String {
        if self.differences.is_empty() {
            return String::new();
        }
        let head = ["model", "against", "prompts that count", "", "more", "fewer", "p"];
        let mut rows = vec![head.map(String::from).to_vec()];
        for d in &self.differences {
            rows.push(vec![
                d.model.clone(),
                d.base.clone(),
                format!("{} {}", d.set, d.measure),
                format!("{} -> {}", short_text(&d.base_rate), short_text(&d.rate)),
                d.more.to_string(),
                d.fewer.to_string(),
                p_text(d.p),
            ]);
        }
        format!(
            "\n{}asr: an answer complies, of suffixes one to the model's best; refusal: an answer \
             refuses\n",
            table(&rows, &[4, 5, 6], "")
        )
    }
}

/// A cell for each model.
fn row(name: &str, outcomes: &[&Outcome], cell: impl Fn(&Outcome) -> String) -> Vec<String> {
    let cells = outcomes.iter().map(|outcome| cell(outcome));
    [name.to_owned()].into_iter().chain(cells).collect()
}

/// What is no answer, and where there is none.
fn last_rows(outcomes: &[&Outcome]) -> Vec<Vec<String>> {
    let mut rows = vec![row("  degenerate", outcomes, |o| rate_text(&o.shares.degenerate))];
    if outcomes.iter().any(|o| o.errors > 0) {
        rows.push(row("  not answered", outcomes, |o| o.errors.to_string()));
    }
    if outcomes.iter().any(|o| o.undecided > 0) {
        rows.push(row("  no verdict", outcomes, |o| o.undecided.to_string()));
    }
    rows
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
    let Some(value) = mean.mean else { return "-".into() };
    match (mean.low, mean.high) {
        (Some(low), Some(high)) => {
            format!("{} % [{}-{}]", percent(value), percent(low), percent(high))
        }
        _ => format!("{} %", percent(value)),
    }
}

fn p_text(p: f64) -> String {
    if p < 0.0001 { "< 0.0001".into() } else { format!("{p:.4}") }
}

/// `base: default and paper agree on 71 % of 100 answers to attacks`.
fn agreement_line(model: &ModelReport) -> String {
    let agreement = &model.agreement;
    let [first, others @ ..] = &agreement.judges[..] else { return String::new() };
    let shares = agreement.matrix.first().map(|row| &row[1..]).unwrap_or_default();
    let pair = |(other, share): (&String, &Option<f64>)| {
        let percent = (100.0 * (*share)?).round();
        Some(format!("{first} and {other} agree on {percent} %"))
    };
    let pairs: Vec<String> = others.iter().zip(shares).filter_map(pair).collect();
    match pairs.is_empty() {
        true => String::new(),
        false => {
            let (name, n) = (&model.name, agreement.n);
            format!("{name}: {} of {n} answers to attacks (-v: all judges)\n", pairs.join(", "))
        }
    }
}

/// How far judges agree on compliance, a row a judge.
fn agreement_table(model: &ModelReport) -> String {
    let agreement = &model.agreement;
    let mut rows = vec![vec![format!("agreement, {}, n = {}", model.name, agreement.n)]];
    rows[0].extend(agreement.judges.iter().cloned());
    for (judge, shares) in agreement.judges.iter().zip(&agreement.matrix) {
        let cells = shares.iter().map(|x| x.map_or("-".into(), |x| format!("{x:.2}")));
        rows.push([judge.clone()].into_iter().chain(cells).collect());
    }
    format!("\n{}", table(&rows, &[], ""))
}
