//! Compressing: pruning against `cp` and `sync` of the same file, quantizing against llama.cpp's
//! own `llama_model_quantize`, collecting statistics against reading the same tokens without a
//! hook and against llama-imatrix. What is compared runs in turn, A B A B, after one round that
//! warms the cache and is not counted; figures are medians, ratios are taken round by round.
//!
//! `cargo bench --bench compress -- prune` runs that part alone; the parts are `prune`, `quantize`
//! and `calibrate`. From the environment: `AIRD_BENCH_RUNS` rounds (5), `AIRD_BENCH_THREADS` (all
//! cores); `AIRD_BENCH_BLOCKS` of the model that is made, TinyLlama's shapes (22, 2.2 GB);
//! `AIRD_BENCH_MODEL` that reads (the one that scripts/fetch-model.sh brings), `AIRD_BENCH_SAMPLES`
//! of 512 tokens (32); `AIRD_LLAMA_IMATRIX` names llama.cpp's program.
#![allow(unreachable_pub)] // a program of its own: nothing is reached from outside

use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aird::compress::{
    Assignment, Coding, Count, Folds, Method, Pattern, Quantizing, Score, assign, prune,
    prune_rows, quantize, targets,
};
use aird::gguf::{GgmlType, Layout, Model, Rewrite, Step, Unwatched, Watch};
use aird::llama::{Engine, Options, Session, Size, prompt_inputs};
use aird::prompts::{Part, harmful, harmless};
use aird::quant::{decode_rows, encode_rows, first_non_finite, zeros_in};
use aird::stats::{self, Collected, Sample};
use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

#[allow(dead_code)] // the tests use more of it
#[path = "../tests/support/ggml.rs"]
mod ggml;
#[path = "compress/model.rs"]
mod model;

/// Where scripts/fetch-model.sh puts it.
const MODEL: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/target/models/SmolLM2-135M-Instruct-Q4_1.gguf");
/// Tokens of a sample, and of a batch.
const N_CTX: u32 = 512;
/// Types that are written: name, type, type of the output head, llama.cpp's `llama_ftype`.
const TYPES: [(&str, GgmlType, GgmlType, u32); 3] = [
    ("q8_0", GgmlType::Q8_0, GgmlType::Q8_0, 7),
    ("q4_0", GgmlType::Q4_0, GgmlType::Q6_K, 2),
    ("q4_k", GgmlType::Q4_K, GgmlType::Q6_K, 15),
];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some((_, child)) = arguments.split_first().filter(|(first, _)| *first == "--child") {
        return run_child(child);
    }
    // cargo adds --bench.
    let parts: Vec<&String> = arguments.iter().filter(|a| !a.starts_with("--")).collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|p| *p == part);
    let known = ["prune", "quantize", "calibrate"];
    let unknown = parts.iter().find(|p| !known.contains(&p.as_str()));
    ensure!(unknown.is_none(), "no such part: {unknown:?}, expected one of {known:?}");

    let bench = Bench::new()?;
    if wanted("prune") || wanted("quantize") {
        bench.make_model()?;
    }
    if wanted("prune") {
        bench.prune()?;
        bench.parts_of_pruning()?;
    }
    if wanted("quantize") {
        bench.quantize()?;
    }
    if wanted("calibrate") {
        bench.calibrate()?;
    }
    Ok(())
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

struct Bench {
    folder: tempfile::TempDir,
    n_block: u64,
    n_rounds: u64,
    n_threads: u32,
}

impl Bench {
    fn new() -> Result<Bench> {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let options = Options::cpu(number("AIRD_BENCH_THREADS", 0) as u32);
        let n_threads = options.n_threads() as u32;
        let n_rounds = number("AIRD_BENCH_RUNS", 5).max(1);
        let n_block = number("AIRD_BENCH_BLOCKS", 22).max(1);
        println!("{n_threads} threads, {n_rounds} rounds, warm cache");
        Ok(Bench { folder, n_block, n_rounds, n_threads })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn source(&self) -> PathBuf {
        self.path("model-F16.gguf")
    }

    fn make_model(&self) -> Result<()> {
        let header = model::header(self.n_block);
        model::write(&self.source(), &header)?;
        stats::write(&self.path("stats.gguf"), &model::made_up_stats(&header))?;
        let (bytes, n) = (self.source().metadata()?.len(), header.tensors.len());
        println!("\nmodel: {:.2} GB F16, {n} tensors, {} blocks", bytes as f64 / 1e9, self.n_block);
        Ok(())
    }

    /// This program as a child, with as many threads as are compared.
    fn child(&self, arguments: &[&str], paths: &[&Path]) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--child").args(arguments).args(paths);
        command.env("RAYON_NUM_THREADS", self.n_threads.to_string());
        Ok(command)
    }

    /// `aird`, the program.
    fn aird(&self, arguments: &[&str], paths: &[&Path]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aird"));
        command.arg("-q").args(arguments).args(paths);
        command.env("RAYON_NUM_THREADS", self.n_threads.to_string());
        command
    }

    fn prune(&self) -> Result<()> {
        let (source, stats) = (self.source(), self.path("stats.gguf"));
        let [copy, made] = ["cp.gguf", "pruned.gguf"].map(|name| self.path(name));
        let settings = ["prune", "--method", "wanda", "--sparsity", "0.5", "--stats"];
        let [mut cp, mut written, mut library, mut whole] = [const { Vec::new() }; 4];
        let mut stages = String::new();
        for _ in 0..=self.n_rounds {
            cp.push(time_cp(&source, &copy)?);
            remove(&made)?;
            let run = run(&mut self.child(&["prune"], &[&source, &stats, &made])?)?;
            let (first, rest) = run.said.split_once(' ').context("the child says its seconds")?;
            written.push(Run { seconds: first.parse()?, ..run.clone() });
            stages = rest.into();
            library.push(run);
            remove(&made)?;
            let paths = [stats.as_path(), &source, Path::new("-o"), &made];
            whole.push(run_quietly(&mut self.aird(&settings, &paths))?);
        }
        remove(&made)?;
        println!("\nprune: wanda 50 %, statistics given");
        seconds("cp and sync", &cp);
        seconds("pruned, written and synced", &written);
        seconds("and read back, compared, renamed", &library);
        seconds("aird prune: source hashed, result verified", &whole);
        println!("  the last round's stages, seconds: {}", stages.trim());
        at_most("pruned and synced against cp and sync", &written, &cp, 5.0);
        at_most("read back too, against cp and sync", &library, &cp, 5.0);
        at_most("aird prune against cp and sync", &whole, &cp, 5.0);
        memory("memory beyond the map (RssAnon)", &whole, Some(300.0));
        Ok(())
    }

    /// What pruning does to every row, one thing after another, on one block, for all.
    fn parts_of_pruning(&self) -> Result<()> {
        let model = Model::open(&self.source())?;
        let tensor = model.tensor("blk.0.ffn_down.weight").context("a tensor")?;
        let (n_cols, ty) = (tensor.info.n_cols() as usize, tensor.info.ty);
        let n = tensor.info.n_rows() as usize * n_cols;
        let norms: Vec<f32> = (0..n_cols).map(|i| 1.0 + (i % 7) as f32).collect();
        let (score, pattern) = (Score::Wanda { norms: &norms }, Pattern::Ratio(0.5));
        let (mut values, mut bytes) = (vec![0f32; n], vec![0u8; tensor.data().len()]);
        let in_blocks = model.tensors().filter(|t| t.info.block().is_some());
        let total: u64 = in_blocks.map(|t| t.info.shape.iter().product::<u64>()).sum();
        let pool = rayon_pool(self.n_threads)?;
        println!("\nprune, its parts, each alone, for all {:.2} G elements", total as f64 / 1e9);
        let part = |name: &str, act: &mut (dyn FnMut() -> Result<()> + Send)| -> Result<()> {
            let mut all = Vec::new();
            for _ in 0..=self.n_rounds {
                let start = Instant::now();
                pool.install(&mut *act)?;
                let seconds = start.elapsed().as_secs_f64() * total as f64 / n as f64;
                all.push(Run { seconds, ..Run::default() });
            }
            seconds(name, &all);
            Ok(())
        };
        part("decode", &mut || Ok(decode_rows(ty, tensor.data(), n_cols, &mut values)?))?;
        // Rows are pruned over and over: most of the work is in finding the threshold.
        part("select", &mut || Ok(prune_rows(&mut values, n_cols, score, pattern)?))?;
        part("encode", &mut || Ok(encode_rows(ty, &values, n_cols, None, &mut bytes)?))?;
        part("look for NaN", &mut || {
            Ok(black_box(first_non_finite(ty, &bytes, n_cols)).map(drop)?)
        })?;
        part("count zeros", &mut || Ok(black_box(zeros_in(ty, &bytes, n_cols)).map(drop)?))?;
        part("sha256, one thread", &mut || {
            black_box(Sha256::digest(&bytes));
            Ok(())
        })
    }

    fn quantize(&self) -> Result<()> {
        let source = self.source();
        let [ours, theirs] = ["ours.gguf", "theirs.gguf"].map(|name| self.path(name));
        for (name, ..) in TYPES {
            let [mut bare, mut library, mut whole] = [const { Vec::new() }; 3];
            let threads = self.n_threads.to_string();
            for round in 0..=self.n_rounds {
                remove(&theirs)?;
                let child = &mut self.child(&["llama", name, &threads], &[&source, &theirs])?;
                bare.push(run(child)?);
                remove(&ours)?;
                library.push(run(&mut self.child(&["ours", name], &[&source, &ours])?)?);
                if round == 0 {
                    same_tensors(&ours, &theirs)?;
                }
                remove(&ours)?;
                let settings = ["quantize", "--method", "rtn", "--type", name];
                let paths = [source.as_path(), Path::new("-o"), &ours];
                whole.push(run_quietly(&mut self.aird(&settings, &paths))?);
            }
            println!("\nquantize: rtn {name}; every tensor's bytes equal llama.cpp's");
            seconds("llama_model_quantize (no sync, no check)", &bare);
            seconds("ours: synced, read back, compared", &library);
            seconds("aird quantize: hashed and verified, too", &whole);
            at_most("ours against llama_model_quantize", &library, &bare, 1.0);
            at_most("aird quantize against it", &whole, &bare, 1.0);
            memory("its memory beyond the map (RssAnon)", &bare, None);
            memory("aird quantize's", &whole, None);
        }
        remove(&ours)?;
        remove(&theirs)
    }

    fn calibrate(&self) -> Result<()> {
        let path = std::env::var_os("AIRD_BENCH_MODEL").map_or(MODEL.into(), PathBuf::from);
        let options = Options::cpu(self.n_threads);
        let engine = Engine::load(&path, options)
            .context("AIRD_BENCH_MODEL, or scripts/fetch-model.sh, says what reads")?;
        let n_samples = number("AIRD_BENCH_SAMPLES", 32).max(1) as usize;
        let (text, samples) = samples(&engine, n_samples)?;
        let n_tokens = (n_samples as u32 * N_CTX) as f64;
        let [mut bare, mut hooked] = [Vec::new(), Vec::new()];
        for _ in 0..=self.n_rounds {
            bare.push(n_tokens / read(&engine, &samples)?);
            let start = Instant::now();
            stats::collect(&engine, &samples, Collected::default(), &Unwatched)?;
            hooked.push(n_tokens / start.elapsed().as_secs_f64());
        }
        drop(engine);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        println!("\ncalibrate: {name}, {n_samples} samples of {N_CTX} tokens");
        let unit = "tokens/s";
        figure("no hooks, logits of the last token", &bare, unit);
        figure("statistics collected", &hooked, unit);
        ratio("with statistics against without", &hooked, &bare, "at least 0.90");
        match std::env::var_os("AIRD_LLAMA_IMATRIX") {
            Some(program) => self.imatrix(Path::new(&program), &path, &text, n_samples),
            None => {
                println!("  llama-imatrix: not compared, AIRD_LLAMA_IMATRIX names none");
                Ok(())
            }
        }
    }

    /// Whole commands in turn.
    fn imatrix(&self, program: &Path, model: &Path, text: &str, n_samples: usize) -> Result<()> {
        let [data, ours, theirs] =
            ["text.txt", "ours.gguf", "theirs.gguf"].map(|name| self.path(name));
        fs::write(&data, text)?;
        let [ctx, n, threads] =
            [N_CTX.to_string(), n_samples.to_string(), self.n_threads.to_string()];
        let [mut a, mut b] = [Vec::new(), Vec::new()];
        for _ in 0..=self.n_rounds {
            remove(&theirs)?;
            let mut command = Command::new(program);
            command.args(["-c", &ctx, "-b", &ctx, "-ub", &ctx, "-t", &threads, "--chunks", &n]);
            command.args(["--no-ppl", "-ngl", "0", "-f"]).arg(&data);
            command.arg("-m").arg(model).arg("-o").arg(&theirs);
            b.push(run_quietly(&mut command)?);
            remove(&ours)?;
            let settings = ["calibrate", "--ctx", &ctx, "--samples", &n, "--threads", &threads];
            let paths = [Path::new("--data"), &data, model, Path::new("-o"), &ours];
            a.push(run_quietly(&mut self.aird(&settings, &paths))?);
        }
        seconds("aird calibrate", &a);
        seconds("llama-imatrix --no-ppl", &b);
        at_most("aird calibrate against llama-imatrix", &a, &b, 1.0);
        Ok(())
    }
}

/// What the bench runs in processes of their own, so that memory is counted from nothing; prints
/// what the parent reads.
fn run_child(arguments: &[String]) -> Result<()> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["prune", source, stats, target] => {
            prune_file(source.as_ref(), stats.as_ref(), target.as_ref())
        }
        ["ours", name, source, target] => quantize_file(name, source.as_ref(), target.as_ref()),
        ["llama", name, threads, source, target] => {
            let (_, ty, head, ftype) = type_named(name)?;
            let (source, target) = (Path::new(source), Path::new(target));
            let done =
                ggml::quantize_model(source, target, ftype, ty, head, threads.parse::<u32>()?);
            ensure!(done, "llama.cpp refused the file");
            Ok(())
        }
        other => bail!("no such child: {other:?}"),
    }
}

/// As `aird prune` does, without a hash of the source and a last look at the result; says how many
/// seconds it took until the file was synced, and those of each stage.
fn prune_file(source: &Path, stats: &Path, target: &Path) -> Result<()> {
    let stages = Stages::default();
    stages.stage("opening", 0);
    let model = Model::open(source)?;
    let stats = stats::read(stats)?.0.fitted_to(&model)?;
    let targets = targets(&model, None, |_| Pattern::Ratio(0.5), |_| true)?;
    let mut rewrite = Rewrite::new(&model, Layout::Single);
    let count = Arc::new(Count::default());
    prune(&mut rewrite, &model, Some(&stats), Method::Wanda, &targets, &count)?;
    rewrite.record(Step::new("bench", aird::VERSION));
    rewrite.write(target, false, &stages)?;
    ensure!((count.sparsity() - 0.5).abs() < 1e-3, "sparsity {}", count.sparsity());
    stages.stage("done", 0);
    println!("{}", stages.text());
    Ok(())
}

fn quantize_file(name: &str, source: &Path, target: &Path) -> Result<()> {
    let (_, ty, ..) = type_named(name)?;
    let model = Model::open(source)?;
    let asked = Quantizing {
        ty,
        coding: Coding::Ggml,
        output: None,
        embedding: None,
        linear_only: false,
        for_names: Box::new(|_| None),
        requantize: false,
        has_importance: false,
    };
    let (assignments, folds): (Vec<Assignment>, _) = (assign(&model, &asked)?, Folds::default());
    let mut rewrite = Rewrite::new(&model, Layout::Single);
    quantize(&mut rewrite, &model, None, &assignments, &folds)?;
    rewrite.record(Step::new("bench", aird::VERSION));
    rewrite.write(target, false, &Stages::default())?;
    Ok(())
}

fn type_named(name: &str) -> Result<(&'static str, GgmlType, GgmlType, u32)> {
    TYPES.into_iter().find(|(known, ..)| *known == name).context("a type of the table")
}

/// Notes when each stage begins.
#[derive(Default)]
struct Stages(Mutex<Vec<(String, Instant)>>);

impl Watch for Stages {
    fn stage(&self, what: &str, _: u64) {
        let mut begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        begun.push((what.into(), Instant::now()));
    }
}

impl Stages {
    /// Seconds until reading back began, then every stage with its own.
    fn text(&self) -> String {
        let begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = |a: Instant, b: Instant| (b - a).as_secs_f64();
        let read_back = begun.iter().find(|(what, _)| what == "reading back");
        let until = read_back.map_or(0.0, |(_, at)| seconds(begun[0].1, *at));
        let stages = begun.windows(2).map(|w| format!("{} {:.2}", w[0].0, seconds(w[0].1, w[1].1)));
        format!("{until} {}", stages.collect::<Vec<_>>().join(", "))
    }
}

/// Seconds for reading `samples` in the batches of `stats::collect`, as a prompt is read.
fn read(engine: &Engine, samples: &[Sample]) -> Result<f64> {
    let start = Instant::now();
    let size = Size { n_ctx: N_CTX, n_batch: N_CTX, n_seq: 1, unified: true };
    let mut session = Session::new(engine, size)?;
    for sample in samples {
        session.clear();
        session.decode(&prompt_inputs(&sample.tokens, 0, 0), None)?;
        // llama.cpp may still be at work until somebody asks for what came out.
        black_box(session.logits(sample.tokens.len() - 1)).unwrap();
    }
    Ok(start.elapsed().as_secs_f64())
}

/// The built-in prompts, over and over, and `n` windows of them.
fn samples(engine: &Engine, n: usize) -> Result<(String, Vec<Sample>)> {
    let prompts = [harmless(Part::Train), harmful(Part::Train)];
    let once = prompts.iter().flat_map(|set| set.texts()).collect::<Vec<_>>().join("\n\n") + "\n\n";
    let per_text = engine.tokenize(&once, false).len().max(1);
    let text = once.repeat((n + 1) * N_CTX as usize / per_text + 1);
    let tokens = engine.tokenize(&text, true);
    let mut samples = stats::windows(&tokens, N_CTX as usize, n, engine.bos_if_wanted())?;
    samples.truncate(n);
    Ok((text, samples))
}

fn same_tensors(a: &Path, b: &Path) -> Result<()> {
    let (a, b) = (Model::open(a)?, Model::open(b)?);
    ensure!(a.n_tensors() == b.n_tensors(), "as many tensors");
    for tensor in a.tensors() {
        let name = &tensor.info.name;
        let other = b.tensor(name).with_context(|| format!("{name} in both"))?;
        ensure!(tensor.info.ty == other.info.ty, "{name}: {} {}", tensor.info.ty, other.info.ty);
        ensure!(tensor.data() == other.data(), "{name}: other bytes");
    }
    Ok(())
}

fn rayon_pool(n_threads: u32) -> Result<rayon::ThreadPool> {
    Ok(rayon::ThreadPoolBuilder::new().num_threads(n_threads as usize).build()?)
}

fn remove(path: &Path) -> Result<()> {
    if path.exists() {
        fs::remove_file(path)?;
    }
    Ok(())
}

/// How a process ran.
#[derive(Debug, Clone, Default)]
struct Run {
    seconds: f64,
    /// Most anonymous memory that was seen, bytes; 0 where the system does not say.
    rss_anon: u64,
    said: String,
}

/// Runs a child, looking at its memory every few milliseconds (proc(5), RssAnon; Linux alone).
fn run(command: &mut Command) -> Result<Run> {
    let start = Instant::now();
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let status_file = format!("/proc/{}/status", child.id());
    let mut rss_anon = 0;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        rss_anon = rss_anon.max(rss_anon_in(&status_file));
        std::thread::sleep(Duration::from_millis(2));
    };
    let seconds = start.elapsed().as_secs_f64();
    ensure!(status.success(), "{command:?}: {status}");
    let said = std::io::read_to_string(child.stdout.take().context("a pipe")?)?;
    Ok(Run { seconds, rss_anon, said })
}

/// As [`run`], for programs that say much on stderr.
fn run_quietly(command: &mut Command) -> Result<Run> {
    let program = format!("{command:?}");
    run(command.stderr(Stdio::null())).with_context(|| program)
}

fn time_cp(source: &Path, target: &Path) -> Result<Run> {
    remove(target)?;
    let start = Instant::now();
    run(Command::new("cp").args(["--reflink=never".as_ref(), source, target]))?;
    run(Command::new("sync").arg(target))?;
    let seconds = start.elapsed().as_secs_f64();
    remove(target)?;
    Ok(Run { seconds, ..Run::default() })
}

fn rss_anon_in(status_file: &str) -> u64 {
    let status = fs::read_to_string(status_file).unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("RssAnon:"));
    let kb = line.and_then(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok());
    kb.unwrap_or(0) * 1024
}

/// Median, lowest and highest; the first round only warms up.
struct Spread(f64, f64, f64);

impl Spread {
    fn new(x: impl Iterator<Item = f64>) -> Spread {
        let mut x: Vec<f64> = x.skip(1).collect();
        x.sort_by(f64::total_cmp);
        Spread(x[x.len() / 2], x[0], x[x.len() - 1])
    }
}

fn seconds(name: &str, runs: &[Run]) {
    let Spread(median, low, high) = Spread::new(runs.iter().map(|r| r.seconds));
    println!("  {name:<44} {median:>8.2} s  ({low:.2} to {high:.2})");
}

fn figure(name: &str, x: &[f64], unit: &str) {
    let Spread(median, low, high) = Spread::new(x.iter().copied());
    println!("  {name:<44} {median:>8.1} {unit}  ({low:.1} to {high:.1})");
}

fn ratio(name: &str, a: &[f64], b: &[f64], goal: &str) {
    let Spread(median, low, high) = Spread::new(a.iter().zip(b).map(|(a, b)| a / b));
    println!("  {name:<44} {median:>8.2} x  ({low:.2} to {high:.2}; goal {goal})");
}

fn at_most(name: &str, a: &[Run], b: &[Run], goal: f64) {
    let [a, b] = [a, b].map(|runs| runs.iter().map(|r| r.seconds).collect::<Vec<_>>());
    ratio(name, &a, &b, &format!("at most {goal:.2}"));
}

fn memory(name: &str, runs: &[Run], goal_mb: Option<f64>) {
    let most = runs.iter().map(|r| r.rss_anon).max().unwrap_or(0) as f64 / 1e6;
    let goal = goal_mb.map_or(String::new(), |goal| format!("  (goal at most {goal:.0})"));
    println!("  {name:<44} {most:>8.0} MB{goal}");
}
