//! Is the direction needed for refusing, and is it enough?

use super::html::{Cell, Table, note, section};
use crate::eval::asr::Outcome;
use crate::eval::interval::Rate;
use crate::report::figures::Shift;
use crate::report::results::{Intervention, ModelResult, Role};
use crate::report::study::Study;
use crate::report::text::change;

/// Harmful prompts with the direction taken out.
pub(super) fn necessity(study: Study<'_>) -> String {
    let html = table(study, "Harmful prompts, the direction taken out of every layer", |m| {
        m.necessity.as_ref()
    }) + &note(
        "If the direction is needed, refusals fall when it is taken out of the residual stream. \
         That happens only in memory, while the model answers.",
    );
    section("necessity", "Is the direction needed?", &html)
}

/// Harmless prompts with the direction added.
pub(super) fn sufficiency(study: Study<'_>) -> String {
    let html =
        table(study, "Harmless prompts, the direction added at its layer", |m| {
            m.sufficiency.as_ref()
        }) + &note("If the direction is enough, harmless prompts are refused when it is added.");
    section("sufficiency", "Is the direction enough?", &html)
}

fn table(study: Study<'_>, caption: &str, of: fn(&ModelResult) -> Option<&Intervention>) -> String {
    let columns = [
        "model",
        "direction of",
        "set",
        ">refused before",
        ">refused after",
        ">change",
        ">complied after",
        ">no answer after",
    ];
    let mut table = Table::new(caption, &columns);
    let models = study.results.models.iter().filter(|m| m.role != Role::Repaired);
    let mut any = false;
    for model in models {
        match of(model) {
            Some(found) => table.row(row(study, model, found)),
            None => {
                table.missing(
                    Cell::model(study.stage(model), &model.name),
                    &study.why_missing(model),
                );
            }
        }
        any |= of(model).is_some();
    }
    if any { table.html() } else { note("This was tried on no model.") }
}

fn row(study: Study<'_>, model: &ModelResult, found: &Intervention) -> Vec<Cell> {
    let rate = |outcome: &Outcome, of: fn(&Outcome) -> Rate| Cell::rate(Some(&of(outcome)));
    let (before, after) = (found.before.shares.refusal, found.after.shares.refusal);
    let shift = before.rate.zip(after.rate).map(|(before, after)| Shift {
        text: change(before, after),
        better: None,
        p: None,
    });
    vec![
        Cell::model(study.stage(model), &model.name),
        Cell::text(&found.direction_of),
        Cell::text(&found.set),
        rate(&found.before, |o| o.shares.refusal),
        rate(&found.after, |o| o.shares.refusal),
        Cell::shift(shift.as_ref()),
        rate(&found.after, |o| o.shares.compliance),
        rate(&found.after, |o| o.shares.degenerate),
    ]
}
