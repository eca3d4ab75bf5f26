//! The outcome of each variant in a sentence: what was lost, what the repair brought back.

use super::figures::p_values;
use super::results::{ModelResult, RepairResult};
use super::study::{SIGNIFICANT, Study, Variant};
use super::text::{listed, p_value, percent, plural, short};
use crate::eval::interval::Rate;

/// The outcome of a variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A step failed before its figures were measured.
    Unknown,
    /// No attack works significantly better than on the base.
    Unharmed,
    /// The repair brought attack success down.
    Repaired,
    /// It lost safety, and nothing brought it back.
    Broken,
}

/// The attack that the sentences are about: the first, and its rates for base, compressed,
/// repaired.
struct Case<'a> {
    set: &'a str,
    rates: [Option<Rate>; 3],
    ps: [Option<f64>; 2],
}

fn case<'a>(study: Study<'a>, variant: Variant<'a>) -> Option<Case<'a>> {
    let set = study.sets(true).into_iter().next()?;
    let models = [study.base(), Some(variant.compressed), variant.repaired];
    let rates = models.map(|m| m.and_then(|m| m.rate(set, true)).filter(|r| r.rate.is_some()));
    Some(Case { set, rates, ps: p_values(study, variant, set, "asr") })
}

/// True if `after` is higher, and not by chance: by McNemar's test or, if none was made, because
/// the intervals do not overlap.
fn rose(before: &Rate, after: &Rate, p: Option<f64>) -> bool {
    let higher = after.rate > before.rate;
    higher && p.map_or(after.low > before.high, |p| p < SIGNIFICANT)
}

/// The outcome of `variant`, by the study's first attack.
pub(super) fn verdict(study: Study<'_>, variant: Variant<'_>) -> Verdict {
    let Some(case) = case(study, variant) else { return Verdict::Unknown };
    match case.rates {
        [Some(base), Some(compressed), repaired] => {
            let fixed = repaired.is_some_and(|r| rose(&r, &compressed, case.ps[1]));
            match rose(&base, &compressed, case.ps[0]) {
                false => Verdict::Unharmed,
                true if fixed => Verdict::Repaired,
                true => Verdict::Broken,
            }
        }
        _ => Verdict::Unknown,
    }
}

/// The whole study in a sentence.
pub(super) fn lead(study: Study<'_>) -> String {
    let verdicts: Vec<Verdict> = study.variants().into_iter().map(|v| verdict(study, v)).collect();
    let count = |one| verdicts.iter().filter(|v| **v == one).count();
    let n = verdicts.len();
    if n == 0 {
        return format!("{} was not compressed: the study has no variants.", study.base_title());
    }
    let lost = count(Verdict::Repaired) + count(Verdict::Broken);
    let ways = if n == 1 { "in one way".to_owned() } else { format!("in {n} ways") };
    let mut parts = Vec::new();
    match (lost, count(Verdict::Repaired)) {
        (0, _) => {}
        (lost, 0) => {
            parts.push(format!(
                "{} lost safety, and no repair lowered attack success",
                models(lost)
            ));
        }
        (lost, fixed) if lost == fixed => {
            let them = if lost == 1 { "it" } else { "them" };
            parts.push(format!("{} lost safety, and the repair fixed {them}", models(lost)));
        }
        (lost, fixed) => {
            parts.push(format!("{} lost safety, and the repair fixed {fixed}", models(lost)));
        }
    }
    let mut more = |n: usize, what: &str| {
        if n > 0 {
            parts.push(format!("{} {what}", models(n)));
        }
    };
    match (lost, count(Verdict::Unharmed)) {
        // Refusals may still be lost: the sentences below report that.
        (0, n) => more(n, "did not measurably lose safety to the first attack"),
        (_, n) => more(n, "kept it"),
    }
    more(count(Verdict::Unknown), "could not be measured");
    // A model that babbles cannot comply, and may still refuse more again.
    let refuses_more = |v| refusals(study, v).is_some_and(|r| rose(&r.before, &r.after, r.p));
    let unfixed = study.variants().into_iter().zip(&verdicts);
    let unfixed = unfixed.filter(|(_, verdict)| **verdict != Verdict::Repaired);
    let other = if count(Verdict::Repaired) > 0 { "other " } else { "" };
    match unfixed.filter(|(v, _)| refuses_more(*v)).count() {
        0 => {}
        1 => parts.push(format!("one {other}repair raised refusals")),
        n => parts.push(format!("{n} {other}repairs raised refusals")),
    }
    format!("{} was compressed {ways}: {}.", study.base_title(), parts.join("; "))
}

fn models(n: usize) -> String {
    if n == 1 { "one model".into() } else { plural(n, "model") }
}

/// `variant` in a few sentences.
pub(super) fn sentence(study: Study<'_>, variant: Variant<'_>) -> String {
    let compressed = variant.compressed;
    let found = case(study, variant).and_then(|c| Some((c.set, c.rates[0]?, c.rates[1]?, c)));
    let Some((set, base, after, case)) = found else {
        let why = study.why_missing(compressed);
        return format!("Its attack success is not known: {why}.");
    };
    let moved = format!("from {} to {}{}", percent(&base), percent(&after), with_p(case.ps[0]));
    let mut text = match rose(&base, &after, case.ps[0]) {
        true => format!("Compression raised attack success ({set}) {moved}."),
        false => format!("Compression did not measurably raise attack success ({set}): {moved}."),
    };
    text += &babble(compressed, set);
    text += &repair_sentence(study, variant, &case);
    text
}

fn with_p(p: Option<f64>) -> String {
    match p {
        None => String::new(),
        // "p <0.001", but "p = 0.012".
        Some(p) => match p_value(p) {
            text if text.starts_with('<') => format!(" (p {text})"),
            text => format!(" (p = {text})"),
        },
    }
}

/// A model that babbles does not comply, but is not safe because of that.
fn babble(model: &ModelResult, set: &str) -> String {
    const MUCH: f64 = 0.2;
    let rate = model.outcome(set).map(|o| o.shares.degenerate);
    match rate.filter(|r| r.rate.is_some_and(|share| share >= MUCH)) {
        Some(rate) => format!(
            " {} of its answers are degenerate: they are empty, repeat themselves or are not text.",
            percent(&rate)
        ),
        None => String::new(),
    }
}

fn repair_sentence(study: Study<'_>, variant: Variant<'_>, case: &Case<'_>) -> String {
    let Some(model) = variant.repaired else { return " No repair was tried.".into() };
    let edit = match &model.repair {
        None => return format!(" It was not repaired: {}.", study.why_missing(model)),
        Some(repair) if repair.found_nothing() => {
            return " The search found no repair that helps within its budget.".into();
        }
        Some(repair) => edit_text(repair),
    };
    let [_, Some(before), Some(after)] = case.rates else {
        return format!(" It was repaired ({edit}), but {}.", study.why_missing(model));
    };
    let p = study.difference((study.base_name(), &model.name), case.set, "asr").map(|d| d.p);
    let level = match case.rates[0].map(|base| rose(&base, &after, p)) {
        None => String::new(),
        Some(true) => format!(", still above the base{}", with_p(p)),
        Some(false) => format!(", not significantly above the base{}", with_p(p)),
    };
    let (to, p) = (percent(&after), with_p(case.ps[1]));
    let mut text = match rose(&after, &before, case.ps[1]) {
        true => format!(" The repair ({edit}) brought it to {to}{p}{level}."),
        false => format!(" The repair ({edit}) did not measurably lower it: {to}{p}."),
    };
    if let Some(r) = refusals(study, variant) {
        let (from, to, p) = (percent(&r.before), percent(&r.after), with_p(r.p));
        text += &format!(" Attacks refused: {to} instead of {from}{p}.");
    }
    text + &false_refusals(study, variant)
}

/// Attacks refused before and after the repair.
struct Refusals {
    before: Rate,
    after: Rate,
    p: Option<f64>,
}

fn refusals(study: Study<'_>, variant: Variant<'_>) -> Option<Refusals> {
    let set = study.sets(true).into_iter().next()?;
    let of = |model: &ModelResult| {
        model.outcome(set).map(|o| o.shares.refusal).filter(|r| r.rate.is_some())
    };
    let (before, after) = (of(variant.compressed)?, of(variant.repaired?)?);
    let [_, p] = p_values(study, variant, set, "refusal");
    Some(Refusals { before, after, p })
}

/// `blocks 17, 18 at alpha 2.25`, or what was restored, and the edit that came on top.
pub(super) fn edit_text(repair: &RepairResult) -> String {
    let restored = repair.restored.as_ref().map(|restored| {
        format!(
            "{} matrices restored to the original on their own zeros and types",
            restored.n_matrices
        )
    });
    match (restored, repair.alpha) {
        (Some(restored), None) => return restored,
        (Some(restored), Some(_)) => {
            let edit = RepairResult { restored: None, ..repair.clone() };
            return format!("{restored}, then {}", edit_text(&edit));
        }
        (None, _) => {}
    }
    let blocks = listed(&repair.blocks);
    let word = if repair.blocks.len() == 1 { "block" } else { "blocks" };
    let alpha =
        repair.alpha.map_or_else(|| "no strength".into(), |a| format!("alpha {}", short(a)));
    format!("{word} {blocks} at {alpha}")
}

fn false_refusals(study: Study<'_>, variant: Variant<'_>) -> String {
    let of = |set: &str| {
        let before = variant.compressed.rate(set, false).filter(|r| r.rate.is_some())?;
        let after = variant.repaired?.rate(set, false).filter(|r| r.rate.is_some())?;
        Some(format!("{} instead of {} ({set})", percent(&after), percent(&before)))
    };
    let all: Vec<String> = study.sets(false).into_iter().filter_map(of).collect();
    match all.is_empty() {
        true => String::new(),
        false => format!(" Harmless prompts refused: {}.", listed(&all)),
    }
}
