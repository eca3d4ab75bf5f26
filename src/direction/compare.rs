//! How far a direction moved: layer, position and cosines of the directions of two models.

use serde::{Deserialize, Serialize};

use super::error::{Error, Result};
use super::file::Direction;
use super::intervene::cosine;

/// What `aird compare --json` holds for each other direction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The other file's model.
    pub model: String,
    /// Chosen layer of the other over that of the base: the study's l^c/l. The other has none if
    /// its file holds only candidates: a model that hardly refuses has no direction to choose.
    pub layer: (Option<usize>, usize),
    /// Chosen position of the other over that of the base: the study's i^c/i.
    pub position: (Option<i32>, i32),
    /// Cosine of the two chosen directions.
    pub cosine: Option<f64>,
    /// Cosine of both models' candidates at the base's cell.
    pub cosine_at_base: Option<f64>,
    /// Cosine at every layer and position, `[n_layer][n_pos]`, position -1 first.
    pub cells: Vec<Vec<Option<f64>>>,
}

/// Compares `other` with `base`.
///
/// # Errors
/// Different widths, numbers of layers or of positions; or the base holds no choice.
pub fn compare(base: &Direction, other: &Direction) -> Result<Comparison> {
    let (a, b) = (&base.candidates, &other.candidates);
    let incomparable = |why: String| Error::Incomparable {
        a: base.about.model.clone(),
        b: other.about.model.clone(),
        why,
    };
    for (what, x, y) in [
        ("wide", a.n_embd, b.n_embd),
        ("layers deep", a.n_layer, b.n_layer),
        ("positions long", a.n_pos, b.n_pos),
    ] {
        if x != y {
            return Err(incomparable(format!("one is {x} {what}, the other {y}")));
        }
    }
    let none = || incomparable("the first has no chosen layer and position".into());
    let (l, i) = base.about.layer.zip(base.about.position).ok_or_else(none)?;
    let (lc, ic) = (other.about.layer, other.about.position);
    let at = |layer: usize, from_end: usize| cosine(a.at(layer, from_end), b.at(layer, from_end));
    Ok(Comparison {
        model: other.about.model.clone(),
        layer: (lc, l),
        position: (ic, i),
        cosine: other.chosen().ok().zip(base.chosen().ok()).and_then(|(o, b)| cosine(b, o)),
        cosine_at_base: at(l, (-1 - i) as usize),
        cells: (0..a.n_layer).map(|l| (0..a.n_pos).map(|p| at(l, p)).collect()).collect(),
    })
}
