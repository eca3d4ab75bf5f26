//! What would be asked of a model, and how long that would take here.

use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::super::error::Result;
use super::super::host::Host;
use super::super::model::load_with_adapter;
use super::answers::interventions;
use super::request::Request;
use super::sets::EvaluationSet;
use crate::eval::asr::{Way, tokens};
use crate::gguf::{Model, hash_seconds};
use crate::llama::{Engine, Pace};
use crate::prompts::ChatTemplate;

/// What a run would ask, of all models together. Nothing was written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanReport {
    /// Prompts of all sets.
    pub n_prompts: usize,
    /// Answers to them: of several models, to each suffix, and all samples. Answers that a folder
    /// of transcripts holds already count, too.
    pub n_answers: usize,
    /// Tokens of an answer, at most.
    pub max_tokens: usize,
    /// Tokens of prompts that are read: once what the prompts of a set begin with.
    pub prompt_tokens: usize,
    /// Seconds that the run would take here if every answer had `max_tokens` tokens; null where a
    /// judge model would label the answers.
    pub estimated_seconds: Option<f64>,
}

/// What one model would be asked.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Asked {
    pub n_answers: usize,
    pub prompt_tokens: usize,
    /// Seconds that a run takes and a plan does not; below 0 where measuring takes longer.
    pub seconds: f64,
}

/// Loads the model at `path` and measures its pace.
pub(super) fn asked(
    request: &Request,
    host: &dyn Host,
    path: &Path,
    sets: &[EvaluationSet],
) -> Result<Asked> {
    let model = Model::open(path)?;
    let chat = request.chat.chat(&model)?;
    let engine = load_with_adapter(host, &model, request.engine, request.lora.as_deref())?;
    let interventions = interventions(request, &engine)?;
    host.stage("estimating the time", 0);
    let begun = Instant::now();
    let mut sum = Asked::default();
    let (mut text, mut works) = (Vec::new(), Vec::new());
    for set in sets {
        let work = Work::of(request, &engine, &chat.template, set)?;
        sum.n_answers += work.n_answers;
        sum.prompt_tokens += work.n_tokens;
        text.extend(work.first.iter().copied());
        works.push(work);
    }
    // An empty prompt is an error of the run.
    if !text.is_empty() {
        let parallel = request.parallel as usize;
        let most = works.iter().map(|work| work.n_answers).max().unwrap_or(1);
        let at_once = parallel.min(most);
        let pace = interventions.with_hooks(&engine, |hooks| -> Result<Pace> {
            Ok(Pace::measure(&engine, at_once as u32, &text, hooks)?)
        })?;
        let n_rounds: usize = works.iter().map(|work| work.n_answers.div_ceil(parallel)).sum();
        let n_steps = n_rounds * request.max_tokens;
        sum.seconds = sum.prompt_tokens as f64 * pace.read_token + n_steps as f64 * pace.step;
    }
    sum.seconds += hash_seconds(&model, host)? - begun.elapsed().as_secs_f64();
    Ok(sum)
}

/// What a set asks of a model.
struct Work {
    n_answers: usize,
    n_tokens: usize,
    /// The tokens of its first prompt.
    first: Vec<i32>,
}

impl Work {
    fn of(
        request: &Request,
        engine: &Engine,
        template: &ChatTemplate,
        set: &EvaluationSet,
    ) -> Result<Work> {
        let way = set.way(template);
        let mut prompts = Vec::new();
        for prompt in set.prompts.texts() {
            for text in texts(&way, prompt) {
                prompts.push(tokens(engine, template, &way, &text)?);
            }
        }
        // Longer ones are not answered.
        let room = (engine.n_ctx_train() as usize).saturating_sub(request.max_tokens);
        prompts.retain(|prompt| prompt.len() <= room);
        let shared = shared_tokens(&prompts);
        let n: usize = prompts.iter().map(|prompt| prompt.len() - shared).sum();
        Ok(Work {
            n_answers: prompts.len() * way.samples,
            n_tokens: n + shared,
            first: prompts.into_iter().next().unwrap_or_default(),
        })
    }
}

/// A prompt with each suffix. Its samples share one text.
fn texts(way: &Way, prompt: &str) -> Vec<String> {
    (0..way.n_variants()).step_by(way.samples).map(|variant| way.text(prompt, variant)).collect()
}

/// Tokens that all prompts begin with.
fn shared_tokens(prompts: &[Vec<i32>]) -> usize {
    let Some(first) = prompts.first() else { return 0 };
    let shared = |p: &Vec<i32>| first.iter().zip(p).take_while(|(a, b)| a == b).count();
    prompts.iter().map(shared).min().unwrap_or(0)
}
