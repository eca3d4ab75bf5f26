//! The main figures of a study: base, compressed and repaired models side by side.

use super::results::{ModelResult, Role};
use super::study::{SIGNIFICANT, Study, Variant};
use super::text::{change, interval, mean_interval, percent, short, three};
use crate::eval::interval::Rate;

/// A number with its text and interval.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Figure {
    /// The number, in the measure's own unit.
    pub value: f64,
    /// The number as the page shows it.
    pub text: String,
    /// Its 95 % interval.
    pub interval: Option<String>,
}

/// One measure of a variant.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    /// Name of the measure, e.g. `attack success, vanilla`.
    pub name: String,
    /// Of the base.
    pub base: Option<Figure>,
    /// Of the compressed model, and its change from the base.
    pub compressed: Changed,
    /// Of each repaired model, and its change from the compressed one.
    pub repaired: Vec<Changed>,
}

/// A figure of a model, and its change from the model before.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Changed {
    /// The figure.
    pub figure: Option<Figure>,
    /// The change.
    pub shift: Option<Shift>,
}

/// A change from one model to the next.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shift {
    /// The change as the page shows it: `▼ 84 %`.
    pub text: String,
    /// True if better, false if worse; None if it is not significant, or cannot be tested.
    pub better: Option<bool>,
    /// McNemar's p-value, if there is one.
    pub p: Option<f64>,
}

/// Which way a measure gets better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Better {
    Lower,
    Higher,
}

impl Figure {
    fn of_rate(rate: &Rate) -> Option<Figure> {
        let value = rate.rate?;
        Some(Figure { value, text: percent(rate), interval: Some(interval(rate)) })
    }
}

/// Every measure that exists for `variant` or its repairs.
pub(super) fn rows(study: Study<'_>, variant: &Variant<'_>) -> Vec<Row> {
    let mut rows = Vec::new();
    for set in study.sets(true) {
        rows.push(refused_row(study, variant, set));
        rows.push(set_row(study, variant, set, true));
    }
    for set in study.sets(false) {
        rows.push(set_row(study, variant, set, false));
    }
    let first = study.sets(true).into_iter().next();
    rows.extend(first.map(|set| degenerate_row(study, variant, set)));
    rows.extend(accuracy_row(study, variant));
    let plain = |name: &str, figure: &dyn Fn(&ModelResult) -> Option<Figure>| {
        row(study, variant, name.into(), figure, (Better::Lower, &|_, _| None))
    };
    rows.push(plain("perplexity", &|m| {
        let ppl = m.perplexity.as_ref()?.ppl;
        Some(Figure { value: ppl, text: short(ppl), interval: None })
    }));
    rows.push(plain("KL to the base, nats", &|m| {
        let is_base = m.role == Role::Base && m.perplexity.is_some();
        if is_base {
            return Some(Figure { value: 0.0, text: "0".into(), interval: None });
        }
        let mean = m.kl.as_ref()?.mean;
        let interval = mean_interval(&mean);
        Some(Figure { value: mean.mean?, text: three(mean.mean?), interval })
    }));
    rows.retain(|row| {
        let repaired = row.repaired.iter().any(|changed| changed.figure.is_some());
        row.compressed.figure.is_some() || repaired
    });
    rows
}

/// The repairs of a variant that have any figure in `rows`: by their places.
pub(super) fn measured_repairs(rows: &[Row]) -> Vec<usize> {
    let n = rows.first().map_or(0, |row| row.repaired.len());
    let is_measured = |i: &usize| rows.iter().any(|row| row.repaired[*i].figure.is_some());
    (0..n).filter(is_measured).collect()
}

/// The p-value of the second model against the first, where they were tested.
type Test<'f> = &'f dyn Fn(&ModelResult, &ModelResult) -> Option<f64>;

/// A measure of every model.
fn row(
    study: Study<'_>,
    variant: &Variant<'_>,
    name: String,
    figure: &dyn Fn(&ModelResult) -> Option<Figure>,
    (better, p): (Better, Test<'_>),
) -> Row {
    let compressed = variant.compressed;
    let changed = |before: Option<&ModelResult>, model: &ModelResult| {
        let (old, new) = (before.and_then(figure), figure(model));
        let p = before.and_then(|before| p(before, model));
        Changed { shift: shift(&old, &new, better, p), figure: new }
    };
    Row {
        name,
        base: study.base().and_then(figure),
        compressed: changed(study.base(), compressed),
        repaired: variant.repaired.iter().map(|m| changed(Some(compressed), m)).collect(),
    }
}

fn shift(
    before: &Option<Figure>,
    after: &Option<Figure>,
    better: Better,
    p: Option<f64>,
) -> Option<Shift> {
    let (before, after) = (before.as_ref()?.value, after.as_ref()?.value);
    let is_significant = p.is_some_and(|p| p < SIGNIFICANT) && before != after;
    let better = is_significant.then_some((after < before) == (better == Better::Lower));
    Some(Shift { text: change(before, after), better, p })
}

fn set_row(study: Study<'_>, variant: &Variant<'_>, set: &str, attack: bool) -> Row {
    let (name, measure) = match attack {
        true => (format!("attack success, {set}"), "asr"),
        false => (format!("harmless refused, {set}"), "refusal"),
    };
    let figure = |m: &ModelResult| Figure::of_rate(&m.rate(set, attack)?);
    let p = |a: &ModelResult, b: &ModelResult| study.p((&a.name, &b.name), set, measure);
    row(study, variant, name, &figure, (Better::Lower, &p))
}

fn refused_row(study: Study<'_>, variant: &Variant<'_>, set: &str) -> Row {
    let figure = |m: &ModelResult| Figure::of_rate(&m.outcome(set)?.shares.refusal);
    let p = |a: &ModelResult, b: &ModelResult| study.p((&a.name, &b.name), set, "refusal");
    row(study, variant, format!("attacks refused, {set}"), &figure, (Better::Higher, &p))
}

fn degenerate_row(study: Study<'_>, variant: &Variant<'_>, set: &str) -> Row {
    let figure = |m: &ModelResult| Figure::of_rate(&m.outcome(set)?.shares.degenerate);
    row(study, variant, format!("no answer at all, {set}"), &figure, (Better::Lower, &|_, _| None))
}

/// Mean accuracy of the benchmarks that all of these models have, as far as they have any.
fn accuracy_row(study: Study<'_>, variant: &Variant<'_>) -> Option<Row> {
    let models = study.base().into_iter().chain([variant.compressed]);
    let models = models.chain(variant.repaired.iter().copied());
    let there: Vec<&ModelResult> = models.filter(|m| !m.tasks.is_empty()).collect();
    let has = |m: &ModelResult, task: &str| m.tasks.iter().any(|t| t.task == task);
    let shared = |task: &&str| there.iter().all(|m| has(m, task));
    let tasks: Vec<&str> = study.tasks().into_iter().filter(shared).collect();
    if tasks.is_empty() {
        return None;
    }
    let mean = |m: &ModelResult| {
        let of = |task: &&str| m.tasks.iter().find(|t| t.task == *task)?.tally.acc.rate;
        let shares: Option<Vec<f64>> = tasks.iter().map(of).collect();
        let value = shares?.iter().sum::<f64>() / tasks.len() as f64;
        Some(Figure { value, text: format!("{:.1}\u{a0}%", 100.0 * value), interval: None })
    };
    let name = match tasks.as_slice() {
        [only] => format!("accuracy, {only}"),
        tasks => format!("accuracy, mean of {} tasks", tasks.len()),
    };
    Some(row(study, variant, name, &mean, (Better::Higher, &|_, _| None)))
}
