//! What compression and repair cost: benchmarks, perplexity, KL.

use super::html::{Cell, Table, note, section};
use crate::eval::tasks::Tally;
use crate::report::results::{ModelResult, Role};
use crate::report::study::Study;
use crate::report::text::{percent, three};

pub(super) fn utility(study: Study<'_>) -> String {
    let html = accuracies(study) + &texts(study) + &differences(study) + &further(study);
    section("utility", "Utility", &html)
}

fn tally<'a>(model: &'a ModelResult, task: &str) -> Option<&'a Tally> {
    model.tasks.iter().find(|t| t.task == task).map(|t| &t.tally)
}

fn accuracies(study: Study<'_>) -> String {
    let tasks = study.tasks();
    if tasks.is_empty() {
        return note("No benchmark was run.");
    }
    let columns: Vec<String> = tasks.iter().map(|task| format!(">{task}")).collect();
    let columns: Vec<&str> =
        ["model"].into_iter().chain(columns.iter().map(String::as_str)).collect();
    let mut table = Table::new("Accuracy, zero-shot, by log-likelihood (acc)", &columns);
    for model in &study.results.models {
        let name = Cell::model(study.stage(model), &model.name);
        if model.tasks.is_empty() {
            table.missing(name, &study.why_missing(model));
            continue;
        }
        let cells = tasks.iter().map(|task| Cell::rate(tally(model, task).map(|t| &t.acc)));
        table.row([name].into_iter().chain(cells).collect());
    }
    table.html() + &note(&items_text(study, &tasks))
}

/// How many items, and how many of them lost their beginning.
fn items_text(study: Study<'_>, tasks: &[&str]) -> String {
    let most = |task: &str, of: fn(&Tally) -> usize| {
        study.results.models.iter().filter_map(|m| tally(m, task)).map(of).max().unwrap_or(0)
    };
    let counted = |of: fn(&Tally) -> usize| {
        let counts = tasks.iter().map(|task| (*task, most(task, of))).filter(|(_, n)| *n > 0);
        counts.map(|(task, n)| format!("{task} {n}")).collect::<Vec<_>>().join(", ")
    };
    let mut text = format!("Items: {}.", counted(|t| t.n));
    let cut = counted(|t| t.n_cut);
    if !cut.is_empty() {
        text += &format!(" Without their beginnings, which did not fit: {cut}.");
    }
    text
}

fn texts(study: Study<'_>) -> String {
    let models = &study.results.models;
    if models.iter().all(|m| m.perplexity.is_none() && m.kl.is_none()) {
        return note("No perplexity and no KL was measured.");
    }
    let columns = ["model", ">perplexity", ">KL, nats", ">median", ">99 % below", ">same token"];
    let mut table =
        Table::new("Perplexity of the recipe’s text, and KL to the base on it", &columns);
    for model in models {
        let name = Cell::model(study.stage(model), &model.name);
        let (ppl, kl) = (model.perplexity.as_ref(), model.kl.as_ref());
        if ppl.is_none() && kl.is_none() {
            table.missing(name, &study.why_missing(model));
            continue;
        }
        let none = if model.role == Role::Base { "is the base" } else { "not measured" };
        let number = |text: Option<String>| Cell::number_or(text, none);
        let perplexity = ppl.map(|p| with_error(p.ppl, p.ppl_error));
        table.row(vec![
            name,
            Cell::number_or(perplexity, "not measured"),
            kl.map_or_else(|| Cell::none(none), |k| Cell::mean(&k.mean)),
            number(kl.map(|k| three(k.median))),
            number(kl.map(|k| three(k.p99))),
            number(kl.map(|k| percent(&k.same_top))),
        ]);
    }
    table.html() + &note("same token: how often both models find the same next token likeliest.")
}

/// `29.9 ± 0.5`: the error decides how many digits are meaningful.
fn with_error(x: f64, error: f64) -> String {
    let digits = usize::from(error < 2.0) + usize::from(error < 0.2);
    format!("{x:.digits$} ± {error:.digits$}")
}

fn differences(study: Study<'_>) -> String {
    let columns = ["model", "against", "task", ">points", ">lost", ">gained", ">p"];
    let mut table = Table::new("Accuracy compared item by item", &columns);
    for d in &study.results.task_differences {
        let task = match d.metric.as_str() {
            "acc" => d.task.clone(),
            metric => format!("{}, {metric}", d.task),
        };
        let found = &d.difference;
        table.row(vec![
            study.model(&d.model).map_or_else(
                || Cell::text(&d.model),
                |model| Cell::model(study.stage(model), &d.model),
            ),
            Cell::text(&d.against),
            Cell::text(&task),
            Cell::number(&format!("{:+.1}", found.points).replace('-', "−")),
            Cell::number(&found.lost.to_string()),
            Cell::number(&found.gained.to_string()),
            Cell::p(Some(found.p)),
        ]);
    }
    match table.is_empty() {
        true => String::new(),
        false => table.closed("Differences, with McNemar’s exact test"),
    }
}

/// The harness's other figures.
fn further(study: Study<'_>) -> String {
    let columns = ["model", "task", ">acc_norm", ">by token"];
    let mut table = Table::new("Accuracy by log-likelihood a character, and a token", &columns);
    for model in &study.results.models {
        for task in &model.tasks {
            let (norm, token) = (&task.tally.acc_norm, &task.tally.acc_per_token);
            if norm.is_none() && token.is_none() {
                continue;
            }
            let cell = |rate: &Option<crate::eval::interval::Rate>| match rate {
                None => Cell::none("no such figure"),
                rate => Cell::rate(rate.as_ref()),
            };
            table.row(vec![
                Cell::model(study.stage(model), &model.name),
                Cell::text(&task.task),
                cell(norm),
                cell(token),
            ]);
        }
    }
    if table.is_empty() { String::new() } else { table.closed("acc_norm and the like") }
}
