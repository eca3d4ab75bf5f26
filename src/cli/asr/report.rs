//! `aird asr`'s report in print: tables.

use super::super::agreement::agreement_text;
use super::super::text::{counted, failed_text, rate_text, seconds_text, table};
use crate::eval::asr::Outcome;
use crate::eval::interval::{Mean, Rate, p_value};
use crate::verbs::asr::{GateReport, ModelOutcomes, PlanReport, Report};

impl PlanReport {
    /// What would be asked, and for how long.
    pub(super) fn text(&self) -> String {
        let max_tokens = counted(self.max_tokens, "token");
        let asked = format!(
            "would ask {} and make {}, of {max_tokens} at most; the prompts have {}\n",
            counted(self.n_prompts, "prompt"),
            counted(self.n_answers, "answer"),
            counted(self.prompt_tokens, "token"),
        );
        let time = match self.estimated_seconds {
            None => "how long a judge model takes is not estimated\n".into(),
            Some(seconds) => format!(
                "it would take {} here at most, less where answers end before {max_tokens}\n",
                seconds_text(seconds)
            ),
        };
        asked + &time
    }
}

/// What failed, in a sentence.
pub(super) fn gate_text(gate: &GateReport) -> String {
    failed_text(&gate.condition, &gate.model, [gate.value, gate.worst])
}

impl Report {
    /// A row a figure, a column a model; then the differences.
    pub(super) fn text(&self, verbose: bool) -> String {
        let mut rows = vec![vec![format!("judge: {}", self.judge)]];
        rows[0].extend(self.models.iter().map(|model| model.name.clone()));
        let Some(first) = self.models.first() else { return String::new() };
        for set in first.attacks.keys() {
            self.attack_rows(set, &mut rows);
        }
        for set in first.benign.keys() {
            self.benign_rows(set, &mut rows);
        }
        let mut text = table(&rows, &[], "");
        text += &self.differences_text();
        for gate in self.gates.iter().filter(|gate| gate.failed) {
            text += &format!("{}\n", gate_text(gate));
        }
        for ModelOutcomes { name, agreement, .. } in &self.models {
            text += &agreement_text(name, agreement, "answers to attacks", verbose);
        }
        text
    }

    fn outcomes(&self, set: &str) -> Vec<&Outcome> {
        self.models.iter().filter_map(|m| m.outcome(set)).collect()
    }

    fn attack_rows(&self, set: &str, rows: &mut Vec<Vec<String>>) {
        let outcomes = self.outcomes(set);
        rows.push(row(set, &outcomes, |o| format!("ASR {}", rate_text(&o.shares.asr))));
        if outcomes.iter().any(|o| o.mean.is_some()) {
            let suffixes = outcomes.iter().any(|o| !o.by_suffix.is_empty());
            let name = format!("  mean of {}", if suffixes { "suffixes" } else { "samples" });
            let text = |o: &Outcome| o.mean.as_ref().map_or_else(String::new, mean_text);
            rows.push(row(&name, &outcomes, text));
        }
        let name = if self.judge_detects_refusal { "  refusal" } else { "  safe" };
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
                p_value(d.p),
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

/// Degenerate answers, and answers that are missing.
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
