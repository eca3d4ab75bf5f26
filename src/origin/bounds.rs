//! How far a tensor may lie from what its original becomes, by type.

use crate::gguf::GgmlType;

/// The figures of an honest tensor, at most: see [`Figures`](super::Figures).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// Least and greatest error, in parts of the plain one's.
    pub error: (f64, f64),
    /// Greatest error of a row.
    pub row: f64,
    /// Greatest error of a block.
    pub block: f64,
    /// Share of values that may stand at another level than the nearest.
    pub misplaced: f64,
    /// Length along the original, more or less.
    pub gain: f64,
    /// Greatest share of the error along one direction.
    pub direction: f64,
}

impl Bounds {
    /// The bounds of a type's tensors.
    pub fn of(_ty: GgmlType) -> Bounds {
        Bounds {
            error: (0.9, 1.5),
            row: 3.0,
            block: 5.0,
            misplaced: 0.05,
            gain: 0.05,
            direction: 3.0,
        }
    }
}
