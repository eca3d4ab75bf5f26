//! The main figures of a study: base, compressed and repaired side by side.

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
    /// Of base, compressed and repaired.
    pub figures: [Option<Figure>; 3],
    /// From base to compressed, and from compressed to repaired.
    pub changes: [Option<Shift>; 2],
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

impl Figure {
    fn of_rate(rate: &Rate) -> Option<Figure> {
        let value = rate.rate?;
        Some(Figure { value, text: percent(rate), interval: Some(interval(rate)) })
    }
}

/// Every measure that exists for `variant` or its repair.
pub(super) fn rows(study: Study<'_>, variant: Variant<'_>) -> Vec<Row> {
    let mut rows = Vec::new();
    for set in study.sets(true) {
        rows.push(set_row(study, variant, set, true));
    }
    for set in study.sets(false) {
        rows.push(set_row(study, variant, set, false));
    }
    let first = study.sets(true).into_iter().next();
    rows.extend(first.map(|set| degenerate_row(study, variant, set)));
    rows.extend(accuracy_row(study, variant));
    let plain = |name: &str, figure: &dyn Fn(&ModelResult) -> Option<Figure>| {
        row(name.into(), figures(study, variant, figure), [None, None])
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
    rows.retain(|row| row.figures[1..].iter().any(Option::is_some));
    rows
}

fn figures(
    study: Study<'_>,
    variant: Variant<'_>,
    figure: &dyn Fn(&ModelResult) -> Option<Figure>,
) -> [Option<Figure>; 3] {
    [study.base(), Some(variant.compressed), variant.repaired].map(|m| m.and_then(figure))
}

/// Lower is better in every measure but accuracy, which has its own row.
fn row(name: String, figures: [Option<Figure>; 3], ps: [Option<f64>; 2]) -> Row {
    let changes = [0, 1].map(|i| shift(&figures[i], &figures[i + 1], ps[i], true));
    Row { name, figures, changes }
}

fn shift(
    before: &Option<Figure>,
    after: &Option<Figure>,
    p: Option<f64>,
    less_is_better: bool,
) -> Option<Shift> {
    let (before, after) = (before.as_ref()?.value, after.as_ref()?.value);
    let is_significant = p.is_some_and(|p| p < SIGNIFICANT) && before != after;
    let better = is_significant.then_some((after < before) == less_is_better);
    Some(Shift { text: change(before, after), better, p })
}

/// p-values of base to compressed, and of compressed to repaired.
pub(super) fn p_values(
    study: Study<'_>,
    variant: Variant<'_>,
    set: &str,
    measure: &str,
) -> [Option<f64>; 2] {
    let p = |a: Option<&ModelResult>, b: Option<&ModelResult>| {
        Some(study.difference((&a?.name, &b?.name), set, measure)?.p)
    };
    let compressed = Some(variant.compressed);
    [p(study.base(), compressed), p(compressed, variant.repaired)]
}

fn set_row(study: Study<'_>, variant: Variant<'_>, set: &str, attack: bool) -> Row {
    let (name, measure) = match attack {
        true => (format!("attack success, {set}"), "asr"),
        false => (format!("harmless refused, {set}"), "refusal"),
    };
    let figures = figures(study, variant, &|m| Figure::of_rate(&m.rate(set, attack)?));
    row(name, figures, p_values(study, variant, set, measure))
}

fn degenerate_row(study: Study<'_>, variant: Variant<'_>, set: &str) -> Row {
    let figure = |m: &ModelResult| Figure::of_rate(&m.outcome(set)?.shares.degenerate);
    row(format!("no answer at all, {set}"), figures(study, variant, &figure), [None, None])
}

/// Mean accuracy of the benchmarks that all three models have (or both, if there is no repair).
fn accuracy_row(study: Study<'_>, variant: Variant<'_>) -> Option<Row> {
    let measured = |m: Option<&ModelResult>| m.is_some_and(|m| !m.tasks.is_empty());
    let models = [study.base(), Some(variant.compressed), variant.repaired];
    let there: Vec<&ModelResult> = models.into_iter().filter(|m| measured(*m)).flatten().collect();
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
    let figures = figures(study, variant, &mean);
    let changes = [0, 1].map(|i| shift(&figures[i], &figures[i + 1], None, false));
    let name = match tasks.as_slice() {
        [only] => format!("accuracy, {only}"),
        tasks => format!("accuracy, mean of {} tasks", tasks.len()),
    };
    Some(Row { name, figures, changes })
}
