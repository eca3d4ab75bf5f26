//! What is asked of which models.

use std::path::PathBuf;

use super::sets::SetChoice;
use crate::eval::asr::Gate;
use crate::llama::Options;
use crate::verbs::chat::ChatSetup;
use crate::verbs::judges::JudgeChoice;

/// Which models are asked what.
#[derive(Debug, Clone)]
pub struct Request {
    /// GGUF files; any shard of a split one. Each is compared with the first, and from the third on
    /// with the one before it as well. Their names differ.
    pub models: Vec<PathBuf>,
    /// Which prompts are asked.
    pub sets: SetChoice,
    /// Tokens of an answer, at most; at least 1.
    pub max_tokens: usize,
    /// Seed of the samples.
    pub seed: u64,
    /// Answers under way at once; at least 1. Another number may change an answer by float noise.
    pub parallel: u32,
    /// A direction file: its direction is taken out of the residual stream meanwhile.
    pub ablate: Option<PathBuf>,
    /// A direction file: its direction is added at its layer meanwhile.
    pub add: Option<PathBuf>,
    /// A LoRA adapter to answer with: a GGUF file or a PEFT folder.
    pub lora: Option<PathBuf>,
    /// Whose labels count.
    pub judge: JudgeChoice,
    /// The folder that keeps the answers, as `MODEL.SET.jsonl`: what is there is not made again.
    pub transcripts: Option<PathBuf>,
    /// Conditions that must not hold, each for every model. What has no answer, or no verdict,
    /// counts as what is worse.
    pub gates: Vec<Gate>,
    /// The answers as a page to read, written into this HTML file.
    pub page: Option<PathBuf>,
    /// How prompts are put to the models.
    pub chat: ChatSetup,
    /// How llama.cpp runs.
    pub engine: Options,
}
