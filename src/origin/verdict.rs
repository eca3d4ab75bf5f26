//! What the figures of a tensor mean.

use serde::{Deserialize, Serialize};

use super::bounds::Bounds;
use super::measure::{Figures, Measured, Rest};
use crate::gguf::GgmlType;

/// Part of the rows that must be equal so that it is known how the tensor was written.
const KNOWN: f64 = 0.5;
/// Error of a block that two builds of ggml round differently: of two scales that are equally
/// good but for the last bit of a sum, each may win.
const TIE: f64 = 1.12;

/// Whether a tensor comes from its original.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// The original in the tensor's type has the same bytes.
    Equal,
    /// The bytes differ by no more than rounding allows.
    Within,
    /// It was not rounded from this original, or changed afterwards.
    No,
}

/// What is found against a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The original has no such tensor.
    Added,
    /// Only the original has the tensor.
    Missing,
    /// The shapes differ.
    Shape,
    /// Bytes differ that are no weights, or float values of the same type.
    Bytes,
    /// A float value is not its original's rounding.
    Value,
    /// A value is NaN or infinite.
    NotFinite,
    /// Most rows are equal, and blocks of others are changed.
    Changed,
    /// The error is smaller or larger than the type's.
    Error,
    /// The error of a row is.
    Row,
    /// The error of a block is.
    Block,
    /// Values stand at levels that are not the nearest.
    Misplaced,
    /// The tensor is longer or shorter than rounding makes it.
    Gain,
    /// The error has a direction, as edits of low rank have.
    Direction,
}

/// What `measured`, of a tensor of type `ty`, means. `exact` is false where the original is
/// quantized itself: what its own rounding moved then stands at other levels.
pub fn find(ty: GgmlType, measured: &Measured, exact: bool) -> (Finding, Vec<Reason>) {
    let reasons = match &measured.rest {
        None => return (Finding::Equal, Vec::new()),
        Some(Rest::Bytes) => vec![Reason::Bytes],
        Some(Rest::Floats(far)) if *far <= 1.0 => Vec::new(),
        Some(Rest::Floats(far)) if far.is_infinite() => vec![Reason::Bytes],
        Some(Rest::Floats(_)) => vec![Reason::Value],
        Some(Rest::Rows(figures)) if !figures.is_finite() => vec![Reason::NotFinite],
        Some(Rest::Rows(figures)) => {
            match measured.equal_rows as f64 >= KNOWN * measured.n_rows as f64 {
                true => changed(figures),
                false => beyond(figures, &Bounds::of(ty), exact),
            }
        }
    };
    let finding = if reasons.is_empty() { Finding::Within } else { Finding::No };
    (finding, reasons)
}

/// Where it is known how the tensor was written.
fn changed(figures: &Figures) -> Vec<Reason> {
    let is_changed = figures.block > TIE || figures.misplaced_in_block > 0;
    is_changed.then_some(Reason::Changed).into_iter().collect()
}

/// Where it is not: with other weights, or by another encoder.
fn beyond(figures: &Figures, bounds: &Bounds, exact: bool) -> Vec<Reason> {
    let (least, most) = bounds.error;
    let checks = [
        (Reason::Error, figures.error < least || figures.error > most),
        (Reason::Row, figures.row > bounds.row),
        (Reason::Block, figures.block > bounds.block),
        (Reason::Misplaced, exact && figures.misplaced.is_some_and(|m| m > bounds.misplaced)),
        (Reason::Gain, figures.gain.abs() > bounds.gain),
        (Reason::Direction, figures.direction > bounds.direction),
    ];
    checks.into_iter().filter(|(_, found)| *found).map(|(reason, _)| reason).collect()
}
