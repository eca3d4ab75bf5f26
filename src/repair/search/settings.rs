//! Settings of a search.

use super::answers::{Counts, Questions};
use super::front::Budget;
use crate::repair::half::Half;

/// What to search for, and on which prompts.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    /// r, `[n_embd]`, of length 1.
    pub unit: Vec<f32>,
    /// The prompts, and how they are asked.
    pub questions: Questions,
    /// The unrepaired model's answers to them, if they were read already.
    pub before: Option<Counts>,
    /// Number of refused harmful prompts that is enough: the search looks for the weakest edit that
    /// reaches it. None: the more, the better.
    pub enough: Option<usize>,
    /// Halves to choose from.
    pub halves: Vec<Half>,
    /// Take all of `halves` together instead of choosing.
    pub all_halves: bool,
    /// The strength, if it is fixed.
    pub alpha: Option<f64>,
    /// Most blocks that may be edited together.
    pub max_blocks: usize,
    /// What a repair may cost.
    pub budget: Budget,
}
