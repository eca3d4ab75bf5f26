//! How far did refusal directions move?

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::Result;
use super::host::Host;
use super::stopped::Stopped;
use crate::direction::{Comparison, Direction, compare};
use crate::gguf::write_file;
use crate::report::{Heat, heatmap};

/// What to compare.
#[derive(Debug, Clone)]
pub struct Request {
    /// The original model's direction file.
    pub base: PathBuf,
    /// Direction files of models made from it.
    pub others: Vec<PathBuf>,
    /// Draw the cosine at every layer and position, of the first other, into this SVG file.
    pub svg: Option<PathBuf>,
}

/// How far the directions are apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// The base's model.
    pub base: String,
    /// One entry for each other file, in order.
    pub others: Vec<Comparison>,
}

/// Compares directions.
///
/// # Errors
/// A file cannot be read or written, or directions have different widths.
pub fn run(request: &Request, _: &dyn Host) -> Result<Report, Stopped> {
    let base = Direction::read(&request.base)?;
    let mut others = Vec::new();
    for path in &request.others {
        others.push(compare(&base, &Direction::read(path)?)?);
    }
    if let (Some(path), Some(first)) = (&request.svg, others.first()) {
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
    Ok(Report { base: base.about.model, others })
}
