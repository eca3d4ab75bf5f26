//! Where each model's refusal direction is, and how far it turned.

use super::html::{Cell, Table, figure, figures, note, section};
use super::published::{Published, SOURCE, published};
use crate::direction::{About, CellScores, Comparison};
use crate::report::chart::{Heat, Series, heatmap, line_chart};
use crate::report::results::{ModelResult, Role};
use crate::report::study::Study;
use crate::report::text::{short, three_or};

/// The selection: layers and positions, with the scores that decided.
pub(super) fn selection(study: Study<'_>) -> String {
    let columns = ["model", ">l^c/l", ">i^c/i", ">bypass", ">induce", ">KL, nats", ">prompts kept"];
    let mut table = Table::new("Chosen layer and position, with their scores", &columns);
    let known = |m: &&ModelResult| m.role != Role::Repaired || m.direction.is_some();
    for model in study.results.models.iter().filter(known) {
        match &model.direction {
            Some(about) if about.layer.is_some() => {
                table.row(selection_row(study, model, about));
            }
            about => {
                let name = Cell::model(study.stage(model), &model.name);
                table.missing(name, &no_direction(study, model, about.is_some()));
            }
        }
    }
    let mut html = table.or("No model was looked into.");
    html += &note(
        "l: the layer at whose input the direction is taken; i: the position, counted from the \
         prompt's end; each of the model's own over the base's. bypass: mean refusal score of \
         harmful prompts with the direction taken out (lower is better); induce: of harmless \
         prompts with it added (above 0); KL: what taking it out changes for harmless prompts.",
    );
    html += &selection_figure(study);
    section("selection", "Where refusal is decided", &html)
}

/// Why there is no chosen layer and position; `captured`: the candidates exist.
fn no_direction(study: Study<'_>, model: &ModelResult, captured: bool) -> String {
    match captured || model.comparison.is_some() {
        true => "refuses too little to have a direction of its own".into(),
        false => study.why_missing(model),
    }
}

fn selection_row(study: Study<'_>, model: &ModelResult, about: &About) -> Vec<Cell> {
    let base = study.base().and_then(|m| m.direction.as_ref());
    let over = |own: Option<String>, base: Option<String>| match (own, base) {
        (Some(own), Some(base)) => Cell::number(&format!("{own}/{base}").replace('-', "−")),
        (own, _) => Cell::number_or(own, "none"),
    };
    let base_layer = base.and_then(|b| b.layer).map(|l| l.to_string());
    let base_position = base.and_then(|b| b.position).map(|i| i.to_string());
    let scores = chosen_scores(about);
    let score = |of: fn(&CellScores) -> Option<f64>| Cell::three_or(scores.and_then(of), "none");
    let (harmful, harmless) = about.n_kept;
    vec![
        Cell::model(study.stage(model), &model.name),
        over(about.layer.map(|l| l.to_string()), base_layer),
        over(about.position.map(|i| i.to_string()), base_position),
        score(|s| s.bypass),
        score(|s| s.induce),
        score(|s| s.kl_nats),
        Cell::number(&format!("{harmful} + {harmless}")),
    ]
}

fn chosen_scores(about: &About) -> Option<&CellScores> {
    let chosen =
        |s: &&CellScores| Some(s.layer) == about.layer && Some(s.position) == about.position;
    about.scores.iter().find(chosen)
}

/// Place of a score in a heatmap; None if no model has such a layer or position.
fn cell_of(layer: usize, position: i32) -> Option<(usize, usize)> {
    const MOST: (usize, i32) = (1024, 256);
    let is_any = layer < MOST.0 && (-MOST.1..0).contains(&position);
    is_any.then(|| (layer, (-1 - position) as usize))
}

/// `[n_layer][n_pos]`; None where a candidate was not evaluated.
fn bypass_cells(scores: &[CellScores]) -> Vec<Vec<Option<f64>>> {
    let placed = || scores.iter().filter_map(|s| Some((cell_of(s.layer, s.position)?, s.bypass)));
    let n_layer = placed().map(|((layer, _), _)| layer + 1).max().unwrap_or(0);
    let n_pos = placed().map(|((_, from_end), _)| from_end + 1).max().unwrap_or(0);
    let mut cells = vec![vec![None; n_pos]; n_layer];
    placed().for_each(|((layer, from_end), bypass)| cells[layer][from_end] = bypass);
    cells
}

fn selection_figure(study: Study<'_>) -> String {
    let base = study.base().and_then(|m| m.direction.as_ref());
    let Some(about) = base.filter(|a| !a.scores.is_empty()) else {
        return note("The base's candidates were not scored: there is no map of them.");
    };
    let cells = bypass_cells(&about.scores);
    let mut table = Table::new(
        "Scores of every candidate",
        &["layer", ">position", ">bypass", ">induce", ">KL"],
    );
    for s in &about.scores {
        table.row(vec![
            Cell::number(&s.layer.to_string()),
            Cell::number(&s.position.to_string().replace('-', "−")),
            Cell::three_or(s.bypass, "not evaluated"),
            Cell::three_or(s.induce, "not evaluated"),
            Cell::three_or(s.kl_nats, "not evaluated"),
        ]);
    }
    let heat = Heat {
        title: "Selection scores of the base's candidates",
        what: "bypass score",
        cells: &cells,
        chosen: about.layer.zip(about.position).filter(|c| cell_of(c.0, c.1).is_some()),
        limit: None,
    };
    let limit = about.max_kl.map_or_else(
        || "chosen by hand".into(),
        |kl| format!("chosen under a limit on KL of {} nats", short(kl)),
    );
    let caption = format!(
        "Refusal score of harmful prompts with each candidate taken out of the base. The framed \
         one was {limit}; a dash: dropped before it was scored."
    );
    figure("fig-selection", &heatmap(&heat), &caption, &table)
}

/// Cosines between base and compressed, beside the paper's.
pub(super) fn cosine(study: Study<'_>) -> String {
    let columns =
        ["model", ">cosine", ">at the base’s l, i", "paper: Llama-2-7B", "paper: Llama-3-8B"];
    let mut table =
        Table::new("Cosine of the base’s direction and the compressed model’s", &columns);
    let mut is_beside = false;
    let known = |m: &&ModelResult| match m.role {
        Role::Base => false,
        Role::Variant => true,
        Role::Repaired => m.comparison.is_some(),
    };
    for model in study.results.models.iter().filter(known) {
        let paper = (model.role == Role::Variant).then(|| published(&model.made)).flatten();
        match &model.comparison {
            Some(found) => table.row(cosine_row(study, model, found, paper)),
            None => {
                table.missing(
                    Cell::model(study.stage(model), &model.name),
                    &study.why_missing(model),
                );
            }
        }
        is_beside |= paper.is_some() && model.comparison.is_some();
    }
    let mut html = table.or("There is nothing to compare with the base.");
    if is_beside {
        html += &format!(
            "<p class=\"note\">The paper’s columns are other models’ figures, for orientation: \
             those that <a href=\"{SOURCE}\">arXiv 2504.04215</a> gives for its way of compressing \
             Llama-2-7B and Llama-3-8B, named in brackets.</p>\n"
        );
    }
    html += &note(
        "A high cosine proves nothing by itself: refusals may be lost while it stays above 0.97.",
    );
    let drawn = [
        (Role::Variant, "fig-cosine", "Compressed: cosine to the base’s direction, by layer"),
        (Role::Repaired, "fig-cosine-repaired", "Repaired: the same"),
    ];
    let drawn: Vec<String> = drawn
        .iter()
        .filter_map(|(role, id, title)| cosine_figure(study, *role, id, title))
        .collect();
    html += &figures(&drawn);
    section("cosine", "How far the direction turned", &html)
}

fn cosine_row(
    study: Study<'_>,
    model: &ModelResult,
    found: &Comparison,
    paper: Option<Published>,
) -> Vec<Cell> {
    let beside = |figure: fn(&Published) -> Option<&'static str>| {
        let figure = paper.as_ref().and_then(|p| Some((figure(p)?, p.name)));
        let text = figure.map(|(figure, name)| format!("{figure} ({name})"));
        Cell::none(text.as_deref().unwrap_or("none"))
    };
    vec![
        Cell::model(study.stage(model), &model.name),
        Cell::three_or(found.cosine, "no direction of its own"),
        Cell::three_or(found.cosine_at_base, "none"),
        beside(|p| p.llama_2_7b),
        beside(|p| p.llama_3_8b),
    ]
}

fn cosine_figure(study: Study<'_>, role: Role, id: &str, title: &str) -> Option<String> {
    let models: Vec<&ModelResult> =
        study.results.models.iter().filter(|m| m.role == role).collect();
    let compared = models.iter().filter_map(|m| Some((*m, m.comparison.as_ref()?)));
    let compared: Vec<_> = compared.filter(|(_, c)| !c.cells.is_empty()).collect();
    let (layer, position) = compared.first().map(|(_, c)| (c.layer.1, c.position.1))?;
    let from_end = (-1 - position).max(0) as usize;
    let at = |cells: &[Option<f64>]| cells.get(from_end).copied().flatten();
    let series: Vec<Series> = compared
        .iter()
        .map(|(m, c)| Series {
            name: m.name.clone(),
            tone: study.stage(m).tone,
            values: c.cells.iter().map(|cells| at(cells)).collect(),
        })
        .collect();
    let names: Vec<String> = compared.iter().map(|(m, _)| format!(">{}", m.name)).collect();
    let columns: Vec<&str> =
        ["layer"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let mut table = Table::new(title, &columns);
    for l in 0..series.iter().map(|s| s.values.len()).max().unwrap_or(0) {
        let numbers = series
            .iter()
            .map(|s| Cell::number(&three_or(s.values.get(l).copied().flatten(), "none")));
        table.row([Cell::number(&l.to_string())].into_iter().chain(numbers).collect());
    }
    let chart = line_chart(title, "cosine", &series, Some(layer));
    let position = position.to_string().replace('-', "−");
    let caption = format!("{title}, at position {position}. The line marks the base’s layer.");
    Some(figure(id, &chart, &caption, &table))
}
