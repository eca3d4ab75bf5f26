//! The summary: the whole study in a sentence, then before and after, variant by variant.

use super::html::{Cell, Table, figure, figures, mark, note, paragraph};
use crate::report::chart::{Slope, Tone, slope_chart};
use crate::report::figures::{Row, rows};
use crate::report::study::{Study, Variant};
use crate::report::text::escaped;
use crate::report::verdict::{lead, sentence};

pub(super) fn summary(study: Study<'_>) -> String {
    let mut html = format!("<p class=\"lead\">{}</p>\n", escaped(&lead(study)));
    html += &story(study);
    for variant in study.variants() {
        html += &variant_html(study, variant);
    }
    html + &note(
        "Shares carry their 95 % interval (Wilson). Changes are relative to the model before: of \
         the compressed to the base, of the repaired to the compressed; coloured where McNemar's \
         exact test on the same prompts finds p < 0.05. Attack success and refused harmless \
         prompts are better when lower; accuracy is better when higher.",
    )
}

fn variant_html(study: Study<'_>, variant: Variant<'_>) -> String {
    let model = variant.compressed;
    let mut html = format!("<h3>{}</h3>\n", escaped(&model.name));
    if !model.made.is_empty() {
        html += &format!("<p class=\"made\"><code>{}</code></p>\n", escaped(&model.made_text()));
    }
    html += &paragraph(&sentence(study, variant));
    let rows = rows(study, variant);
    if rows.is_empty() {
        return html;
    }
    let is_repaired = rows.iter().any(|row| row.figures[2].is_some());
    let mut columns = vec!["measure", ">base", ">compressed", ">change"];
    if is_repaired {
        columns.extend([">repaired", ">change", ">p"]);
    }
    let mut table = Table::new(&format!("{}: before and after", model.name), &columns);
    rows.iter().for_each(|row| table.row(cells(row, is_repaired)));
    let head = |html: String, tone: Tone, word: &str| {
        html.replacen(&format!(">{word}</th>"), &format!(">{} {word}</th>", mark(tone)), 1)
    };
    let table = head(table.html(), Tone::Base, "base");
    let table = head(table, Tone::Compressed, "compressed");
    html + &head(table, Tone::Repaired, "repaired")
}

fn cells(row: &Row, is_repaired: bool) -> Vec<Cell> {
    let [base, compressed, repaired] = row.figures.each_ref().map(|f| Cell::figure(f.as_ref()));
    let [broke, fixed] = row.changes.each_ref().map(|c| Cell::shift(c.as_ref()));
    let mut cells = vec![Cell::text(&row.name), base, compressed, broke];
    if is_repaired {
        let p = row.changes[1].as_ref().and_then(|c| c.p);
        let p = p.map_or_else(|| Cell::none("not tested"), |p| Cell::p(Some(p)));
        cells.extend([repaired, fixed, p]);
    }
    cells
}

/// The first attack and the first benign set, with every variant's course through the study.
fn story(study: Study<'_>) -> String {
    let first = |attack| study.sets(attack).into_iter().next();
    let drawn =
        [(true, "attack success"), (false, "harmless prompts refused")].map(|(attack, what)| {
            let set = first(attack)?;
            let slopes: Vec<Slope> = study
                .variants()
                .into_iter()
                .map(|v| Slope {
                    name: v.compressed.name.clone(),
                    rates: [study.base(), Some(v.compressed), v.repaired]
                        .map(|m| m?.rate(set, attack).filter(|r| r.rate.is_some())),
                })
                .filter(|slope| slope.rates[1].is_some())
                .collect();
            (!slopes.is_empty()).then(|| {
                let id = if attack { "attack" } else { "benign" };
                story_figure(id, (set, what), &slopes)
            })
        });
    figures(&drawn.into_iter().flatten().collect::<Vec<String>>())
}

fn story_figure(id: &str, (set, what): (&str, &str), slopes: &[Slope]) -> String {
    let title = format!("{set}: {what}");
    let mut table = Table::new(&title, &["variant", ">base", ">compressed", ">repaired"]);
    for slope in slopes {
        let rates = slope.rates.iter().map(|rate| Cell::rate(rate.as_ref()));
        table.row([Cell::text(&slope.name)].into_iter().chain(rates).collect());
    }
    let chart = slope_chart(&title, what, slopes);
    let caption = format!("{set}, with 95 % intervals. Each line is a variant.");
    figure(&format!("fig-story-{id}"), &chart, &caption, &table)
}
