//! What a model is asked: contexts and possible continuations.

use serde_json::{Map, Value};

/// A context and one continuation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The text before the choice.
    pub context: String,
    /// What may follow, without the space between.
    pub choice: String,
}

/// A question with its choices.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Its line in the data file, the first if it has several; from 1.
    pub line: usize,
    /// The choices, each after its context: nearly always the same.
    pub pairs: Vec<Pair>,
    /// Which is right, from 0.
    pub gold: usize,
    /// What lm-evaluation-harness calls the target: what `gold` reads as there.
    pub target: String,
    /// The row as the data file has it.
    pub doc: Map<String, Value>,
}

impl Item {
    /// The pairs of one context with each of `choices`.
    pub fn pairs(context: &str, choices: &[impl AsRef<str>]) -> Vec<Pair> {
        let pair = |choice: &str| Pair { context: context.into(), choice: choice.into() };
        choices.iter().map(|choice| pair(choice.as_ref())).collect()
    }
}
