//! How far judges agree, in print.

use super::text::table;
use crate::eval::asr::Agreement;

/// A line on the agreement about `name`, whose answers are `what`; if `verbose` a table.
pub(super) fn agreement_text(
    name: &str,
    agreement: &Agreement,
    what: &str,
    verbose: bool,
) -> String {
    match (agreement.judges.is_empty(), verbose) {
        (true, _) => String::new(),
        (false, true) => in_table(name, agreement),
        (false, false) => in_line(name, agreement, what),
    }
}

/// `base: default and paper agree on 71 % of 100 answers to attacks, compliance or not; on all
/// three labels alpha is 0.42`.
fn in_line(name: &str, agreement: &Agreement, what: &str) -> String {
    let [first, others @ ..] = &agreement.judges[..] else { return String::new() };
    let shares = agreement.matrix.first().map(|row| &row[1..]).unwrap_or_default();
    let pair = |(other, share): (&String, &Option<f64>)| {
        let percent = (100.0 * (*share)?).round();
        Some(format!("{first} and {other} agree on {percent} %"))
    };
    let pairs: Vec<String> = others.iter().zip(shares).filter_map(pair).collect();
    if pairs.is_empty() {
        return String::new();
    }
    let on_labels = |alpha: f64| format!("; on all three labels alpha is {alpha:.2}");
    let alpha = agreement.alpha.map_or_else(String::new, on_labels);
    let (pairs, n) = (pairs.join(", "), agreement.n);
    format!("{name}: {pairs} of {n} {what}, compliance or not{alpha} (-v: all judges)\n")
}

/// How far judges agree on compliance, a row a judge; then Krippendorff's alpha of all.
fn in_table(name: &str, agreement: &Agreement) -> String {
    let mut rows = vec![vec![format!("compliance or not, {name}, n = {}", agreement.n)]];
    rows[0].extend(agreement.judges.iter().cloned());
    for (judge, shares) in agreement.judges.iter().zip(&agreement.matrix) {
        let cells = shares.iter().map(|x| x.map_or("-".into(), |x| format!("{x:.2}")));
        rows.push([judge.clone()].into_iter().chain(cells).collect());
    }
    let alpha = agreement.alpha.map_or("not defined".into(), |alpha| format!("{alpha:.2}"));
    let table = table(&rows, &[], "");
    format!("\nagreement of judges\n{table}Krippendorff's alpha of their three labels: {alpha}\n")
}
