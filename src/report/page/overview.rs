//! The studies of several bases on one page: what became of each in a sentence, then every model in
//! one table.

use super::html::{Cell, Table, note, section};
use super::{document, published};
use crate::report::figures::{Figure, Row, rows};
use crate::report::results::{ModelResult, Results};
use crate::report::run_files::PAGE;
use crate::report::stage::Stage;
use crate::report::study::Study;
use crate::report::text::{escaped, plural};
use crate::report::verdict::lead;

/// A page over the studies of several bases, by the bases' names. Links lead to `BASE/report.html`.
pub fn overview(studies: &[(String, Results)]) -> String {
    let title = title(studies);
    let sections: Vec<String> =
        studies.iter().map(|(base, results)| story(base, results)).collect();
    let models = section("models", "All models", &(all_models(studies) + &note(NOTE)));
    let body = format!(
        "<header>\n<h1>{0}</h1>\n<p class=\"about\">A study by aird of {1}: what compression did \
         to their refusals, and what was brought back.</p>\n</header>\n<main>\n{2}{models}</main>\n\
         <footer><p>After “When Compression Breaks Safety, Interpretability Reveals The Fix”, \
         <a href=\"{3}\">arXiv 2504.04215</a>. This page holds no scripts and fetches nothing.</p>\
         </footer>\n",
        escaped(&title),
        plural(studies.len(), "base"),
        sections.concat(),
        published::SOURCE
    );
    document(&title, &body)
}

const NOTE: &str = "Shares carry their 95 % interval (Wilson). Attack success and refused harmless \
                    prompts are better when lower, accuracy when higher. Each study tests its own \
                    changes.";

/// The name of the recipe: what the studies' names begin with.
fn title(studies: &[(String, Results)]) -> String {
    let own = studies.first().map(|(base, results)| {
        results.name.strip_suffix(&format!(", {base}")).unwrap_or(&results.name)
    });
    own.unwrap_or("study").to_owned()
}

fn story(base: &str, results: &Results) -> String {
    let text = format!(
        "<p class=\"lead\">{}</p>\n<p><a href=\"{}/{PAGE}\">The whole study</a></p>\n",
        escaped(&lead(Study { results })),
        escaped(base)
    );
    section(&format!("base-{base}"), base, &text)
}

/// The measures of a model by their names.
struct Measured<'a> {
    base: &'a str,
    stage: Stage<'a>,
    name: &'a str,
    figures: Vec<(String, Option<Figure>)>,
}

fn all_models(studies: &[(String, Results)]) -> String {
    let mut all: Vec<Measured<'_>> = Vec::new();
    for (base, results) in studies {
        all.extend(measured(base, Study { results }));
    }
    let mut measures: Vec<&str> = Vec::new();
    for (name, _) in all.iter().flat_map(|model| &model.figures) {
        if !measures.contains(&name.as_str()) {
            measures.push(name);
        }
    }
    let heads = measures.iter().map(|name| Cell::head(&format!(">{name}")));
    let heads: Vec<Cell> =
        [Cell::head("base"), Cell::head("model")].into_iter().chain(heads).collect();
    let mut table = Table::headed("Every model of every base", &heads);
    for model in &all {
        let figure = |name: &&str| {
            let found = model.figures.iter().find(|(other, _)| other == name);
            Cell::figure(found.and_then(|(_, figure)| figure.as_ref()))
        };
        let named = [Cell::text(model.base), Cell::model(model.stage, model.name)];
        table.row(named.into_iter().chain(measures.iter().map(figure)).collect());
    }
    table.or("No model was measured.")
}

/// The base, then every variant, each followed by its repairs.
fn measured<'a>(base: &'a str, study: Study<'a>) -> Vec<Measured<'a>> {
    let of = |model: &'a ModelResult, rows: &[Row], figure: &dyn Fn(&Row) -> Option<Figure>| {
        let figures = rows.iter().map(|row| (row.name.clone(), figure(row))).collect();
        Measured { base, stage: study.stage(model), name: &model.name, figures }
    };
    let mut all = Vec::new();
    for variant in study.variants() {
        let rows = rows(study, &variant);
        if let (Some(original), true) = (study.base(), all.is_empty()) {
            all.push(of(original, &rows, &|row| row.base.clone()));
        }
        all.push(of(variant.compressed, &rows, &|row| row.compressed.figure.clone()));
        for (i, model) in variant.repaired.iter().enumerate() {
            all.push(of(model, &rows, &|row| row.repaired[i].figure.clone()));
        }
    }
    all
}
