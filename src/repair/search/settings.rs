//! What a search is asked.

use super::answers::{Counts, Questions};
use super::front::Budget;
use crate::repair::half::Half;

/// What to search, and by what.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    /// r, [n_embd], of length 1.
    pub unit: Vec<f32>,
    /// What is asked.
    pub questions: Questions,
    /// The unrepaired model's answers to it, where they were read already.
    pub before: Option<Counts>,
    /// Harmful prompts refused that are enough: the weakest edit that reaches them is looked for.
    /// None: the more the better.
    pub enough: Option<usize>,
    /// Halves to choose from.
    pub halves: Vec<Half>,
    /// Take all of `halves` together instead of choosing.
    pub all_halves: bool,
    /// The strength, where it is given.
    pub alpha: Option<f64>,
    /// Blocks that may be edited together.
    pub max_blocks: usize,
    /// What a repair may cost.
    pub budget: Budget,
}
