//! `aird compare`: its arguments, and its report in print.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::args::{file_name, output_path};
use super::paths::{Paths, Verb};
use super::text::table;
use super::ui::Ui;
use crate::direction::Comparison;
use crate::verbs::compare::{Report, Request, run};

/// Compare the refusal directions of a model and of others made from it
#[derive(Debug, Args)]
pub(super) struct Compare {
    /// The original model's direction file.
    base: PathBuf,
    /// Direction files of models made from it.
    #[arg(required = true)]
    others: Vec<PathBuf>,
    /// Draw the cosine at every layer and position (of the first OTHER) as an SVG file.
    #[arg(long, value_name = "FILE", value_parser = output_path())]
    svg: Option<PathBuf>,
    /// Replace the SVG file if it exists.
    #[arg(long)]
    force: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

impl Verb for Compare {
    fn paths(&self) -> Paths {
        Paths::default()
            .reads(std::iter::once(&self.base).chain(&self.others))
            .writes(&self.svg)
            .with(self.force, false)
    }

    fn run(self, ui: &Ui) -> Result<()> {
        let request = Request { base: self.base, others: self.others, svg: self.svg };
        let report = run(&request, ui)?;
        ui.report(self.json, &report, || text(&request.others, &report))
    }
}

fn text(others: &[PathBuf], report: &Report) -> String {
    let head = ["", "l^c/l", "i^c/i", "cosine", "cosine at l, i"];
    let mut rows = vec![head.map(String::from).to_vec()];
    let number = |x: Option<f64>| x.map_or("-".into(), |x| format!("{x:.3}"));
    for (path, c) in others.iter().zip(&report.others) {
        rows.push(vec![
            file_name(path),
            format!("{}/{}", chosen(c.layer.0), c.layer.1),
            format!("{}/{}", chosen(c.position.0), c.position.1),
            number(c.cosine),
            number(c.cosine_at_base),
        ]);
    }
    let mut text = table(&rows, &[1, 2, 3, 4], "");
    if let [only] = report.others.as_slice() {
        text += &cells_text(only);
    }
    text
}

/// A layer or position; a file of candidates alone has none.
fn chosen(x: Option<impl ToString>) -> String {
    x.map_or("-".into(), |x| x.to_string())
}

/// Layers down, positions across.
fn cells_text(comparison: &Comparison) -> String {
    let n_pos = comparison.cells.first().map_or(0, Vec::len);
    let mut rows = vec![vec!["layer".to_owned()]];
    rows[0].extend((1..=n_pos).map(|p| format!("-{p}")));
    for (layer, cells) in comparison.cells.iter().enumerate() {
        let mut row = vec![layer.to_string()];
        row.extend(cells.iter().map(|x| x.map_or("-".into(), |x| format!("{x:.3}"))));
        rows.push(row);
    }
    let right: Vec<usize> = (0..=n_pos).collect();
    format!("\ncosine by layer and position\n{}", table(&rows, &right, "  "))
}
