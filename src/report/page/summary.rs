//! The summary: the whole study in a sentence, then before and after, variant by variant.

use super::html::{Cell, Table, figure, figures, note, paragraph};
use crate::eval::interval::Rate;
use crate::report::chart::{End, Slope, slope_chart};
use crate::report::figures::{Row, measured_repairs, rows};
use crate::report::results::ModelResult;
use crate::report::stage::Stage;
use crate::report::study::{Study, Variant};
use crate::report::text::escaped;
use crate::report::verdict::{lead, paragraphs};

pub(super) fn summary(study: Study<'_>) -> String {
    let mut html = format!("<p class=\"lead\">{}</p>\n", escaped(&lead(study)));
    html += &story(study);
    for variant in study.variants() {
        html += &variant_html(study, &variant);
    }
    html + &note(
        "Shares carry their 95 % interval (Wilson). Changes are relative to the model before: of \
         the compressed to the base, of the repaired to the compressed; coloured where McNemar's \
         exact test on the same prompts finds p < 0.05. Attack success and refused harmless \
         prompts are better when lower; refused attacks and accuracy when higher.",
    )
}

fn variant_html(study: Study<'_>, variant: &Variant<'_>) -> String {
    let model = variant.compressed;
    let mut html = format!("<h3>{}</h3>\n", escaped(&model.name));
    if !model.made.is_empty() {
        html += &format!("<p class=\"made\"><code>{}</code></p>\n", escaped(&model.made_text()));
    }
    for text in paragraphs(study, variant) {
        html += &paragraph(&text);
    }
    let rows = rows(study, variant);
    if rows.is_empty() {
        return html;
    }
    let repairs = measured_repairs(&rows);
    let mut columns = vec![
        Cell::head("measure"),
        Cell::stage(Stage::BASE),
        Cell::stage(Stage::COMPRESSED),
        Cell::head(">change"),
    ];
    for i in &repairs {
        let stage = Cell::stage(study.stage(variant.repaired[*i]));
        columns.extend([stage, Cell::head(">change"), Cell::head(">p")]);
    }
    let mut table = Table::headed(&format!("{}: before and after", model.name), &columns);
    rows.iter().for_each(|row| table.row(cells(row, &repairs)));
    html + &table.html()
}

/// The cells of a measure, with the repairs at these places.
fn cells(row: &Row, repairs: &[usize]) -> Vec<Cell> {
    let mut cells = vec![
        Cell::text(&row.name),
        Cell::figure(row.base.as_ref()),
        Cell::figure(row.compressed.figure.as_ref()),
        Cell::shift(row.compressed.shift.as_ref()),
    ];
    for repaired in repairs.iter().map(|i| &row.repaired[*i]) {
        let p = repaired.shift.as_ref().and_then(|c| c.p);
        let p = p.map_or_else(|| Cell::none("not tested"), |p| Cell::p(Some(p)));
        let (figure, shift) = (repaired.figure.as_ref(), repaired.shift.as_ref());
        cells.extend([Cell::figure(figure), Cell::shift(shift), p]);
    }
    cells
}

/// A variant's course through the study.
struct Course {
    slope: Slope,
    /// Its share after each repair of the study, in their order.
    repaired: Vec<Option<Rate>>,
}

/// What is drawn of an attack, and of a benign set: how much of it is refused. Attack success falls
/// where a model only babbles; it is in the tables.
const STORY: [(bool, &str, &str); 2] =
    [(true, "attack", "attacks refused"), (false, "benign", "harmless prompts refused")];

/// The first attack and the first benign set, with every variant's course through the study.
fn story(study: Study<'_>) -> String {
    let first = |attack| study.sets(attack).into_iter().next();
    let drawn = STORY.map(|(attack, id, what)| {
        let set = first(attack)?;
        let rate = |m: &ModelResult| {
            m.outcome(set).map(|o| o.shares.refusal).filter(|rate| rate.rate.is_some())
        };
        let variants = study.variants();
        let courses = variants.iter().map(|variant| course(study, variant, &rate));
        let courses: Vec<Course> =
            courses.filter(|course| course.slope.compressed.is_some()).collect();
        (!courses.is_empty()).then(|| story_figure(study, id, (set, what), &courses))
    });
    figures(&drawn.into_iter().flatten().collect::<Vec<String>>())
}

fn course(
    study: Study<'_>,
    variant: &Variant<'_>,
    rate: &dyn Fn(&ModelResult) -> Option<Rate>,
) -> Course {
    // By the repair's own name: two repairs may be shown by the same word.
    let after = |name: Option<&str>| {
        let mut models = variant.repaired.iter().copied();
        rate(models.find(|m| m.repaired_by.as_deref() == name)?)
    };
    let ends = variant.repaired.iter().copied().map(|m| end(study, m, rate(m)));
    let slope = Slope {
        name: variant.compressed.name.clone(),
        base: study.base().and_then(rate),
        compressed: rate(variant.compressed),
        repaired: ends.collect(),
    };
    Course { slope, repaired: study.repairs().into_iter().map(after).collect() }
}

fn end(study: Study<'_>, model: &ModelResult, rate: Option<Rate>) -> End {
    let Stage { tone, title } = study.stage(model);
    End { title: title.into(), tone, rate }
}

fn story_figure(
    study: Study<'_>,
    id: &str,
    (set, what): (&str, &str),
    courses: &[Course],
) -> String {
    let title = format!("{set}: {what}");
    let ends: Vec<Stage<'_>> = study.stages().into_iter().skip(2).collect();
    let mut columns = vec!["variant".to_owned(), ">base".into(), ">compressed".into()];
    columns.extend(ends.iter().map(|stage| format!(">{}", stage.title)));
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let mut table = Table::new(&title, &columns);
    for Course { slope, repaired } in courses {
        let rates = [slope.base, slope.compressed].into_iter().chain(repaired.iter().copied());
        let rates = rates.map(|rate| Cell::rate(rate.as_ref()));
        table.row([Cell::text(&slope.name)].into_iter().chain(rates).collect());
    }
    let slopes: Vec<Slope> = courses.iter().map(|course| course.slope.clone()).collect();
    let chart = slope_chart(&title, what, &slopes);
    let lines = match study.has_several_repairs() {
        true => "Each line is a variant, and forks into its repairs.",
        false => "Each line is a variant.",
    };
    let caption = format!("{set}, with 95 % intervals. {lines}");
    figure(&format!("fig-story-{id}"), &chart, &caption, &table)
}
