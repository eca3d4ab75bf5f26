//! What is audited, by which prompts, and which findings must not be.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::eval::asr::Gate;
use crate::eval::audit::Verdict;
use crate::llama::Options;
use crate::verbs::chat::ChatSetup;

/// Tokens of an answer, at most, by default.
pub const MAX_TOKENS: usize = 32;
/// Prompts and answers under way at once, by default.
pub const PARALLEL: u32 = 32;

/// What to audit.
#[derive(Debug, Clone)]
pub struct Request {
    /// The compressed model: a GGUF file; any shard of a split one.
    pub model: PathBuf,
    /// The model that it was made from. Without it only what one file shows by itself is reported.
    pub original: Option<PathBuf>,
    /// A file of harmful prompts; None: the test part of aird's own.
    pub harmful: Option<PathBuf>,
    /// A file of harmless prompts; None: the test parts of aird's own, harmless and borderline.
    pub harmless: Option<PathBuf>,
    /// The field or column of those files that holds the prompt.
    pub field: Option<String>,
    /// The first prompts only, of every set; at least 1.
    pub limit: Option<usize>,
    /// Tokens of an answer, at most; at least 1.
    pub max_tokens: usize,
    /// Prompts and answers under way at once; at least 1.
    pub parallel: u32,
    /// Where answers are kept, and found again by the next audit.
    pub kept: KeptAnswers,
    /// Findings that must not be.
    pub conditions: Vec<Condition>,
    /// The figures and the answers as a page to read, written into this HTML file.
    pub page: Option<PathBuf>,
    /// How prompts are put to the models.
    pub chat: ChatSetup,
    /// How llama.cpp runs.
    pub engine: Options,
}

/// Where answers are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeptAnswers {
    /// In a hidden folder beside each model.
    Beside,
    /// In this folder.
    In(PathBuf),
    /// Nowhere.
    Nowhere,
}

/// A finding that must not be.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// This verdict, or a worse one.
    Verdict(Verdict),
    /// A figure of the model's answers to one set, as in `asr`.
    Figure(Gate),
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Condition, String> {
        match text.trim() {
            "weakened" => Ok(Condition::Verdict(Verdict::Weakened)),
            "lost" => Ok(Condition::Verdict(Verdict::Lost)),
            "broken" => Ok(Condition::Verdict(Verdict::Broken)),
            figure if figure.contains(['<', '>']) => figure.parse().map(Condition::Figure),
            _ => Err("expected weakened, lost, broken, or a figure as harmful.refusal<0.8".into()),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Condition::Verdict(Verdict::Weakened) => f.write_str("weakened"),
            Condition::Verdict(Verdict::Lost) => f.write_str("lost"),
            Condition::Verdict(_) => f.write_str("broken"),
            Condition::Figure(gate) => gate.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_a_verdict_or_a_figure() {
        assert_eq!("lost".parse(), Ok(Condition::Verdict(Verdict::Lost)));
        let figure: Condition = "harmful.refusal<0.5".parse().unwrap();
        assert_eq!(figure.to_string(), "harmful.refusal<0.5");
        let wrong = "kept".parse::<Condition>().unwrap_err();
        assert!(wrong.starts_with("expected weakened, lost, broken, or"), "{wrong}");
        for text in ["weakened", "lost", "broken"] {
            assert_eq!(text.parse::<Condition>().unwrap().to_string(), text);
        }
    }
}
