//! The engine: reading prompts with and without hooks, and generating, many answers at once against
//! one at a time and against llama.cpp's own batched loop. What is compared runs in turn, A B A B;
//! figures are medians, ratios are taken round by round.
//!
//! `cargo bench --bench engine -- capture` runs that part alone; the parts are `capture` and
//! `generation`. From the environment: `AIRD_BENCH_MODEL` (the model that scripts/fetch-model.sh
//! brings), `AIRD_BENCH_RUNS` rounds (5), `AIRD_BENCH_THREADS` (all cores),
//! `AIRD_BENCH_GPU_LAYERS` (0), `AIRD_BENCH_PROMPTS` to read at most, for a quick look (256).
#![allow(unreachable_pub)] // a program of its own: nothing is reached from outside

use std::mem::ManuallyDrop;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aird::direction::{Shape, capture};
use aird::gguf::Model;
use aird::llama::{
    Engine, Generation, Hooks, Listener, NoListener, Options, Prefill, Sampling, generate,
};
use aird::prompts::{ChatTemplate, Part, common_suffix_len, harmful, harmless};
use anyhow::{Context, Result, ensure};
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;

#[path = "support/memory.rs"]
mod memory;

use memory::{forget_peak_memory, peak_memory};

/// Where scripts/fetch-model.sh puts it.
const MODEL: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/target/models/SmolLM2-135M-Instruct-Q4_1.gguf");
/// Prompts read at once, and answers under way at once: the verbs' default.
const PARALLEL: u32 = 32;
/// Answers that are generated.
const N_ANSWERS: usize = 100;
/// Tokens of an answer.
const N_NEW: usize = 64;
/// Samples of a prompt, as `aird asr` draws them.
const N_SAMPLES: usize = 5;
/// One answer at a time is slow: every so many prompts are answered.
const ALONE_EVERY: usize = 8;

fn main() -> Result<()> {
    // cargo adds --bench.
    let parts: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|p| p == part);
    let unknown = parts.iter().find(|p| !["capture", "generation"].contains(&p.as_str()));
    ensure!(unknown.is_none(), "no such part: {unknown:?}, expected capture or generation");

    let bench = Bench::new()?;
    if wanted("capture") {
        bench.capture()?;
    }
    if wanted("generation") {
        bench.generation()?;
    }
    Ok(())
}

struct Bench {
    path: PathBuf,
    engine: Engine,
    /// Harmful and harmless prompts in turn, as the model reads them.
    prompts: Vec<Vec<i32>>,
    /// Tokens that the template puts behind the user's text.
    n_pos: usize,
    n_rounds: usize,
}

impl Bench {
    fn new() -> Result<Bench> {
        let number = |name: &str, default: usize| {
            std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
        };
        let path = std::env::var_os("AIRD_BENCH_MODEL").map_or(MODEL.into(), PathBuf::from);
        let threads = number("AIRD_BENCH_THREADS", 0) as u32;
        let options = Options {
            gpu_layers: number("AIRD_BENCH_GPU_LAYERS", 0) as u32,
            ..Options::cpu(threads)
        };
        let model = Model::open(&path).context("no model: scripts/fetch-model.sh brings one")?;
        let template = ChatTemplate::from_model(&model)?;
        let engine = Engine::load(&model.shards()[0].path, options)?;
        let tokens = |user: &str| -> Result<Vec<i32>> {
            let text = template.render(None, user)?;
            Ok(engine.tokenize(&text, !template.adds_bos(&text)))
        };
        let (bad, good) = (harmful(Part::Train), harmless(Part::Train));
        let both = bad.texts().zip(good.texts()).flat_map(|(a, b)| [a, b]);
        let n_prompts = number("AIRD_BENCH_PROMPTS", usize::MAX);
        let prompts = both.take(n_prompts).map(tokens).collect::<Result<Vec<_>>>()?;
        let n_pos = common_suffix_len(&tokens("Tell me more")?, &tokens("What is new?")?).max(1);
        let n_rounds = number("AIRD_BENCH_RUNS", 5).max(1);
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        let (n_threads, n_gpu) = (options.n_threads(), options.gpu_layers);
        println!("{name}, {n_threads} threads, {n_gpu} blocks on the GPU, {n_rounds} rounds");
        Ok(Bench { path, engine, prompts, n_pos, n_rounds })
    }

    /// Reading prompts with the hooks of `aird direction` and with none.
    fn capture(&self) -> Result<()> {
        let prompts: Vec<&[i32]> = self.prompts.iter().map(Vec::as_slice).collect();
        let n_tokens = Prefill::cost(&prompts);
        let n_prompts = prompts.len();
        println!(
            "\ncapture: {n_prompts} prompts, {n_tokens} tokens, what all begin with read once"
        );
        let mut prefill = self.prefill()?;
        self.read(&mut prefill, &prompts[..prompts.len().min(8)], true)?;
        let [mut bare, mut hooked] = [Vec::new(), Vec::new()];
        for _ in 0..self.n_rounds {
            bare.push(n_tokens as f64 / self.read(&mut prefill, &prompts, false)?);
            hooked.push(n_tokens as f64 / self.read(&mut prefill, &prompts, true)?);
        }
        drop(prefill);
        line("no hooks", &bare, "prompt tokens/s");
        line("every block's input", &hooked, "prompt tokens/s");
        ratio("with hooks against without", &hooked, &bare, 0.9);

        let (few, all) = (prompts.len() / 4, prompts.len());
        self.peak_memory(&prompts[..few])?;
        match (self.peak_memory(&prompts[..few])?, self.peak_memory(&prompts)?) {
            (Some(a), Some(b)) => println!(
                "  {:<42} {:.1} MB of {:.0} MB",
                format!("memory that {all} prompts take more than {few}"),
                (b as f64 - a as f64) / 1e6,
                b as f64 / 1e6,
            ),
            _ => println!("  memory: not measured on this system"),
        }
        Ok(())
    }

    /// As many tokens at once as `aird direction` reads.
    fn prefill(&self) -> Result<Prefill<'_>> {
        let longest = self.prompts.iter().map(Vec::len).max().unwrap_or(1);
        Ok(Prefill::new(&self.engine, longest, PARALLEL)?)
    }

    /// Seconds for reading `prompts`; with `hooks`, all that `aird direction` does with them.
    fn read(&self, prefill: &mut Prefill<'_>, prompts: &[&[i32]], hooks: bool) -> Result<f64> {
        let start = Instant::now();
        if hooks {
            let structure = self.engine.structure()?;
            let inputs = structure.inputs(self.engine.n_block());
            let shape = Shape {
                inputs: &inputs,
                n_pos: self.n_pos,
                n_embd: self.engine.n_embd(),
                // What the score is of costs nothing; that it is computed does.
                refusal_tokens: &[0],
            };
            let captured = capture(prefill, prompts, shape, |_| true)?;
            ensure!(captured.kept == prompts.len(), "{} prompts captured", captured.kept);
        } else {
            prefill.run(prompts, Hooks::new(), None, |_, _| Ok(()))?;
        }
        Ok(start.elapsed().as_secs_f64())
    }

    /// The most memory that was resident while a context was made and `prompts` captured, bytes.
    fn peak_memory(&self, prompts: &[&[i32]]) -> Result<Option<u64>> {
        let reset = forget_peak_memory();
        self.read(&mut self.prefill()?, prompts, true)?;
        Ok(reset.then(peak_memory).flatten())
    }

    /// Greedy answers, many at once against one at a time and against the bare loop.
    fn generation(&self) -> Result<()> {
        // The first answers warm up, and say who goes on for long: those are timed, since refusals
        // end after a sentence, and in lock step nobody may stop.
        let answers = generate(
            &self.engine,
            &self.prompts,
            settings(PARALLEL),
            &mut Hooks::new(),
            &mut NoListener,
        )?;
        let mut by_length: Vec<usize> = (0..self.prompts.len()).collect();
        by_length.sort_by_key(|&i| std::cmp::Reverse(answers[i].len()));
        by_length.truncate(N_ANSWERS);
        let n_tokens: usize = by_length.iter().map(|&i| answers[i].len()).sum();
        let prompts: Vec<Vec<i32>> = by_length.iter().map(|&i| self.prompts[i].clone()).collect();
        let (prompts, long) = (&prompts[..], prompts[..PARALLEL as usize].to_vec());
        let alone: Vec<Vec<i32>> = prompts.iter().step_by(ALONE_EVERY).cloned().collect();
        let (n, mean) = (prompts.len(), n_tokens as f64 / prompts.len() as f64);
        println!("\ngeneration: {n} answers, {mean:.1} tokens of at most {N_NEW} on average");

        let bare = Bare::load(&self.path, self.engine.options())?;
        bare.lock_step(&long, 2)?;
        let [mut many, mut one, mut steps, mut loops, mut waves] = [const { Vec::new() }; 5];
        for _ in 0..self.n_rounds {
            many.push(self.answer(prompts, PARALLEL)?.whole());
            one.push(self.answer(&alone, 1)?.whole());
            steps.push(self.answer(&long, PARALLEL)?.in_step());
            loops.push((long.len() * N_NEW) as f64 / bare.lock_step(&long, N_NEW)?.generating);
            waves.push((prompts.len() * N_NEW) as f64 / bare.waves(prompts)?);
        }
        let unit = "generated tokens/s";
        line(&format!("{PARALLEL} at once, prompts read meanwhile"), &many, unit);
        line(&format!("one at a time ({} of them)", alone.len()), &one, unit);
        ratio(&format!("{PARALLEL} at once against one at a time"), &many, &one, 4.0);
        let n = long.len();
        line(&format!("{n} in step, prompts not counted"), &steps, unit);
        line(&format!("{n} in llama.cpp's bare loop, likewise"), &loops, unit);
        ratio("in step against the bare loop", &steps, &loops, 0.9);
        let waves_name = format!("all {} in bare loops of {n}, prompts counted", prompts.len());
        line(&waves_name, &waves, unit);
        ratio(&format!("{PARALLEL} at once against bare loops"), &many, &waves, 0.9);
        self.samples(prompts)
    }

    /// Five samples of each prompt: what is decoded of it once, and what each sample costs.
    fn samples(&self, prompts: &[Vec<i32>]) -> Result<()> {
        let few: Vec<Vec<i32>> = prompts.iter().step_by(ALONE_EVERY).cloned().collect();
        let many: Vec<Vec<i32>> = few.iter().flat_map(|p| vec![p.clone(); N_SAMPLES]).collect();
        let sampling = Sampling::Temperature { temperature: 1.0, seed: 0 };
        let mut pace = Pace::new(many.len());
        let settings = Generation { sampling, ..settings(PARALLEL) };
        generate(&self.engine, &many, settings, &mut Hooks::new(), &mut pace)?;
        let alone: usize = many.iter().map(Vec::len).sum();
        // Every drawn token but an answer's last one is decoded as well.
        let read = pace.n_decoded - (pace.n_tokens - pace.n_full);
        let name = format!("{} samples of {} prompts", many.len(), few.len());
        println!("  {name:<42} {read:>8} prompt tokens decoded, {alone} one by one");
        Ok(())
    }

    fn answer(&self, prompts: &[Vec<i32>], parallel: u32) -> Result<Pace> {
        let mut pace = Pace::new(prompts.len());
        generate(&self.engine, prompts, settings(parallel), &mut Hooks::new(), &mut pace)?;
        Ok(pace)
    }
}

fn settings(parallel: u32) -> Generation {
    Generation { max_tokens: N_NEW, parallel, sampling: Sampling::Greedy }
}

/// Counts tokens as they come. Those that end an answer are not counted, though they cost as much.
struct Pace {
    begin: Instant,
    n_tokens: usize,
    /// Tokens decoded, prompts among them.
    n_decoded: usize,
    /// Answers that were cut off: their last token is not decoded.
    n_full: usize,
    /// Tokens of each answer.
    lengths: Vec<usize>,
    last: Instant,
    /// Answers that have not begun, by prompt.
    to_begin: Vec<bool>,
    /// When the last answer began, and how many tokens there were by then.
    all_begun: Option<(Instant, usize)>,
}

impl Pace {
    fn new(n_prompts: usize) -> Pace {
        let now = Instant::now();
        let to_begin = vec![true; n_prompts];
        let lengths = vec![0; n_prompts];
        let (n_tokens, n_decoded, n_full) = (0, 0, 0);
        Pace {
            begin: now,
            n_tokens,
            n_decoded,
            n_full,
            lengths,
            last: now,
            to_begin,
            all_begun: None,
        }
    }

    /// Tokens a second from the start, reading the prompts included.
    fn whole(&self) -> f64 {
        self.n_tokens as f64 / (self.last - self.begin).as_secs_f64()
    }

    /// Tokens a second from when all answers have begun; NaN if one never does.
    fn in_step(&self) -> f64 {
        let Some((begin, before)) = self.all_begun else { return f64::NAN };
        (self.n_tokens - before) as f64 / (self.last - begin).as_secs_f64()
    }
}

impl Listener for Pace {
    fn token(&mut self, index: usize, _: i32) {
        self.n_tokens += 1;
        self.lengths[index] += 1;
        self.n_full += usize::from(self.lengths[index] == N_NEW);
        self.last = Instant::now();
        self.to_begin[index] = false;
        if self.all_begun.is_none() && !self.to_begin.contains(&true) {
            self.all_begun = Some((self.last, self.n_tokens));
        }
    }

    fn decoded(&mut self, n_tokens: usize) {
        self.n_decoded += n_tokens;
    }
}

/// llama.cpp with nothing of aird's around it.
struct Bare {
    // Not to be shut down here: the engine started llama.cpp, and goes on using it.
    backend: ManuallyDrop<LlamaBackend>,
    model: LlamaModel,
    options: Options,
}

impl Bare {
    fn load(path: &Path, options: Options) -> Result<Bare> {
        let backend = ManuallyDrop::new(LlamaBackend {});
        let params = LlamaModelParams::default().with_n_gpu_layers(options.gpu_layers);
        let model = LlamaModel::load_from_file(&backend, path, &params)?;
        Ok(Bare { backend, model, options })
    }

    /// Seconds for all of `prompts`, [`PARALLEL`] at once, [`N_NEW`] tokens each, reading included.
    fn waves(&self, prompts: &[Vec<i32>]) -> Result<f64> {
        let mut seconds = 0.0;
        for wave in prompts.chunks(PARALLEL as usize) {
            let took = self.lock_step(wave, N_NEW)?;
            seconds += took.reading + took.generating;
        }
        Ok(seconds)
    }

    /// Reads `prompts`, each into its own sequence, then decodes `n_new` tokens of every sequence,
    /// one of each a batch; seconds for both. As in llama-batched-bench nothing is sampled:
    /// which tokens they are makes no difference.
    fn lock_step(&self, prompts: &[Vec<i32>], n_new: usize) -> Result<Took> {
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(1);
        let n_ctx = (longest + n_new).next_multiple_of(256) * prompts.len();
        let threads = self.options.n_threads();
        let params = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(n_ctx as u32))
            .with_n_seq_max(prompts.len() as u32)
            .with_n_threads(threads)
            .with_n_threads_batch(threads);
        let mut context = self.model.new_context(&self.backend, params)?;
        let mut batch = LlamaBatch::new(longest.max(prompts.len()), 1);
        let start = Instant::now();
        for (sequence, prompt) in (0..).zip(prompts) {
            batch.clear();
            for (position, &token) in (0..).zip(prompt) {
                batch.add(LlamaToken(token), position, &[sequence], false)?;
            }
            context.decode(&mut batch)?;
        }
        context.synchronize();
        let reading = start.elapsed().as_secs_f64();
        let start = Instant::now();
        for step in 0..n_new {
            batch.clear();
            for (sequence, prompt) in (0..).zip(prompts) {
                let token = LlamaToken(prompt[step % prompt.len()]);
                batch.add(token, (prompt.len() + step) as i32, &[sequence], true)?;
            }
            context.decode(&mut batch)?;
            context.synchronize();
        }
        let generating = start.elapsed().max(Duration::from_nanos(1)).as_secs_f64();
        Ok(Took { reading, generating })
    }
}

/// Seconds of a bare loop.
struct Took {
    reading: f64,
    generating: f64,
}

fn line(name: &str, x: &[f64], unit: &str) {
    println!("  {name:<42} {:>8.1} {unit}", median(x));
}

/// Median of the ratios, with the lowest and the highest.
fn ratio(name: &str, a: &[f64], b: &[f64], goal: f64) {
    let mut ratios: Vec<f64> = a.iter().zip(b).map(|(a, b)| a / b).collect();
    ratios.sort_by(f64::total_cmp);
    let (low, high) = (ratios[0], ratios[ratios.len() - 1]);
    let median = median(&ratios);
    println!("  {name:<42} {median:>8.2} x  ({low:.2} to {high:.2}; goal {goal:.2})");
}

fn median(x: &[f64]) -> f64 {
    let mut x = x.to_vec();
    x.sort_by(f64::total_cmp);
    x[x.len() / 2]
}
