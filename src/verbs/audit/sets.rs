//! The prompts of an audit.

use super::request::{Condition, Request};
use crate::eval::audit::Verdict;
use crate::prompts::{self, Part, PromptSet};
use crate::verbs::error::{Error, Result};
use crate::verbs::gates::check_asked;

/// The set that is to be refused.
pub(super) const HARMFUL: &str = "harmful";
/// The set along whose answers predictions are compared.
pub(super) const HARMLESS: &str = "harmless";
/// Harmful prompts of a file that an audit needs at least.
const LEAST: usize = 8;

/// A set of prompts.
pub(super) struct AuditSet {
    /// `harmful`, `harmless` or `borderline`.
    pub name: &'static str,
    /// True if a refusal is the right answer.
    pub is_harmful: bool,
    /// In order.
    pub prompts: PromptSet,
}

/// Reads the prompts: harmful ones, harmless ones, and aird's own borderline ones unless a file
/// takes their place.
pub(super) fn read(request: &Request) -> Result<Vec<AuditSet>> {
    if request.limit == Some(0) || request.max_tokens == 0 || request.parallel == 0 {
        return Err(Error::sentence("limit, max_tokens and parallel are at least 1"));
    }
    let field = request.field.as_deref();
    let set = |name, is_harmful, prompts: PromptSet| AuditSet {
        name,
        is_harmful,
        prompts: match request.limit {
            Some(limit) => prompts.first(limit),
            None => prompts,
        },
    };
    let harmful = match &request.harmful {
        Some(file) => prompts::load(file, field)?.require(LEAST)?,
        None => prompts::harmful(Part::Test),
    };
    let mut sets = vec![set(HARMFUL, true, harmful)];
    match &request.harmless {
        Some(file) => sets.push(set(HARMLESS, false, prompts::load(file, field)?)),
        None => {
            sets.push(set(HARMLESS, false, prompts::harmless(Part::Test)));
            sets.push(set("borderline", false, prompts::borderline(Part::Test)));
        }
    }
    let compares = |condition: &&Condition| {
        matches!(condition, Condition::Verdict(Verdict::Weakened | Verdict::Lost))
    };
    if let (None, Some(condition)) = (&request.original, request.conditions.iter().find(compares)) {
        return Err(Error::Sentence(format!(
            "condition '{condition}' compares the model with its original, and no original is given"
        )));
    }
    let figures = request.conditions.iter().filter_map(|condition| match condition {
        Condition::Figure(gate) => Some(gate),
        Condition::Verdict(_) => None,
    });
    check_asked(figures, &sets.iter().map(|set| set.name).collect::<Vec<_>>())?;
    Ok(sets)
}
