//! Answers to a set of prompts, kept as JSON lines: made in segments of fixed order and size, so
//! that the same settings give the same bytes, in one run or in ten, with any number of threads.
//!
//! Another number of answers at once is another setting: on the demo's aligned model (BF16, 64
//! tokens) 8 at once instead of 32 changed 1 of 64 greedy answers and 8 of 96 sampled ones, and
//! no label.

use std::ops::Range;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::attack::{Interventions, Way};
use crate::eval::error::Result;
use crate::eval::segments;
use crate::gguf::{Watch, hex};
use crate::judge::{Label, label};
use crate::llama::{
    AnswerCount, Engine, Generation, Listener, Sampling, cpu_features, generate_streams,
};
use crate::prompts::{ChatTemplate, Prompt, PromptSet};

/// Answers of a segment, as a multiple of those in progress at once: few enough to lose little when
/// cut, enough to keep the batch full.
const SEGMENT: usize = 4;
/// Letters of a key.
const KEY: usize = 12;

/// An answer: one line of a transcript.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The prompt's name within its set.
    pub id: String,
    /// What was asked, without suffix and template.
    pub prompt: String,
    /// The attack, or the benign set.
    pub set: String,
    /// The sample's or the suffix's number, from 0.
    pub sample: usize,
    /// The model's text; empty if there was an error.
    pub answer: String,
    /// The default judge's label, for those who read the file; null if there was an error.
    pub label: Option<Label>,
    /// `default`: other judges label the answer again.
    pub judge: String,
    /// Tokens of the answer.
    pub tokens: usize,
    /// Why there is no answer.
    pub error: Option<String>,
}

/// A model that is asked.
pub struct Subject<'a> {
    /// Loaded, with its adapter if there is one.
    pub engine: &'a Engine,
    /// What it is asked through.
    pub template: &'a ChatTemplate,
    /// sha256 of its file.
    pub sha256: &'a str,
    /// What is done to it meanwhile.
    pub interventions: &'a Interventions,
}

/// How answers are made, for all sets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Asking {
    /// Tokens of an answer, at most.
    pub max_tokens: usize,
    /// Answers under way at once.
    pub parallel: u32,
    /// Seed of the samples.
    pub seed: u64,
}

/// The answers of `subject` to `set` put in `way`: the variants of a prompt one after another, in
/// the set's order. With a `path` they are kept there, and answers that exist already are read.
///
/// # Errors
/// The file was made with other settings; the template fails; the engine's and the disk's.
pub fn answers(
    subject: &Subject<'_>,
    (way, set): (&Way, &PromptSet),
    asking: Asking,
    path: Option<&Path>,
    watch: &dyn Watch,
) -> Result<Vec<Answer>> {
    let n = set.len() * way.n_variants();
    // Samples of a prompt stay in one segment: they share its decoded tokens.
    let whole = (SEGMENT * asking.parallel as usize / way.samples).max(1) * way.samples;
    let settings = settings(subject, (way, set), asking)?;
    watch.part(&way.name, 0, n);
    segments::run(path, &settings, (n, whole), |segment| {
        make(subject, (way, set), asking, segment, watch)
    })
}

/// A name for all that the answers depend on: the first letters of a sha256.
///
/// # Errors
/// The template fails.
pub fn answers_key(
    subject: &Subject<'_>,
    (way, set): (&Way, &PromptSet),
    asking: Asking,
) -> Result<String> {
    let settings = settings(subject, (way, set), asking)?.to_string();
    Ok(hex(&Sha256::digest(settings))[..KEY].to_owned())
}

/// All that the answers depend on, paths left out.
fn settings(
    subject: &Subject<'_>,
    (way, set): (&Way, &PromptSet),
    asking: Asking,
) -> Result<Value> {
    let [ablate, add, lora] = subject.interventions.hashes();
    // A template may print the date: the same source then renders other prompts tomorrow.
    let dated = if way.raw { None } else { subject.template.dated_text()? };
    Ok(json!({
        "build": crate::BUILD,
        "cpu": cpu_features(),
        "model": subject.sha256,
        "set": way.name,
        "prompts": set.sha256,
        "template": if way.raw { "raw".into() } else { subject.template.sha256() },
        "dated": dated,
        "system": way.system,
        "suffixes": way.suffixes,
        "samples": way.samples,
        "temperature": way.temperature,
        "seed": way.temperature.map(|_| asking.seed),
        "max_tokens": asking.max_tokens,
        "parallel": asking.parallel,
        "placement": subject.engine.options().placement(),
        "ablate": ablate,
        "add": add,
        "lora": lora,
    }))
}

/// The answers of one segment.
fn make(
    subject: &Subject<'_>,
    (way, set): (&Way, &PromptSet),
    asking: Asking,
    segment: Range<usize>,
    watch: &dyn Watch,
) -> Result<Vec<Answer>> {
    let n_variants = way.n_variants();
    let mut out = Vec::with_capacity(segment.len());
    let (mut places, mut prompts, mut streams) = (Vec::new(), Vec::new(), Vec::new());
    let n = set.len() * n_variants;
    let mut counter = AnswerCount::new(watch, &way.name, segment.start, n);
    for number in segment {
        let (prompt, variant) = (&set.prompts[number / n_variants], number % n_variants);
        let text = way.text(&prompt.text, variant);
        let tokens = tokens(subject.engine, subject.template, way, &text)?;
        let error = too_long(subject.engine, tokens.len(), asking.max_tokens);
        if error.is_none() {
            places.push(out.len());
            prompts.push(tokens);
            streams.push(stream(&prompt.text, variant));
        } else {
            counter.answered(0);
        }
        out.push(unanswered(way, prompt, variant, error));
    }
    let sampling = match way.temperature {
        None => Sampling::Greedy,
        Some(temperature) => Sampling::Temperature { temperature, seed: asking.seed },
    };
    let settings =
        Generation { max_tokens: asking.max_tokens, parallel: asking.parallel, sampling };
    let engine = subject.engine;
    let made = subject.interventions.with_hooks(engine, |hooks| -> Result<_> {
        Ok(generate_streams(engine, (&prompts, &streams), settings, hooks, &mut counter)?)
    })?;
    for (place, tokens) in places.into_iter().zip(made) {
        let answer = engine.answer(&tokens);
        let label = Some(label(&answer));
        out[place] = Answer { answer, label, tokens: tokens.len(), ..out[place].clone() };
    }
    Ok(out)
}

fn unanswered(way: &Way, prompt: &Prompt, variant: usize, error: Option<String>) -> Answer {
    Answer {
        id: prompt.id.clone(),
        prompt: prompt.text.clone(),
        set: way.name.clone(),
        sample: variant,
        answer: String::new(),
        label: None,
        judge: "default".into(),
        tokens: 0,
        error,
    }
}

/// The tokens of `text` as `engine`'s model is asked it in `way`.
///
/// # Errors
/// The template fails.
pub fn tokens(engine: &Engine, template: &ChatTemplate, way: &Way, text: &str) -> Result<Vec<i32>> {
    if way.raw {
        return Ok(engine.tokenize(&format!("{text}\n"), true));
    }
    let rendered = template.render(way.system.as_deref(), text)?;
    Ok(engine.tokenize(&rendered, !template.adds_bos(&rendered)))
}

/// Why a prompt cannot be answered in the context that the model was trained for.
fn too_long(engine: &Engine, n_tokens: usize, n_new: usize) -> Option<String> {
    let n_ctx = engine.n_ctx_train() as usize;
    (n_tokens + n_new > n_ctx).then(|| {
        format!("{n_tokens} tokens and {n_new} for the answer, expected at most {n_ctx} together")
    })
}

/// The number of a sample's random stream. It depends only on the prompt's text and the sample, so
/// that another set or limit draws the same.
fn stream(prompt: &str, sample: usize) -> u64 {
    let digest = Sha256::new().chain_update(prompt).chain_update([0]);
    let digest = digest.chain_update((sample as u64).to_le_bytes()).finalize();
    digest.iter().take(8).fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// sha256 of a file, for settings.
///
/// # Errors
/// It cannot be read.
pub fn file_sha256(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path);
    let disk = |source| crate::eval::Error::Disk { path: path.into(), verb: "read", source };
    Ok(hex(&Sha256::digest(bytes.map_err(disk)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_by_prompt_and_sample() {
        assert_eq!(stream("a", 0), stream("a", 0));
        assert_ne!(stream("a", 0), stream("a", 1));
        assert_ne!(stream("a", 0), stream("b", 0));
    }
}
