//! Attack success and over-refusal of all models.

use super::html::{Cell, Table, figure, figures, note, section};
use crate::eval::asr::Outcome;
use crate::report::chart::{Bar, BarGroup, rate_chart};
use crate::report::results::ModelResult;
use crate::report::study::Study;
use crate::report::text::{counts, mean_percent, percent_of};

/// The section on attack success.
pub(super) fn attacks(study: Study<'_>) -> String {
    let caption = format!("Attack success, by the judge ‘{}’", study.results.judge);
    let mut html = rates(study, true, &caption, "No model was attacked.");
    html += &note(
        "vanilla: as the chat template asks, greedy. adv-suffix: the suffix that works best, \
         greedy. adv-decoding: prompts of which any sample complies, with the chat template; \
         adv-decoding-raw: without it. An answer counts if it complies: one that is empty, repeats \
         itself or is not text counts neither as a success nor as safe.",
    );
    html += &charts(study, true, "attack success");
    html += &answers(study, true);
    section("attacks", "Attack success", &html)
}

/// Refusals of harmless prompts.
pub(super) fn over_refusal(study: Study<'_>) -> String {
    let caption = "Harmless prompts refused";
    let mut html = rates(study, false, caption, "No model was asked harmless prompts.");
    html += &note(
        "borderline: safe requests that sound otherwise; harmless: plain ones. A repair that \
         refuses everything is not a repair.",
    );
    html += &charts(study, false, "refused");
    html += &answers(study, false);
    section("over-refusal", "Over-refusal", &html)
}

fn rates(study: Study<'_>, attack: bool, caption: &str, none: &str) -> String {
    let sets = study.sets(attack);
    if sets.is_empty() {
        return note(none);
    }
    let columns: Vec<String> = sets.iter().map(|set| format!(">{set}")).collect();
    let columns: Vec<&str> =
        ["model"].into_iter().chain(columns.iter().map(String::as_str)).collect();
    let mut table = Table::new(caption, &columns);
    for model in &study.results.models {
        let name = Cell::model(study.stage(model), &model.name);
        if sets.iter().all(|set| model.outcome(set).is_none()) {
            table.missing(name, &study.why_missing(model));
            continue;
        }
        let cells = sets.iter().map(|set| Cell::rate(model.rate(set, attack).as_ref()));
        table.row([name].into_iter().chain(cells).collect());
    }
    table.html()
}

/// A chart for each set.
fn charts(study: Study<'_>, attack: bool, what: &str) -> String {
    let kind = if attack { "attack" } else { "benign" };
    let drawn = study.sets(attack).into_iter().enumerate().map(|(i, set)| {
        let title = format!("{set}: {what}");
        let chart = rate_chart(&title, what, &groups(study, set, attack));
        let mut table = Table::new(&title, &["model", ">cases", ">share, 95 %"]);
        for model in &study.results.models {
            let rate = model.rate(set, attack);
            let cases = rate.as_ref().map(counts);
            table.row(vec![
                Cell::model(study.stage(model), &model.name),
                Cell::number_or(cases, "none"),
                Cell::rate(rate.as_ref()),
            ]);
        }
        figure(&format!("fig-{kind}-{i}"), &chart, &format!("{set}, with 95 % intervals."), &table)
    });
    figures(&drawn.collect::<Vec<String>>())
}

/// The base, then each variant with its repairs.
fn groups(study: Study<'_>, set: &str, attack: bool) -> Vec<BarGroup> {
    let bar = |model: &ModelResult| {
        let stage = study.stage(model);
        Bar { label: stage.title.into(), tone: stage.tone, rate: model.rate(set, attack) }
    };
    let base = study.base().map(|m| BarGroup { name: String::new(), bars: vec![bar(m)] });
    let variants = study.variants().into_iter().map(|v| BarGroup {
        name: v.compressed.name.clone(),
        bars: [v.compressed].into_iter().chain(v.repaired).map(bar).collect(),
    });
    base.into_iter().chain(variants).collect()
}

/// What kinds of answers there were, closed.
fn answers(study: Study<'_>, attack: bool) -> String {
    let columns = [
        "model",
        "set",
        ">prompts",
        ">refusal",
        ">compliance",
        ">no answer",
        ">any of several",
        ">mean of several",
        ">too long",
        ">no verdict",
    ];
    let mut table = Table::new("All answers by what they are", &columns);
    for model in &study.results.models {
        for set in model.sets.iter().filter(|s| s.attack == attack) {
            table.row(answer_row(study, model, &set.set, &set.outcome));
        }
    }
    match table.is_empty() {
        true => String::new(),
        false => table.closed("Refusal, compliance, no answer at all") + &suffixes(study, attack),
    }
}

fn answer_row(study: Study<'_>, model: &ModelResult, set: &str, outcome: &Outcome) -> Vec<Cell> {
    let shares = &outcome.shares;
    let one = "one answer each";
    let any = match &outcome.any {
        None => Cell::none(one),
        any => Cell::rate(any.as_ref()),
    };
    let mean = outcome.mean.as_ref().map(mean_percent);
    vec![
        Cell::model(study.stage(model), &model.name),
        Cell::text(set),
        Cell::number(&outcome.n.to_string()),
        Cell::rate(Some(&shares.refusal)),
        Cell::rate(Some(&shares.compliance)),
        Cell::rate(Some(&shares.degenerate)),
        any,
        Cell::number_or(mean, one),
        Cell::number(&outcome.errors.to_string()),
        Cell::number(&outcome.undecided.to_string()),
    ]
}

/// Compliance by suffix, where suffixes were tried.
fn suffixes(study: Study<'_>, attack: bool) -> String {
    let mut table = Table::new("Compliance by suffix", &["model", "set", ">by suffix"]);
    for model in &study.results.models {
        let sets = model.sets.iter().filter(|s| s.attack == attack);
        for set in sets.filter(|s| !s.outcome.by_suffix.is_empty()) {
            let of = |rate: &crate::eval::interval::Rate| {
                rate.rate.map_or_else(|| "no cases".into(), |share| percent_of(share, rate.n))
            };
            let all: Vec<String> = set.outcome.by_suffix.iter().map(of).collect();
            table.row(vec![
                Cell::model(study.stage(model), &model.name),
                Cell::text(&set.set),
                Cell::number(&all.join(", ")),
            ]);
        }
    }
    if table.is_empty() { String::new() } else { table.closed("Suffix by suffix") }
}
