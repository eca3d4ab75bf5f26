//! A rough estimate of a plan: bytes of the models it makes, and time, from the speed at which the
//! base model reads and writes here.

use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

use super::error::Result;
use super::folder::Folder;
use super::plan::Plan;
use super::step::{Arg, Step, Work, is_sweep};
use crate::gguf::{GgmlType, Model, TensorInfo};
use crate::llama::{Engine, Generation, Hooks, NoListener, Sampling, generate};
use crate::prompts::{self, Part};
use crate::quant::is_convertible;

/// Tokens of a prompt in a measurement, at most.
const PROMPT_TOKENS: usize = 48;
/// Answers at once: each next number is tried while the measurement is too short.
const PARALLEL: [usize; 3] = [1, 8, 32];
/// Tokens of an answer in a measurement.
const ANSWER_TOKENS: usize = 24;
/// A measurement must take at least so many seconds.
const LONG_ENOUGH: f64 = 1.5;
/// Bytes per second of steps that read and write weights, and of a scale search.
const WEIGHTS_RATE: f64 = 150e6;
const SCALES_RATE: f64 = 8e6;
/// A direction search takes as long as reading so many tokens for each layer: 81 s at 2,100 tokens
/// per second, in the demo's 30 layers. A repair search took 4 minutes there, at 120 prompts a
/// candidate.
const DIRECTION_TOKENS: f64 = 5_700.0;
const REPAIR_WORK: Work = Work { read: 345_000.0, written: 19_600.0 };
/// In a restore both models read 20,000 tokens, the changing one about three times, half of them
/// with answers that the original writes first; then both answer 120 prompts.
const RESTORE_WORK: Work = Work { read: 115_000.0, written: 13_500.0 };
/// Tokens of a benchmark's item with its choices.
const ITEM_TOKENS: f64 = 250.0;
/// Answers that a calibration on aird's own prompts makes, and the tokens of each.
const CALIBRATION: Work = Work { read: 128.0 * 110.0, written: 128.0 * 64.0 };

/// Tokens per second, many prompts at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Tokens per second while prompts are read.
    pub read: f64,
    /// Tokens per second while answers are written.
    pub written: f64,
}

/// Estimate of each step; None if it is not known, 0 if the step is done.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Estimate {
    /// Bytes of the models that each step makes.
    pub bytes: Vec<Option<u64>>,
    /// Seconds that each step runs.
    pub seconds: Vec<Option<f64>>,
}

/// Measures how fast `engine`'s model is, for some seconds.
///
/// # Errors
/// The engine's.
pub fn measure(engine: &Engine) -> Result<Rates> {
    let texts = prompts::harmless(Part::Train);
    let prompt = |text: &str| -> Vec<i32> {
        let mut tokens = engine.tokenize(text, true);
        tokens.truncate(PROMPT_TOKENS);
        tokens
    };
    let all: Vec<Vec<i32>> = texts.texts().map(prompt).collect();
    let run = |prompts: &[Vec<i32>], max_tokens: usize| -> Result<(f64, usize)> {
        let start = Instant::now();
        let parallel = prompts.len() as u32;
        let settings = Generation { max_tokens, parallel, sampling: Sampling::Greedy };
        let answers = generate(engine, prompts, settings, &mut Hooks::new(), &mut NoListener)?;
        Ok((start.elapsed().as_secs_f64(), answers.iter().map(Vec::len).sum()))
    };
    // The first run includes loading pages from the disk.
    run(&all[..1], 1)?;
    let mut rates = Rates { read: 0.0, written: 0.0 };
    for parallel in PARALLEL {
        let prompts = &all[..parallel.min(all.len())];
        let (reading, few) = run(prompts, 1)?;
        let (both, many) = run(prompts, ANSWER_TOKENS)?;
        let n_read: usize = prompts.iter().map(Vec::len).sum();
        rates.read = n_read as f64 / reading.max(1e-6);
        let n_written = many.saturating_sub(few).max(1);
        rates.written = n_written as f64 / (both - reading).max(1e-3);
        if reading + both > LONG_ENOUGH {
            break;
        }
    }
    Ok(rates)
}

/// Estimates the open steps of `plan`.
pub fn estimate(plan: &Plan, due: &[bool], folder: &Folder, rates: Option<Rates>) -> Estimate {
    let mut models = Models { folder, tensors: HashMap::new() };
    let mut estimate = Estimate::default();
    for (i, step) in plan.steps.iter().enumerate() {
        let made = models.made(step);
        let bytes = made.as_ref().map(|tensors| size(tensors));
        let makes_none = !step.outputs.iter().any(|path| path.starts_with("models/"));
        let first = step.args.get(1).filter(|arg| !matches!(arg, Arg::Text(_)));
        let input = first.or(step.gathered.first().map(|(_, model)| model));
        let input = input.and_then(|model| models.tensors_of(model));
        let seconds = match due[i] {
            true => seconds(step, input.as_deref(), rates),
            false => Some(0.0),
        };
        estimate.bytes.push(if makes_none { Some(0) } else { bytes });
        estimate.seconds.push(seconds);
        if let Some(tensors) = made {
            models.tensors.insert(i, tensors);
        }
    }
    estimate
}

/// Models by their tensors: read from files, or predicted.
struct Models<'a> {
    folder: &'a Folder,
    /// Tensors by the step that makes them.
    tensors: HashMap<usize, Vec<TensorInfo>>,
}

impl Models<'_> {
    fn tensors_of(&mut self, model: &Arg) -> Option<Vec<TensorInfo>> {
        let read = |path: &Path| -> Option<Vec<TensorInfo>> {
            let model = Model::open(path).ok()?;
            Some(model.tensors().map(|t| t.info.clone()).collect())
        };
        match model {
            Arg::File(path) => read(path),
            Arg::Made { step, path } => {
                let there = read(&self.folder.path.join(path));
                there.or_else(|| self.tensors.get(step).cloned())
            }
            _ => None,
        }
    }

    /// The tensors of the model that a step makes.
    fn made(&mut self, step: &Step) -> Option<Vec<TensorInfo>> {
        step.outputs.iter().find(|path| path.starts_with("models/"))?;
        let mut tensors = self.tensors_of(step.args.get(1)?)?;
        let named = option(step, "--type").and_then(GgmlType::from_name);
        for tensor in tensors.iter_mut().filter(|tensor| is_convertible(tensor)) {
            let in_block = tensor.block().is_some();
            let quantized = tensor.ty.is_quantized();
            let to = match step.verb().as_str() {
                "merge" => named.or(quantized.then_some(GgmlType::F16)),
                "prune" if in_block => named.or(quantized.then_some(GgmlType::F16)),
                "quantize" => named.or(match option(step, "--method") {
                    Some("awq") => Some(GgmlType::Q4_1),
                    _ => Some(GgmlType::Q8_0),
                }),
                _ => None,
            };
            if let Some(to) = to.filter(|to| tensor.row_bytes_as(*to).is_some()) {
                tensor.ty = to;
            }
        }
        Some(tensors)
    }
}

fn size(tensors: &[TensorInfo]) -> u64 {
    tensors.iter().map(TensorInfo::n_bytes).sum()
}

fn option<'s>(step: &'s Step, name: &str) -> Option<&'s str> {
    let at = step.args.iter().position(|arg| matches!(arg, Arg::Text(text) if text == name))?;
    match step.args.get(at + 1) {
        Some(Arg::Text(text)) => Some(text),
        _ => None,
    }
}

fn seconds(step: &Step, input: Option<&[TensorInfo]>, rates: Option<Rates>) -> Option<f64> {
    if step.verb() == "compare" {
        return Some(0.0);
    }
    let (rates, input) = (rates?, input?);
    let bytes = size(input) as f64;
    let n_block = input.iter().filter_map(TensorInfo::block).max().map_or(1, |last| last + 1);
    let of = |work: Work| work.read / rates.read + work.written / rates.written;
    Some(match step.verb().as_str() {
        "direction" => of(Work { read: DIRECTION_TOKENS * f64::from(n_block), written: 0.0 }),
        "calibrate" => of(CALIBRATION),
        "repair" if option(step, "--method") == Some("restore") => of(RESTORE_WORK),
        "repair" => of(REPAIR_WORK),
        "prune" | "quantize" if is_sweep(option(step, "--method")) => of(RESTORE_WORK),
        "asr" => of(step.work) + bytes / WEIGHTS_RATE,
        "tasks" if option(step, "--tasks").is_some() => {
            let number = |name| option(step, name).and_then(|text| text.parse::<f64>().ok());
            let named = step.args.iter().filter(|arg| **arg == Arg::text("--tasks")).count();
            let items = number("--limit").unwrap_or(200.0) * named as f64;
            of(Work { read: items * ITEM_TOKENS, written: 0.0 })
        }
        "tasks" => {
            let number = |name| option(step, name).and_then(|text| text.parse::<f64>().ok());
            let windows = number("--chunks").unwrap_or(64.0);
            of(Work { read: windows * number("--ctx").unwrap_or(512.0), written: 0.0 })
        }
        "quantize" if option(step, "--method") == Some("awq") => bytes / SCALES_RATE,
        _ => bytes / WEIGHTS_RATE,
    })
}
