//! What a restore works on, and what it leaves on the disk.

use crate::gguf::{Model, Step};
use crate::refit::{Parts, Refitted};
use crate::stats::Sample;

/// A model that was restored, and what it is restored to.
#[derive(Clone, Copy)]
pub(super) struct Pair<'a> {
    /// The compressed model.
    pub model: &'a Model,
    /// Its original.
    pub original: &'a Model,
}

/// Refitted matrices, in parts beside the output, and what made them.
pub(super) struct RefittedParts {
    pub refitted: Refitted,
    pub parts: Parts,
    pub step: Step,
    pub samples: Vec<Sample>,
}
