//! Ask a model: greedy answers, as they come.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::chat::ChatSetup;
use super::error::{Error, Result};
use super::host::Host;
use super::model::{load_with_adapter, read_direction};
use super::stopped::Stopped;
use crate::direction::{ablate, add};
use crate::gguf::Model;
use crate::llama::{Engine, Generation, Hooks, Listener, Options, Sampling, generate};

/// What to ask.
#[derive(Debug, Clone)]
pub struct Request {
    /// A GGUF file; any shard of a split one.
    pub model: PathBuf,
    /// What the user says, one text a question.
    pub prompts: Vec<String>,
    /// A direction file: its direction is taken out of the residual stream meanwhile.
    pub ablate: Option<PathBuf>,
    /// A direction file: its direction is added at its layer meanwhile.
    pub add: Option<PathBuf>,
    /// A LoRA adapter to answer with: a GGUF file or a PEFT folder.
    pub lora: Option<PathBuf>,
    /// Tokens of an answer, at most; at least 1.
    pub max_tokens: usize,
    /// Answers under way at once; at least 1. Their order in the report stays.
    pub parallel: u32,
    /// How prompts are put to the model.
    pub chat: ChatSetup,
    /// How llama.cpp runs.
    pub engine: Options,
}

/// What was answered; in JSON a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Report {
    /// One reply a prompt, in order.
    pub replies: Vec<Reply>,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    /// What was asked.
    pub prompt: String,
    /// What the model answered.
    pub answer: String,
    /// Tokens of the answer.
    pub tokens: usize,
}

/// What is known of an answer while it is being made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerEvent<'a> {
    /// One token more. These are bytes, not text: a character may come in several tokens.
    Token {
        /// Number of the prompt, from 0.
        prompt: usize,
        /// The token's bytes.
        bytes: &'a [u8],
    },
    /// The answer is complete.
    Complete {
        /// Number of the prompt, from 0.
        prompt: usize,
    },
}

/// Asks, and calls `hear` with each token at the moment when it is decoded. Where several answers
/// are under way at once, their tokens come interleaved.
///
/// # Errors
/// A file cannot be read, a direction or an adapter is of another model, a prompt does not fit into
/// the model's context, an interrupt.
pub fn run(
    request: &Request,
    host: &dyn Host,
    hear: &mut dyn FnMut(AnswerEvent<'_>),
) -> Result<Report, Stopped> {
    if request.max_tokens == 0 || request.parallel == 0 {
        return Err(Error::sentence("max_tokens and parallel are at least 1").into());
    }
    let model = Model::open(&request.model)?;
    let chat = request.chat.chat(&model)?;
    let engine = load_with_adapter(host, &model, request.engine, request.lora.as_deref())?;
    let tokens = request.prompts.iter().map(|prompt| chat.tokens(&engine, prompt));
    let tokens = tokens.collect::<Result<Vec<Vec<i32>>>>()?;
    let answers = answers(request, &engine, &tokens, &mut Forward { engine: &engine, hear })?;
    let reply = |(prompt, answer): (&String, &Vec<i32>)| Reply {
        prompt: prompt.clone(),
        answer: engine.answer(answer),
        tokens: answer.len(),
    };
    Ok(Report { replies: request.prompts.iter().zip(&answers).map(reply).collect() })
}

/// The tokens of each prompt's answer, with what the request does to the model meanwhile.
fn answers(
    request: &Request,
    engine: &Engine,
    prompts: &[Vec<i32>],
    listener: &mut dyn Listener,
) -> Result<Vec<Vec<i32>>> {
    let read = |path: &PathBuf| read_direction(path, engine);
    let ablated = request.ablate.as_ref().map(read).transpose()?;
    let added = request.add.as_ref().map(read).transpose()?;
    let unit = ablated.as_ref().map(|direction| direction.unit()).transpose()?;
    let mut hooks = Hooks::new();
    if let Some(unit) = &unit {
        hooks = ablate(hooks, unit);
    }
    if let Some(direction) = &added {
        let layer = direction.about.layer.unwrap_or(0);
        hooks = add(hooks, engine.structure()?, direction.chosen()?, layer as u32);
    }
    let settings = Generation {
        max_tokens: request.max_tokens,
        parallel: request.parallel,
        sampling: Sampling::Greedy,
    };
    Ok(generate(engine, prompts, settings, &mut hooks, listener)?)
}

/// Passes tokens on as bytes.
struct Forward<'a> {
    engine: &'a Engine,
    hear: &'a mut dyn FnMut(AnswerEvent<'_>),
}

impl Listener for Forward<'_> {
    fn token(&mut self, index: usize, token: i32) {
        (self.hear)(AnswerEvent::Token { prompt: index, bytes: &self.engine.piece(token) });
    }

    fn answered(&mut self, index: usize) {
        (self.hear)(AnswerEvent::Complete { prompt: index });
    }
}
