//! `aird compare`: how far refusal directions moved.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::args::output_path;
use super::paths::{Paths, Verb};
use super::text::table;
use super::ui::Ui;
use crate::direction::{Comparison, Direction, compare};
use crate::gguf::write_file;
use crate::report::{Heat, heatmap};

/// Compare the refusal directions of a model and of others made from it
#[derive(Debug, Args)]
pub struct Compare {
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

/// What `aird compare --json` prints.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The base's model.
    pub base: String,
    /// One entry for each other file, in order.
    pub others: Vec<Comparison>,
}

impl Verb for Compare {
    fn paths(&self) -> Paths {
        Paths::default()
            .reads(std::iter::once(&self.base).chain(&self.others))
            .writes(&self.svg)
            .with(self.force, false)
    }

    fn run(self, ui: &Ui) -> Result<()> {
        let base = Direction::read(&self.base)?;
        let mut others = Vec::new();
        for path in &self.others {
            others.push(compare(&base, &Direction::read(path)?)?);
        }
        if let (Some(path), Some(first)) = (&self.svg, others.first()) {
            let title = format!("cosine to {}", base.about.model);
            let heat = Heat {
                title: &title,
                what: "cosine",
                cells: &first.cells,
                chosen: Some((first.layer.1, first.position.1)),
                limit: Some(1.0),
            };
            write_file(path, heatmap(&heat).file().as_bytes())?;
        }
        let report = Report { base: base.about.model.clone(), others };
        if self.json { ui.print_json(&report) } else { ui.print(self.text(&report)) }
    }
}

impl Compare {
    fn text(&self, report: &Report) -> String {
        let head = ["", "l^c/l", "i^c/i", "cosine", "cosine at l, i"];
        let mut rows = vec![head.map(String::from).to_vec()];
        let number = |x: Option<f64>| x.map_or("-".into(), |x| format!("{x:.3}"));
        for (path, c) in self.others.iter().zip(&report.others) {
            rows.push(vec![
                super::args::file_name(path),
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
