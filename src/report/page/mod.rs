//! The report of a study, and the page over several: HTML, no scripts, nothing fetched.

mod aird;
mod attacks;
mod directions;
mod html;
mod internals;
mod interventions;
mod overview;
mod published;
mod record;
mod summary;
mod utility;

use super::chart::STYLE as CHARTS;
use super::results::Results;
use super::run_files::{RESULTS, TRANSCRIPTS};
use super::stage::Stage;
use super::study::Study;
use super::text::{escaped, plural, short_hash};
use html::mark;
pub use overview::overview;

/// The page's own style; charts have theirs.
const STYLE: &str = include_str!("page.css");

/// Its sections, with their titles in the contents.
const CONTENTS: [(&str, &str); 13] = [
    ("summary", "Summary"),
    ("selection", "Selection"),
    ("cosine", "Cosine"),
    ("necessity", "Necessity"),
    ("sufficiency", "Sufficiency"),
    ("attacks", "Attacks"),
    ("aird", "Before, after"),
    ("over-refusal", "Over-refusal"),
    ("utility", "Utility"),
    ("internals", "Repairs"),
    ("judges", "Judges"),
    ("steps", "Steps"),
    ("versions", "Versions"),
];

/// The report of `results`, all of it.
pub fn page(results: &Results) -> String {
    let study = Study { results };
    let name = escaped(&results.name);
    let sections = [
        html::section("summary", "Summary", &summary::summary(study)),
        directions::selection(study),
        directions::cosine(study),
        interventions::necessity(study),
        interventions::sufficiency(study),
        attacks::attacks(study),
        aird::before_after(study),
        attacks::over_refusal(study),
        utility::utility(study),
        internals::internals(study),
        record::judges(study),
        record::steps(study),
        record::versions(study),
    ];
    let body =
        format!("{}<main>\n{}</main>\n{}", header(study, &name), sections.concat(), footer(study));
    document(&results.name, &body)
}

/// A whole page with its styles.
fn document(title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{}: aird study</title>\n<style>\n{CHARTS}{STYLE}</style>\n</head>\n<body>\n\
         {body}</body>\n</html>\n",
        escaped(title)
    )
}

fn header(study: Study<'_>, name: &str) -> String {
    let links = CONTENTS.map(|(id, title)| format!("<a href=\"#{id}\">{title}</a>"));
    let answers = match study.results.models.iter().all(|m| m.sets.is_empty()) {
        true => "There are no answers to read.".to_owned(),
        false => format!("<a href=\"{TRANSCRIPTS}\">Read the answers</a>."),
    };
    let entry = |stage: Stage<'_>| format!("<span>{} {}</span>", mark(stage), escaped(stage.title));
    let legend: Vec<String> = study.stages().into_iter().map(entry).collect();
    let repairs = if study.has_several_repairs() { "the repairs" } else { "the repair" };
    format!(
        "<header>\n<h1>{name}</h1>\n<p class=\"about\">A study by aird {}: {} of {}, what \
         compression did to {} refusals, and what {repairs} brought back. \
         {answers} Numbers: <a href=\"{RESULTS}\">{RESULTS}</a>.</p>\n\
         <p class=\"legend\">{}</p>\n{}<nav aria-label=\"Contents\">{}</nav>\n</header>\n",
        escaped(&study.results.aird),
        plural(study.variants().len(), "variant"),
        escaped(study.base_title()),
        if study.variants().len() == 1 { "its" } else { "their" },
        legend.join(" "),
        record::alert(study),
        links.join(" ")
    )
}

fn footer(study: Study<'_>) -> String {
    format!(
        "<footer><p>aird {}, recipe <code>{}</code>. After “When Compression Breaks Safety, \
         Interpretability Reveals The Fix”, <a href=\"{}\">arXiv 2504.04215</a>. This page holds \
         no scripts and fetches nothing.</p></footer>\n",
        escaped(&study.results.aird),
        escaped(short_hash(&study.results.recipe_sha256)),
        published::SOURCE
    )
}
