//! The record: who judged, which steps ran, which versions and files.

use super::html::{Cell, Table, details, note, section};
use crate::eval::asr::Agreement;
use crate::report::results::{ModelResult, State};
use crate::report::study::{Study, state_text};
use crate::report::text::{megabytes, percent_of, plural, short_hash};

/// Steps that failed or had nothing to work on, at the top of the page: readers must know before
/// they trust the rest.
pub(super) fn alert(study: Study<'_>) -> String {
    let troubles = study.troubles();
    if troubles.is_empty() {
        return String::new();
    }
    let steps = plural(study.results.steps.len(), "step");
    let count = |state| troubles.iter().filter(|s| s.state == state).count();
    let (failed, skipped) = (count(State::Failed), count(State::Skipped));
    let were = if skipped == 1 { "was" } else { "were" };
    let what = match (failed, skipped) {
        // A model that hardly refuses has no direction, and a search may find nothing: these are
        // results, too.
        (0, _) => format!(
            "<strong>{skipped} of {steps} {were} not run</strong>, since what they need was looked \
             for and not found"
        ),
        (_, 0) => format!("<strong>{failed} of {steps} failed</strong>"),
        _ => format!("<strong>{failed} of {steps} failed</strong>, and {skipped} {were} not run"),
    };
    format!(
        "<p class=\"alert\" role=\"note\">{what}: their figures are missing below, and marked so. \
         <a href=\"#steps\">See the steps</a>.</p>\n"
    )
}

/// How far the judges agree.
pub(super) fn judges(study: Study<'_>) -> String {
    let mut html = note(&format!(
        "The judge that counts is ‘{}’. Below: the share of answers to attacks that two judges \
         both call compliance, or both do not; and Krippendorff’s alpha of all judges on all \
         three labels: 1 if they agree, 0 if they agree no more than by chance.",
        study.results.judge
    ));
    let found = |m: &ModelResult| m.agreement.clone().filter(|a| a.judges.len() > 1 && a.n > 0);
    html += &match study.results.models.iter().find_map(found) {
        None => note("Only one judge judged: there is nothing to compare it with."),
        Some(first) => agreements(study, &pairs(&first)),
    };
    section("judges", "Agreement of judges", &html)
}

fn agreements(study: Study<'_>, pairs: &[(String, String)]) -> String {
    let names = pairs.iter().map(|(a, b)| format!(">{a}, {b}"));
    let names: Vec<String> = names.collect();
    let columns = ["model", ">answers"].into_iter().chain(names.iter().map(String::as_str));
    let columns: Vec<&str> = columns.chain([">alpha"]).collect();
    let mut table = Table::new("Agreement of two judges each, and of all", &columns);
    for model in &study.results.models {
        let name = Cell::model(study.stage(model), &model.name);
        match &model.agreement {
            Some(agreement) => table.row(agreement_row(name, agreement, pairs)),
            None => table.missing(name, &study.why_missing(model)),
        }
    }
    table.html()
}

/// Every two judges once.
fn pairs(agreement: &Agreement) -> Vec<(String, String)> {
    let judges = &agreement.judges;
    let with = |i: usize| judges[i + 1..].iter().map(move |b| (judges[i].clone(), b.clone()));
    (0..judges.len()).flat_map(with).collect()
}

fn agreement_row(name: Cell, agreement: &Agreement, pairs: &[(String, String)]) -> Vec<Cell> {
    let place = |judge: &str| agreement.judges.iter().position(|name| name == judge);
    let share = |(a, b): &(String, String)| *agreement.matrix.get(place(a)?)?.get(place(b)?)?;
    let cell = |pair| {
        Cell::number_or(share(pair).map(|s| percent_of(s, agreement.n)), "no answers in common")
    };
    let n = Cell::number(&agreement.n.to_string());
    let alpha = Cell::three_or(agreement.alpha, "not defined");
    [name, n].into_iter().chain(pairs.iter().map(cell)).chain([alpha]).collect()
}

/// Every step, those that failed first and in full.
pub(super) fn steps(study: Study<'_>) -> String {
    let mut failed = Table::new("Steps that did not end well", &["step", "what", "why", "command"]);
    for step in study.troubles() {
        let error = step.error.as_deref().unwrap_or("no reason was kept");
        failed.row(vec![
            Cell::text(&step.name),
            Cell::text(state_text(step.state)),
            Cell::text(error),
            Cell::code(&step.command),
        ]);
    }
    let mut all = Table::new("All steps, in order", &["step", "state", "command", "key"]);
    for step in &study.results.steps {
        all.row(vec![
            Cell::text(&step.name),
            Cell::text(state_text(step.state)),
            Cell::code(&step.command),
            Cell::code(short_hash(&step.key)),
        ]);
    }
    let mut html = failed.or("Every step ended well.");
    html += &match all.is_empty() {
        true => note("The run holds no record of steps."),
        false => details(&plural(study.results.steps.len(), "step"), &all.html()),
    };
    section("steps", "Steps", &html)
}

/// The section with versions and hashes.
pub(super) fn versions(study: Study<'_>) -> String {
    let results = study.results;
    let mut table = Table::new("Versions", &["what", "which"]);
    let unknown = || "unknown".to_owned();
    let origin = &results.origin;
    for (what, which) in [
        ("aird", results.aird.clone()),
        ("llama.cpp (crate)", results.llama_cpp.clone()),
        ("schema of results.json", results.schema.to_string()),
        ("recipe, sha256", results.recipe_sha256.clone()),
        ("base from", origin.repository.clone().unwrap_or_else(unknown)),
        ("base’s licence", origin.license.clone().unwrap_or_else(unknown)),
    ] {
        table.row(vec![Cell::text(what), Cell::code(&which)]);
    }
    let mut files = Table::new("Models", &["model", "made by", "file", ">size", "sha256"]);
    for model in &results.models {
        let words = |text: Option<&String>, none| {
            text.map_or_else(|| Cell::none(none), |text| Cell::code(text))
        };
        let made = match model.made.is_empty() {
            true => Cell::none("given"),
            false => Cell::code(&model.made_text()),
        };
        files.row(vec![
            Cell::model(study.stage(model), &model.name),
            made,
            words(model.file.as_ref(), "none"),
            Cell::number_or(model.bytes.map(megabytes), "unknown"),
            words(model.sha256.as_ref(), "unknown"),
        ]);
    }
    let html = table.html() + &files.or("No model.") + &prompts(study);
    section("versions", "Versions and hashes", &html)
}

/// What the directions were taken from.
fn prompts(study: Study<'_>) -> String {
    let mut table = Table::new("Directions: prompts and templates", &["model", "what", "sha256"]);
    for model in &study.results.models {
        let Some(about) = &model.direction else { continue };
        for (what, sum) in &about.prompts {
            let sum = sum.as_str().map_or_else(|| sum.to_string(), str::to_owned);
            table.row(vec![
                Cell::model(study.stage(model), &model.name),
                Cell::text(what),
                Cell::code(&sum),
            ]);
        }
        table.row(vec![
            Cell::model(study.stage(model), &model.name),
            Cell::text("chat template"),
            Cell::code(&about.template_sha256),
        ]);
    }
    if table.is_empty() { String::new() } else { table.closed("Prompts and templates") }
}
