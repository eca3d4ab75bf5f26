//! The outcome of each variant in a sentence: what was lost, what each repair brought back.

use super::results::{ModelResult, RepairResult};
use super::stage::{capitalised, subject};
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
    /// A repair brought attack success down.
    Repaired,
    /// It lost safety, and nothing brought it back.
    Broken,
}

/// The attack that the sentences are about, the first, and what compression did to its success.
struct Case<'a> {
    set: &'a str,
    base: Rate,
    compressed: Rate,
    p: Option<f64>,
}

fn case<'a>(study: Study<'a>, variant: &Variant<'a>) -> Option<Case<'a>> {
    let set = study.sets(true).into_iter().next()?;
    let (base, compressed) = (study.base()?, variant.compressed);
    Some(Case {
        set,
        base: known_rate(base, set)?,
        compressed: known_rate(compressed, set)?,
        p: study.p((&base.name, &compressed.name), set, "asr"),
    })
}

/// Attack success, if there are any cases.
fn known_rate(model: &ModelResult, set: &str) -> Option<Rate> {
    model.rate(set, true).filter(|r| r.rate.is_some())
}

/// True if `after` is higher, and not by chance: by McNemar's test or, if none was made, because
/// the intervals do not overlap.
fn rose(before: &Rate, after: &Rate, p: Option<f64>) -> bool {
    let higher = after.rate > before.rate;
    higher && p.map_or(after.low > before.high, |p| p < SIGNIFICANT)
}

impl Case<'_> {
    fn is_harmed(&self) -> bool {
        rose(&self.base, &self.compressed, self.p)
    }

    /// True if this repair of `compressed` brought attack success down.
    fn is_fixed_by(&self, study: Study<'_>, compressed: &ModelResult, model: &ModelResult) -> bool {
        let p = study.p((&compressed.name, &model.name), self.set, "asr");
        known_rate(model, self.set).is_some_and(|r| rose(&r, &self.compressed, p))
    }
}

/// The outcome of `variant`, by the study's first attack.
pub(super) fn verdict(study: Study<'_>, variant: &Variant<'_>) -> Verdict {
    let Some(case) = case(study, variant) else { return Verdict::Unknown };
    let fixes = |m: &&ModelResult| case.is_fixed_by(study, variant.compressed, m);
    match case.is_harmed() {
        false => Verdict::Unharmed,
        true if variant.repaired.iter().any(fixes) => Verdict::Repaired,
        true => Verdict::Broken,
    }
}

/// True if that repair fixed a variant that had lost safety.
fn fixed(study: Study<'_>, variant: &Variant<'_>, model: &ModelResult) -> bool {
    let case = case(study, variant).filter(Case::is_harmed);
    case.is_some_and(|case| case.is_fixed_by(study, variant.compressed, model))
}

/// The whole study in a sentence.
pub(super) fn lead(study: Study<'_>) -> String {
    let variants = study.variants();
    let verdicts: Vec<Verdict> = variants.iter().map(|v| verdict(study, v)).collect();
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
        _ if study.has_several_repairs() => parts.push(fixed_text(study, lost)),
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
    let refuses_more = |v: &Variant<'_>, m: &ModelResult| {
        refusals(study, v, m).is_some_and(|r| rose(&r.before, &r.after, r.p))
    };
    let repairs = variants.iter().flat_map(|v| v.repaired.iter().map(move |m| (v, *m)));
    let unfixed = repairs.filter(|(v, m)| !fixed(study, v, m));
    let other = if count(Verdict::Repaired) > 0 { "other " } else { "" };
    match unfixed.filter(|(v, m)| refuses_more(v, m)).count() {
        0 => {}
        1 => parts.push(format!("one {other}repair raised refusals")),
        n => parts.push(format!("{n} {other}repairs raised refusals")),
    }
    format!("{} was compressed {ways}: {}.", study.base_title(), parts.join("; "))
}

fn models(n: usize) -> String {
    if n == 1 { "one model".into() } else { plural(n, "model") }
}

/// How many of the `lost` models each of several repairs fixed.
fn fixed_text(study: Study<'_>, lost: usize) -> String {
    let variants = study.variants();
    let count = |name: Option<&str>| {
        let is = |m: &&ModelResult| m.repaired_by.as_deref() == name;
        let by_it = |v: &&Variant<'_>| {
            v.repaired.iter().copied().filter(is).any(|model| fixed(study, v, model))
        };
        variants.iter().filter(by_it).count()
    };
    let repairs: Vec<(String, usize)> =
        study.repairs().into_iter().map(|name| (subject(name), count(name))).collect();
    let models = models(lost);
    if lost > 1 {
        let each: Vec<String> =
            repairs.iter().map(|(repair, n)| format!("{repair} fixed {n}")).collect();
        return format!("{models} lost safety, of which {}", listed(&each));
    }
    let (did, did_not): (Vec<_>, Vec<_>) = repairs.into_iter().partition(|(_, n)| *n > 0);
    let names = |some: Vec<(String, usize)>| {
        listed(&some.into_iter().map(|(repair, _)| repair).collect::<Vec<String>>())
    };
    let but = match did_not.is_empty() {
        true => String::new(),
        false => format!(", but {} did not", names(did_not)),
    };
    format!("{models} lost safety, and {} fixed it{but}", names(did))
}

/// `variant` in a few sentences; a paragraph for each of several repairs.
pub(super) fn paragraphs(study: Study<'_>, variant: &Variant<'_>) -> Vec<String> {
    let compressed = variant.compressed;
    let Some(case) = case(study, variant) else {
        let why = study.why_missing(compressed);
        return vec![format!("Its attack success is not known: {why}.")];
    };
    let (set, base, after) = (case.set, percent(&case.base), percent(&case.compressed));
    let moved = format!("from {base} to {after}{}", with_p(case.p));
    let mut text = match case.is_harmed() {
        true => format!("Compression raised attack success ({set}) {moved}."),
        false => format!("Compression did not measurably raise attack success ({set}): {moved}."),
    };
    text += &babble(compressed, set);
    let sentences = variant.repaired.iter().map(|m| repair_sentences(study, variant, &case, m));
    match variant.repaired.len() {
        0 => vec![text + " No repair was tried."],
        1 => vec![std::iter::once(text).chain(sentences).collect::<Vec<_>>().join(" ")],
        _ => std::iter::once(text).chain(sentences).collect(),
    }
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

fn repair_sentences(
    study: Study<'_>,
    variant: &Variant<'_>,
    case: &Case<'_>,
    model: &ModelResult,
) -> String {
    let several = variant.repaired.len() > 1;
    let who = capitalised(&subject(model.repaired_by.as_deref()));
    let edit = match &model.repair {
        None if several => return format!("{who} made no model: {}.", study.why_missing(model)),
        None => return format!("It was not repaired: {}.", study.why_missing(model)),
        Some(repair) if repair.found_nothing() => {
            return match several {
                true => format!("{who} found nothing that helps within its budget."),
                false => "The search found no repair that helps within its budget.".into(),
            };
        }
        Some(repair) => edit_text(repair),
    };
    let Some(after) = known_rate(model, case.set) else {
        let why = study.why_missing(model);
        return match several {
            true => format!("{who} ({edit}) made a model, but {why}."),
            false => format!("It was repaired ({edit}), but {why}."),
        };
    };
    let to_base = study.p((study.base_name(), &model.name), case.set, "asr");
    let level = match rose(&case.base, &after, to_base) {
        true => format!(", still above the base{}", with_p(to_base)),
        false => format!(", not significantly above the base{}", with_p(to_base)),
    };
    // In a paragraph of its own there is nothing that "it" could be.
    let what = if several { "attack success" } else { "it" };
    let p = study.p((&variant.compressed.name, &model.name), case.set, "asr");
    let (to, tested) = (percent(&after), with_p(p));
    let mut text = match rose(&after, &case.compressed, p) {
        true => format!("{who} ({edit}) brought {what} to {to}{tested}{level}."),
        false => format!("{who} ({edit}) did not measurably lower {what}: {to}{tested}."),
    };
    if let Some(r) = refusals(study, variant, model) {
        let (from, to, p) = (percent(&r.before), percent(&r.after), with_p(r.p));
        text += &format!(" Attacks refused: {to} instead of {from}{p}.");
    }
    text + &false_refusals(study, variant, model)
}

/// Attacks refused before and after the repair.
struct Refusals {
    before: Rate,
    after: Rate,
    p: Option<f64>,
}

fn refusals(study: Study<'_>, variant: &Variant<'_>, model: &ModelResult) -> Option<Refusals> {
    let set = study.sets(true).into_iter().next()?;
    let of = |model: &ModelResult| {
        model.outcome(set).map(|o| o.shares.refusal).filter(|r| r.rate.is_some())
    };
    let (before, after) = (of(variant.compressed)?, of(model)?);
    let p = study.p((&variant.compressed.name, &model.name), set, "refusal");
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

fn false_refusals(study: Study<'_>, variant: &Variant<'_>, model: &ModelResult) -> String {
    let of = |set: &str| {
        let before = variant.compressed.rate(set, false).filter(|r| r.rate.is_some())?;
        let after = model.rate(set, false).filter(|r| r.rate.is_some())?;
        Some(format!("{} instead of {} ({set})", percent(&after), percent(&before)))
    };
    let all: Vec<String> = study.sets(false).into_iter().filter_map(of).collect();
    match all.is_empty() {
        true => String::new(),
        false => format!(" Harmless prompts refused: {}.", listed(&all)),
    }
}
