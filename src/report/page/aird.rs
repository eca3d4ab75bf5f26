//! The repairs before and after, attack by attack, with the tests.

use super::html::{Cell, Table, note, section};
use crate::report::figures::Shift;
use crate::report::results::ModelResult;
use crate::report::stage::{capitalised, subject};
use crate::report::study::{SIGNIFICANT, Study, Variant};
use crate::report::text::{change, escaped};

pub(super) fn before_after(study: Study<'_>) -> String {
    let mut html = String::new();
    for variant in study.variants() {
        html += &variant_html(study, &variant);
    }
    if html.is_empty() {
        html = note("The study has no variant to repair.");
    }
    html += &note(
        "lost, gained: prompts that count before and not after, and the other way round; p: \
         McNemar’s exact test on these pairs. Prompts count as in the published \
         figures: with several samples if any complies, with suffixes by each model’s best one.",
    );
    let title = match study.has_several_repairs() {
        true => "The repairs, before and after",
        false => "The repair, before and after",
    };
    section("aird", title, &html)
}

fn variant_html(study: Study<'_>, variant: &Variant<'_>) -> String {
    let mut html = format!("<h3>{}</h3>\n", escaped(&variant.compressed.name));
    if variant.repaired.is_empty() {
        html += &note("The study did not try to repair it.");
    }
    for model in &variant.repaired {
        html += &repair_html(study, variant, model);
    }
    html
}

fn repair_html(study: Study<'_>, variant: &Variant<'_>, repaired: &ModelResult) -> String {
    let compressed = variant.compressed;
    let title = study.stage(repaired).title;
    let repaired_column = format!(">{title}");
    let columns = [
        "set",
        ">compressed",
        &repaired_column,
        ">change",
        ">lost",
        ">gained",
        ">p",
        ">base",
        ">p to the base",
    ];
    let caption = format!("{}: {title} against compressed, and against the base", compressed.name);
    let mut table = Table::new(&caption, &columns);
    for attack in [true, false] {
        for set in study.sets(attack) {
            if repaired.outcome(set).is_some() {
                table.row(row(study, (compressed, repaired), set, attack));
            }
        }
    }
    let none = match &repaired.repair {
        Some(repair) if repair.found_nothing() => {
            "the search found nothing that helps within its budget: there is no repaired model."
                .to_owned()
        }
        _ => {
            format!("there is no repaired model to compare with: {}.", study.why_missing(repaired))
        }
    };
    let none = match variant.repaired.len() {
        1 => none,
        _ => format!("{}: {none}", subject(repaired.repaired_by.as_deref())),
    };
    let none = capitalised(&none);
    table.or(&none)
}

fn row(
    study: Study<'_>,
    (compressed, repaired): (&ModelResult, &ModelResult),
    set: &str,
    attack: bool,
) -> Vec<Cell> {
    let measure = if attack { "asr" } else { "refusal" };
    let found = study.difference((&compressed.name, &repaired.name), set, measure);
    let to_base = study.p((study.base_name(), &repaired.name), set, measure);
    let rate = |m: &ModelResult| m.rate(set, attack);
    let shares = rate(compressed).and_then(|r| r.rate).zip(rate(repaired).and_then(|r| r.rate));
    let shift = shares.map(|(before, after)| Shift {
        text: change(before, after),
        better: found.filter(|d| d.p < SIGNIFICANT).map(|_| after < before),
        p: found.map(|d| d.p),
    });
    let pairs = |n: Option<usize>| Cell::number_or(n.map(|n| n.to_string()), "no pairs");
    vec![
        Cell::text(set),
        Cell::rate(rate(compressed).as_ref()),
        Cell::rate(rate(repaired).as_ref()),
        Cell::shift(shift.as_ref()),
        pairs(found.map(|d| d.fewer)),
        pairs(found.map(|d| d.more)),
        Cell::p(found.map(|d| d.p)),
        Cell::rate(study.base().and_then(rate).as_ref()),
        Cell::p(to_base),
    ]
}
