//! Inside the repairs: the search, the strengths, the realised alphas, the changes by block.

use std::collections::BTreeMap;

use super::html::{Cell, Table, details, figure, figures, mark, note, paragraph, section};
use crate::eval::interval::Rate;
use crate::report::chart::{
    BlockValues, NamedValue, Strength, alpha_chart, block_chart, value_chart,
};
use crate::report::results::{
    EditedTensor, HeldOutResult, ModelResult, RepairResult, WeightChange,
};
use crate::report::search::{AnsweredReport, CountsReport, SearchReport};
use crate::report::search_chart::Beside;
use crate::report::stage::Stage;
use crate::report::study::{Study, Variant};
use crate::report::text::{counts, escaped, listed, plural, short, three};
use crate::report::verdict::edit_text;

/// A repair on the page.
struct Shown<'a> {
    study: Study<'a>,
    model: &'a ModelResult,
    stage: Stage<'a>,
    /// What the ids of its figures end with.
    id: String,
    /// Repairs of the same variant that were asked the prompts of this one's search.
    beside: Vec<Beside<'a>>,
}

pub(super) fn internals(study: Study<'_>) -> String {
    let mut html = methods(study);
    for (i, variant) in study.variants().into_iter().enumerate() {
        html += &format!("<h3>{}</h3>\n", escaped(&variant.compressed.name));
        if variant.repaired.is_empty() {
            html += &note("The study did not try to repair it.");
        }
        for (k, model) in variant.repaired.iter().copied().enumerate() {
            let shown = Shown {
                study,
                model,
                stage: study.stage(model),
                id: if k == 0 { i.to_string() } else { format!("{i}-{k}") },
                beside: beside(study, &variant, model),
            };
            if variant.repaired.len() > 1 {
                let title = escaped(shown.stage.title);
                html += &format!("<h4>{} {title}</h4>\n", mark(shown.stage));
            }
            html += &shown.html();
        }
        html += &weights(study, &variant, i);
    }
    section("internals", "Inside the repairs", &html)
}

/// What edits and restores are, as far as the study has them.
fn methods(study: Study<'_>) -> String {
    let repairs = || study.results.models.iter().filter_map(|m| m.repair.as_ref());
    let formula = paragraph(
        "W + alpha r rᵀ W, on the attention-output and MLP-output matrices of a block; r is the \
         base’s unit refusal direction. Where blocks and strength were searched, held-out prompts \
         decided.",
    );
    let restore = paragraph(
        "A restore refits every matrix to what the base computes, on the compressed file’s own \
         zeros and types, and then edits only for refusals that are still missing.",
    );
    let is_edited = repairs().any(|repair| repair.alpha.is_some());
    // Alphas that were only tried are in the tables of a search.
    let was_searched = repairs().any(|repair| repair.search.is_some());
    let is_restored = repairs().any(|repair| repair.restored.is_some());
    match (is_edited, is_restored) {
        (true, true) => formula + &restore,
        (true, false) => formula,
        (false, true) if was_searched => restore + &formula,
        (false, true) => restore,
        (false, false) if was_searched => formula,
        (false, false) => String::new(),
    }
}

/// Other repairs of the variant, and the base, as far as they were asked the same prompts.
fn beside<'a>(study: Study<'a>, variant: &Variant<'a>, model: &ModelResult) -> Vec<Beside<'a>> {
    let search = model.repair.as_ref().and_then(|repair| repair.search.as_ref());
    let Some(search) = search else { return Vec::new() };
    let mut beside: Vec<Beside<'a>> = Vec::new();
    for other in variant.repaired.iter().copied().filter(|other| other.name != model.name) {
        let Some(repair) = &other.repair else { continue };
        let held_out = repair.restored.as_ref().and_then(|restored| restored.held_out.as_ref());
        let original = held_out.filter(|h| h.settings.asks_as(&search.settings));
        if let Some(HeldOutResult { original, .. }) = original.filter(|_| beside.is_empty()) {
            let Stage { tone, title } = Stage::BASE;
            beside.push(Beside { name: title, tone, counts: original });
        }
        let counts = repair.held_out().filter(|(settings, _)| settings.asks_as(&search.settings));
        if let Some((_, counts)) = counts {
            let Stage { tone, title } = study.stage(other);
            beside.push(Beside { name: title, tone, counts });
        }
    }
    beside
}

impl Shown<'_> {
    fn html(&self) -> String {
        let Some(repair) = &self.model.repair else {
            let why = self.study.why_missing(self.model);
            return note(&format!("Nothing is known of its repair: {why}."));
        };
        let mut html = match repair.found_nothing() {
            true => paragraph(
                "Nothing that was tried helps within the budget: nothing was edited, and no \
                 repaired model was written.",
            ),
            false if repair.restored.is_some() => paragraph(&format!("{}.", edit_text(repair))),
            false => paragraph(&format!("Edited: {}.", edit_text(repair))),
        };
        let restored = repair.restored.as_ref();
        let held_out = restored.and_then(|restored| restored.held_out.as_ref());
        html += &held_out.map_or_else(String::new, held_out_html);
        match &repair.search {
            None if restored.is_some() => {
                html += &note("No edit along the direction was looked for.")
            }
            None => {
                html += &note("Blocks and strength were given in the recipe; nothing was searched.")
            }
            Some(search) => html += &self.search(search, repair),
        }
        if !repair.tensors.is_empty() {
            html += &figures(&[self.tensors(repair)]);
        }
        html
    }

    fn search(&self, search: &SearchReport, repair: &RepairResult) -> String {
        let budget = &search.budget;
        let mut html = note(&format!(
            "Budget: {} points more false refusals than the compressed model, {} nats of KL to \
             it. {} looked at by how answers begin, {} by whole answers.",
            short(budget.max_false_refusal_points),
            short(budget.max_kl_nats),
            plural(search.screened.len(), "candidate"),
            search.answered.len()
        ));
        let mut drawn = vec![self.front(search)];
        drawn.extend(self.alphas(search, repair));
        html += &figures(&drawn);
        html + &halves(search)
    }

    fn front(&self, search: &SearchReport) -> String {
        let columns =
            ["blocks", ">alpha", ">refused", ">falsely refused", ">no answer", ">KL", "what"];
        let mut table = Table::new("Candidates whose answers were read", &columns);
        let cells = |blocks: &str, alpha: Cell, c: &CountsReport, kl: Cell, what: &str| {
            let number = |rate: &Rate| Cell::number(&counts(rate));
            let (refusal, false_refusal) = (number(&c.refusal), number(&c.false_refusal));
            let none = number(&c.degenerate);
            vec![Cell::text(blocks), alpha, refusal, false_refusal, none, kl, Cell::text(what)]
        };
        let unedited = || Cell::none("unedited");
        table.row(cells("unrepaired", unedited(), &search.compressed, unedited(), "before"));
        for a in &search.answered {
            let what = match a {
                a if a.chosen => "chosen",
                a if !a.within_budget => "over budget",
                a if a.on_front => "on the front",
                _ => "beaten by another",
            };
            let (alpha, kl) = (Cell::number(&short(a.alpha)), Cell::number(&three(a.kl_nats)));
            table.row(cells(&a.blocks.join(", "), alpha, &a.counts, kl, what));
        }
        for other in &self.beside {
            let none = || Cell::none("not measured");
            table.row(cells(other.name, none(), other.counts, none(), "no candidate"));
        }
        let mut caption = format!(
            "What was read whole: up and to the left is better. Triangle: unrepaired; {}: chosen; \
             circles: within the budget; crosses: over it, in false refusals or KL.",
            self.stage.tone.mark().word()
        );
        if !self.beside.is_empty() {
            let names = self.beside.iter().map(|other| other.name.to_owned());
            let names = listed(&names.collect::<Vec<String>>());
            caption += &format!(" Beside them, on the same prompts: {names}.");
        }
        let chart = search.front_beside(self.stage.tone, &self.beside);
        figure(&format!("fig-front-{}", self.id), &chart, &caption, &table)
    }

    /// The strengths of the chosen set of blocks; of the best one where none was chosen.
    fn alphas(&self, search: &SearchReport, repair: &RepairResult) -> Option<String> {
        let best =
            |a: &&AnsweredReport, b: &&AnsweredReport| a.counts.refusal.k.cmp(&b.counts.refusal.k);
        let blocks = match repair.blocks.is_empty() {
            false => &repair.blocks,
            true => &search.answered.iter().max_by(best)?.blocks,
        };
        let strengths = strengths(search, blocks);
        if strengths.len() < 2 {
            return None;
        }
        let columns = [">alpha", ">harmful refused", ">harmless refused", ">KL, nats", "read"];
        let mut table = Table::new("Strengths of these blocks", &columns);
        for s in &strengths {
            let share = |share: f64| Cell::number(&format!("{:.0}\u{a0}%", 100.0 * share));
            let (refused, falsely) = match &s.answered {
                Some((refused, falsely)) => (Cell::rate(Some(refused)), Cell::rate(Some(falsely))),
                None => (share(s.refusal), share(s.false_refusal)),
            };
            let read = if s.answered.is_some() { "whole answers" } else { "how answers begin" };
            let (alpha, kl) = (Cell::number(&short(s.alpha)), Cell::number(&three(s.kl_nats)));
            table.row(vec![alpha, refused, falsely, kl, Cell::text(read)]);
        }
        let title = format!("Strength of the edit of {}", blocks.join(", "));
        let chart = alpha_chart(&title, &strengths, search.budget.max_kl_nats, self.stage.tone);
        let caption = format!(
            "{title}: refusals and KL by alpha, held-out prompts. Open points: judged by how \
             answers begin; filled ones, with 95 % intervals: by whole answers."
        );
        Some(figure(&format!("fig-alpha-{}", self.id), &chart, &caption, &table))
    }

    fn tensors(&self, repair: &RepairResult) -> String {
        let columns = ["tensor", "from", "to", ">realised alpha", ">noise", ">its type’s own"];
        let mut table = Table::new("Edited tensors", &columns);
        for t in &repair.tensors {
            table.row(vec![
                Cell::code(&t.name),
                Cell::text(&t.from),
                Cell::text(&t.to),
                Cell::three_or(Some(t.realised_alpha), "not finite"),
                Cell::number(&format!("{:.4}", t.noise)),
                Cell::number(&format!("{:.4}", t.own_noise)),
            ]);
        }
        let value = |t: &EditedTensor| NamedValue {
            name: t.name.trim_end_matches(".weight").to_owned(),
            value: t.realised_alpha,
        };
        let values: Vec<NamedValue> = repair.tensors.iter().map(value).collect();
        let chart = value_chart(
            "Realised alpha by tensor",
            "realised alpha",
            self.stage.tone,
            (&values, repair.alpha.unwrap_or(0.0)),
        );
        let caption = "Alpha that is really in the file, after rounding to each tensor’s type. \
                       Noise: what rounding added, relative to the tensor, beside what its type’s \
                       own rounding is.";
        figure(&format!("fig-realised-{}", self.id), &chart, caption, &table)
    }
}

fn held_out_html(held_out: &HeldOutResult) -> String {
    let HeldOutResult { original, restored, .. } = held_out;
    paragraph(&format!(
        "Of {} held-out harmful prompts the base refuses {}, the restored model {}; of {} harmless \
         ones {} and {}.",
        original.refusal.n,
        original.refusal.k,
        restored.refusal.k,
        original.false_refusal.n,
        original.false_refusal.k,
        restored.false_refusal.k
    ))
}

/// Everything measured about `blocks`, the weakest edit first; whole answers replace beginnings.
fn strengths(search: &SearchReport, blocks: &[String]) -> Vec<Strength> {
    let answered = search.answered.iter().filter(|a| a.blocks == blocks).map(|a| Strength {
        alpha: a.alpha,
        refusal: a.counts.refusal.rate.unwrap_or(0.0),
        false_refusal: a.counts.false_refusal.rate.unwrap_or(0.0),
        kl_nats: a.kl_nats,
        answered: Some((a.counts.refusal, a.counts.false_refusal)),
        chosen: a.chosen,
    });
    let mut strengths: Vec<Strength> = answered.collect();
    let is_new = |alpha: f64, known: &[Strength]| known.iter().all(|s| s.alpha != alpha);
    for s in search.screened.iter().filter(|s| s.blocks == blocks) {
        if is_new(s.alpha, &strengths) {
            strengths.push(Strength {
                alpha: s.alpha,
                refusal: s.refusal,
                false_refusal: s.false_refusal,
                kl_nats: s.kl_nats,
                answered: None,
                chosen: false,
            });
        }
    }
    strengths.retain(|s| s.alpha.is_finite() && s.alpha > 0.0);
    strengths.sort_by(|a, b| a.alpha.total_cmp(&b.alpha));
    strengths
}

fn halves(search: &SearchReport) -> String {
    let mut table = Table::new("Alignment of each half of a block", &[">block", "half", ">c"]);
    for half in &search.halves {
        table.row(vec![
            Cell::number(&half.block.to_string()),
            Cell::text(&half.part),
            Cell::number(&three(half.c)),
        ]);
    }
    if table.is_empty() {
        return String::new();
    }
    let why = note(
        "c: how much more of the direction it writes on harmful prompts than on harmless ones. \
         Below 0 it is aligned against refusal, and strengthening it would do harm.",
    );
    details("How each half of a block is aligned with refusal", &(table.html() + &why))
}

/// Weight change by block, of the compressed and of the repaired models.
fn weights(study: Study<'_>, variant: &Variant<'_>, i: usize) -> String {
    let models = || [variant.compressed].into_iter().chain(variant.repaired.iter().copied());
    // A repair's axis has the range of its variant's axis: few of its tensors changed.
    let changed = models().flat_map(|m| &m.weights).filter_map(|w| w.block);
    let n_block = changed.max().map_or(0, |last| last + 1);
    let mut drawn = Vec::new();
    let mut missing = Vec::new();
    for (k, model) in models().enumerate() {
        let id = match k {
            0 => format!("fig-weights-variant-{i}"),
            1 => format!("fig-weights-repaired-{i}"),
            k => format!("fig-weights-repaired-{i}-{}", k - 1),
        };
        match model.weights.is_empty() {
            false => drawn.push(weight_figure(study, model, n_block, &id)),
            true => missing.push(format!("{} ({})", model.name, study.why_missing(model))),
        }
    }
    let mut html = figures(&drawn);
    if !missing.is_empty() {
        html += &note(&format!("Weights not compared: {}.", missing.join("; ")));
    }
    html
}

fn weight_figure(study: Study<'_>, model: &ModelResult, n_block: u32, id: &str) -> String {
    let tone = study.stage(model).tone;
    let of = model.of.as_deref().unwrap_or("its original");
    let mut blocks: BTreeMap<u32, Vec<(String, f64)>> = BTreeMap::new();
    for WeightChange { tensor, block, relative } in &model.weights {
        if let Some(block) = block.filter(|_| relative.is_finite()) {
            blocks.entry(block).or_default().push((tensor.clone(), *relative));
        }
    }
    let blocks = blocks.into_iter().map(|(block, tensors)| BlockValues { block, tensors });
    let blocks: Vec<BlockValues> = blocks.collect();
    let mut table = Table::new("Weight change by tensor", &["tensor", ">|B − A| / |A|"]);
    for w in &model.weights {
        table.row(vec![Cell::code(&w.tensor), Cell::three_or(Some(w.relative), "not finite")]);
    }
    let title = format!("Weight change of {} by block", model.name);
    let chart = block_chart(&title, "relative change", tone, (&blocks, n_block));
    let caption = format!(
        "Weights of {} against {of}: |B − A| / |A| (Frobenius), a dash for each tensor.",
        model.name
    );
    figure(id, &chart, &caption, &table)
}
