//! Reading a model's structure off llama.cpp's graph: how long it takes and what it holds, on a
//! small real model and on a file in Llama-3-8B's shapes (4.4 GB), where the size must not matter.
//! Beside it, in turn: aird's reading of the header alone, llama.cpp's of the header and the
//! vocabulary (which each of its loads does first), and aird's own start with nothing to do.
//!
//! From the environment: `AIRD_BENCH_MODEL` (the model that scripts/fetch-model.sh brings),
//! `AIRD_BENCH_RUNS` (rounds, 15).
#![allow(unreachable_pub)] // a program of its own: nothing is reached from outside

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use aird::gguf::{GgmlType, Model};
use aird::llama::graph::Structure;
use anyhow::{Result, ensure};
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;

#[path = "support/model.rs"]
#[allow(dead_code)] // of its shapes one is of use here
mod model;

#[path = "support/memory.rs"]
mod memory;

use memory::{forget_peak_memory, peak_memory};
use model::LLAMA_8B;

const MODEL: &str = "target/models/SmolLM2-135M-Instruct-Q4_1.gguf";

fn main() -> Result<()> {
    let small = std::env::var_os("AIRD_BENCH_MODEL").map_or(MODEL.into(), PathBuf::from);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let large = folder.path().join("8B.gguf");
    model::write(&large, &LLAMA_8B, GgmlType::Q4_K)?;
    // In turn they cannot be: llama.cpp is started once a process, here first without aird.
    let vocabularies = [&small, &large].map(|path| vocabulary(path));
    println!(
        "{:12} {:>10} {:>10} {:>10} {:>10} {:>10} {:>12}",
        "ms, median", "header", "vocabulary", "structure", "start", "command", "more memory"
    );
    let models = [("the model", small.as_path()), ("8B-shaped", &large)];
    for ((name, path), vocabulary) in models.into_iter().zip(vocabularies) {
        measure(name, path, vocabulary?)?;
    }
    Ok(())
}

/// A line: each thing in turn, so that all see the same machine.
fn measure(name: &str, path: &Path, vocabulary: f64) -> Result<()> {
    let (mut header, mut trace) = (vec![], vec![]);
    let (mut start, mut command) = (vec![], vec![]);
    let mut more = 0;
    for _ in 0..=runs() {
        let model = timed(&mut header, || Ok(Model::open(path)?))?;
        let before = forget_peak_memory().then(peak_memory).flatten();
        let structure = timed(&mut trace, || Ok(Structure::trace(&model)?))?;
        let after = peak_memory();
        more = after.zip(before).map_or(0, |(after, before)| after.saturating_sub(before));
        ensure!(structure.writers().count() > 0, "no writers in {}", path.display());
        timed(&mut start, || run(Command::new(aird()).arg("--version")))?;
        timed(&mut command, || run(Command::new(aird()).args(["probe", "--structure"]).arg(path)))?;
    }
    let [header, trace] = [header, trace].map(median);
    let [start, command] = [start, command].map(median);
    let more = format!("{:.1} MB", more as f64 / 1e6);
    print!("{name:12} {header:10.2} {vocabulary:10.2} {trace:10.2} ");
    println!("{start:10.2} {command:10.2} {more:>12}");
    Ok(())
}

/// Milliseconds for loading header and vocabulary, as every load by llama.cpp does first.
fn vocabulary(path: &Path) -> Result<f64> {
    let mut backend = LlamaBackend::init()?;
    backend.void_logs();
    let params = LlamaModelParams::default().with_vocab_only(true);
    let mut times = Vec::new();
    for _ in 0..=runs() {
        timed(&mut times, || Ok(LlamaModel::load_from_file(&backend, path, &params)?))?;
    }
    Ok(median(times))
}

fn runs() -> usize {
    std::env::var("AIRD_BENCH_RUNS").ok().and_then(|v| v.parse().ok()).unwrap_or(15)
}

fn aird() -> &'static str {
    env!("CARGO_BIN_EXE_aird")
}

fn run(command: &mut Command) -> Result<()> {
    ensure!(command.stdout(Stdio::null()).status()?.success(), "{command:?} failed");
    Ok(())
}

fn timed<T>(times: &mut Vec<f64>, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let done = act()?;
    times.push(start.elapsed().as_secs_f64() * 1e3);
    Ok(done)
}

/// The first round warms up.
fn median(mut times: Vec<f64>) -> f64 {
    times.remove(0);
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
