//! Scoring choices: HellaSwag's items against the engine's own pace at reading, and, whole commands
//! in turn, against llama-perplexity. Figures are medians, ratios are taken round by round.
//!
//! From the environment: `AIRD_BENCH_MODEL` (the model that scripts/fetch-model.sh brings),
//! `AIRD_BENCH_HELLASWAG`, the file in llama-perplexity's form (../shared/data/utility has one),
//! `AIRD_LLAMA_PERPLEXITY`, the program, `AIRD_BENCH_RUNS` rounds (5), `AIRD_BENCH_ITEMS` (100),
//! `AIRD_BENCH_THREADS` (all cores).
#![allow(unreachable_pub)] // a program of its own: nothing is reached from outside

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use aird::eval::tasks::{self, Item, Run, task, texts};
use aird::gguf::Model;
use aird::llama::{Engine, Options, Scorer, Session, Size, Text, prompt_inputs};
use anyhow::{Context, Result, ensure};

/// Where scripts/fetch-model.sh puts it.
const MODEL: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/target/models/SmolLM2-135M-Instruct-Q4_1.gguf");
const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/utility/hellaswag_val.txt");
/// Lines of an item.
const LINES: usize = 6;
/// Choices scored at once: the verb's default.
const PARALLEL: u32 = 64;
/// Tokens decoded at once.
const N_BATCH: u32 = 512;

fn main() -> Result<()> {
    let data = std::env::var_os("AIRD_BENCH_HELLASWAG").map_or(DATA.into(), PathBuf::from);
    let Ok(text) = fs::read_to_string(&data) else {
        println!("tasks: skipped, there is no {} (AIRD_BENCH_HELLASWAG)", data.display());
        return Ok(());
    };
    let n_items = number("AIRD_BENCH_ITEMS", 100).max(1);
    let folder = tempfile::tempdir()?;
    // llama-perplexity draws from all items of its file: both get these alone.
    let lines: Vec<&str> = text.lines().take(n_items * LINES).collect();
    fs::write(folder.path().join("hellaswag_val.txt"), lines.join("\n") + "\n")?;
    let path = std::env::var_os("AIRD_BENCH_MODEL").map_or(MODEL.into(), PathBuf::from);
    let n_rounds = number("AIRD_BENCH_RUNS", 5).max(1);
    let options = Options::cpu(number("AIRD_BENCH_THREADS", 0) as u32);
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    println!("{name}, {} threads, {n_items} items, {n_rounds} rounds", options.n_threads());
    pace(&path, options, folder.path(), n_rounds)?;
    match std::env::var_os("AIRD_LLAMA_PERPLEXITY") {
        Some(program) => commands(program.as_ref(), &path, options, folder.path(), n_rounds),
        None => {
            println!("  llama-perplexity: not compared, AIRD_LLAMA_PERPLEXITY names none");
            Ok(())
        }
    }
}

/// Tokens a second of scoring and of bare reading, without logits and with as many.
fn pace(path: &Path, options: Options, folder: &Path, n_rounds: usize) -> Result<()> {
    let model = Model::open(path).context("no model: scripts/fetch-model.sh brings one")?;
    let engine = Engine::load(&model.shards()[0].path, options)?;
    let data = tasks::load(task("hellaswag")?, folder, usize::MAX, None)?;
    let n_items = data.items.len();
    let run = Run {
        engine: &engine,
        model_sha256: "",
        chat: None,
        limit: n_items,
        seed: None,
        parallel: PARALLEL,
    };
    let of = |item: &Item| -> Result<Vec<Text>> { Ok(texts(&run, item)?.0) };
    let groups = data.items.iter().map(of).collect::<Result<Vec<_>>>()?;
    let mut scorer = Scorer::new(&engine, &groups, PARALLEL)?;
    scorer.score(&groups[..1])?;
    let before = scorer.n_tokens();
    scorer.score(&groups)?;
    let n_tokens = (scorer.n_tokens() - before) as usize;
    // The context's last token tells of every choice's first.
    let scored = groups.iter().flatten().map(|text| text.tokens.len() - text.n_given);
    let n_logits = scored.sum::<usize>() - 3 * n_items;
    let mut tokens: Vec<i32> = groups.iter().flatten().flat_map(|t| t.tokens.clone()).collect();
    tokens.truncate(n_tokens);
    println!("\npace: {n_tokens} tokens, logits behind {n_logits} of them");
    let mut bare = Bare::new(&engine, tokens)?;
    let [mut none, mut some, mut ours] = [const { Vec::new() }; 3];
    for _ in 0..n_rounds {
        none.push(bare.pace(0)?);
        some.push(bare.pace(n_logits)?);
        let start = Instant::now();
        scorer.score(&groups)?;
        ours.push(n_tokens as f64 / start.elapsed().as_secs_f64());
    }
    let unit = "tokens/s";
    line("the engine reading, hardly a logit", &none, unit);
    line("the engine reading, as many logits", &some, unit);
    line("scoring", &ours, unit);
    ratio("scoring against reading", &ours, &none, "at least 0.85");
    ratio("scoring against reading with logits", &ours, &some, "");
    Ok(())
}

/// Tokens read as a text, a batch after another.
struct Bare<'e> {
    session: Session<'e>,
    tokens: Vec<i32>,
}

impl<'e> Bare<'e> {
    fn new(engine: &'e Engine, tokens: Vec<i32>) -> Result<Bare<'e>> {
        let size = Size { n_ctx: N_BATCH, n_batch: N_BATCH, n_seq: 1, unified: true };
        Ok(Bare { session: Session::new(engine, size)?, tokens })
    }

    /// Tokens a second, logits of `n_logits` of them computed.
    fn pace(&mut self, n_logits: usize) -> Result<f64> {
        let n_tokens = self.tokens.len();
        let start = Instant::now();
        for (batch, tokens) in self.tokens.chunks(N_BATCH as usize).enumerate() {
            let mut inputs = prompt_inputs(tokens, 0, 0);
            for (i, input) in (batch * N_BATCH as usize..).zip(&mut inputs) {
                // As many as there should be by now, spread evenly.
                input.logits |= (i + 1) * n_logits / n_tokens > i * n_logits / n_tokens;
            }
            self.session.clear();
            self.session.decode(&inputs, None)?;
            // Logits are there once they are read.
            let _ = self.session.logits(inputs.len() - 1);
        }
        Ok(n_tokens as f64 / start.elapsed().as_secs_f64())
    }
}

/// `aird tasks` and llama-perplexity, whole commands in turn.
fn commands(
    program: &Path,
    model: &Path,
    options: Options,
    folder: &Path,
    n_rounds: usize,
) -> Result<()> {
    println!("\ncommands, loading and hashing the model included");
    let threads = options.n_threads().to_string();
    let [mut a, mut b] = [Vec::new(), Vec::new()];
    for _ in 0..n_rounds {
        let mut theirs = Command::new(program);
        theirs.args(["--hellaswag", "--hellaswag-tasks", "1000000", "-ngl", "0", "-t", &threads]);
        theirs.arg("-f").arg(folder.join("hellaswag_val.txt")).arg("-m").arg(model);
        b.push(seconds(&mut theirs)?);
        let mut ours = Command::new(env!("CARGO_BIN_EXE_aird"));
        ours.args(["tasks", "--tasks", "hellaswag", "--limit", "1000000", "--threads", &threads]);
        ours.arg("--data-dir").arg(folder).arg(model);
        a.push(seconds(&mut ours)?);
    }
    line("aird tasks --tasks hellaswag", &a, "s");
    line("llama-perplexity --hellaswag", &b, "s");
    ratio("aird's time against llama-perplexity's", &a, &b, "at most 1.00");
    Ok(())
}

fn seconds(command: &mut Command) -> Result<f64> {
    let start = Instant::now();
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    let status = status.with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{command:?} failed: {status}");
    Ok(start.elapsed().as_secs_f64())
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

fn line(name: &str, x: &[f64], unit: &str) {
    println!("  {name:<42} {:>8.1} {unit}", median(x));
}

/// Median of the ratios, with the lowest and the highest.
fn ratio(name: &str, a: &[f64], b: &[f64], goal: &str) {
    let mut ratios: Vec<f64> = a.iter().zip(b).map(|(a, b)| a / b).collect();
    ratios.sort_by(f64::total_cmp);
    let (low, high) = (ratios[0], ratios[ratios.len() - 1]);
    let goal = if goal.is_empty() { String::new() } else { format!("; goal {goal}") };
    println!("  {name:<42} {:>8.2} x  ({low:.2} to {high:.2}{goal})", median(&ratios));
}

fn median(x: &[f64]) -> f64 {
    let mut x = x.to_vec();
    x.sort_by(f64::total_cmp);
    x[x.len() / 2]
}
