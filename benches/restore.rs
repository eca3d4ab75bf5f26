//! Restoring: one block in the shapes of Qwen2.5-1.5B and Llama-3-8B, by its parts, and what it
//! holds in memory; before it what aird computes itself, in the shapes of four models.
//!
//! `cargo bench --bench restore -- block` runs that part alone; the parts are `block` and `parts`.
//! `AIRD_BENCH_TOKENS` sets the tokens that are read (2048), `AIRD_BENCH_THREADS` the threads (2).
#![allow(unreachable_pub)] // a program of its own: nothing is reached from outside

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use aird::gguf::{GgmlType, Model, Watch};
use aird::llama::{Options, Prober};
use aird::numeric::{Factor, Gram, low_rank};
use aird::quant::{Mask, Onto, onto};
use aird::refit::{Job, Parts, Refit, Towards, Zeros, refit};
use aird::stats::Sample;
use anyhow::{Result, ensure};

#[path = "support/model.rs"]
#[allow(dead_code)] // of its shapes one is of use here
mod model;

#[path = "support/held.rs"]
mod held;

use model::{LLAMA_8B, Random, Shapes};

/// 1.5 billion, but for the heads: Qwen has 12 of 128 channels.
const QWEN_1_5B: Shapes = Shapes {
    n_head: 32,
    n_embd: 1536,
    n_ff: 8960,
    n_kv: 192,
    n_vocab: 151_936,
    n_merges: 151_387,
    n_block: 28,
};
/// Tokens of a text.
const N_CTX: usize = 256;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let wanted = |part: &str| words.is_empty() || words.iter().any(|p| p == part);
    let threads = number("AIRD_BENCH_THREADS", 2);
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    if wanted("parts") {
        println!(
            "{:>8} {:>8} {:>10} {:>10} {:>10} {:>10}",
            "inputs", "outputs", "gram", "factor", "sweep", "rank 32"
        );
        for (dim, n_out) in [(576, 1536), (1536, 576), (896, 4864), (4864, 896), (4096, 4096)] {
            parts(dim, n_out)?;
        }
    }
    if wanted("block") {
        block("1.5B", QWEN_1_5B, threads as u32)?;
        block("8B", LLAMA_8B, threads as u32)?;
    }
    Ok(())
}

fn number(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(usual).max(1)
}

fn noise(seed: u64, n: usize) -> Vec<f32> {
    let mut random = Random(seed);
    (0..n).map(|_| random.normal()).collect()
}

/// Milliseconds of a matrix's parts: the Gram matrix of 2048 rows, its factor, a sweep onto Q4_K
/// (Q4_0 where rows are no whole blocks), and factors of rank 32.
fn parts(dim: usize, n_out: usize) -> Result<()> {
    let rows = noise(1, 2048 * dim);
    let weights = noise(2, n_out * dim);
    let begun = Instant::now();
    let mut gram = Gram::new(dim);
    gram.add(&rows);
    let of_gram = begun.elapsed();
    let importance = gram.diagonal();
    let begun = Instant::now();
    let factor = Factor::new(gram, 0.1 * importance[0]);
    let Ok(factor) = factor else { anyhow::bail!("noise has a factor") };
    let of_factor = begun.elapsed();
    let ty = if dim.is_multiple_of(256) { GgmlType::Q4_K } else { GgmlType::Q4_0 };
    let mut swept = weights.clone();
    let begun = Instant::now();
    let mask = Mask::Free;
    ensure!(!onto(&mut swept, &factor, Onto { ty, importance: &importance, mask })?.is_empty());
    let of_sweep = begun.elapsed();
    let mut lacking = weights;
    let begun = Instant::now();
    factor.into_metric(&mut lacking);
    let (_, mut a) = low_rank(&lacking, dim, 32);
    factor.out_of_metric(&mut a);
    let of_rank = begun.elapsed();
    let [gram, factor, sweep, rank] =
        [of_gram, of_factor, of_sweep, of_rank].map(|t| format!("{:.1}", 1e3 * t.as_secs_f64()));
    println!("{dim:8} {n_out:8} {gram:>10} {factor:>10} {sweep:>10} {rank:>10}");
    Ok(())
}

/// Hears when a part begins.
#[derive(Default)]
struct Clock {
    at: Mutex<Vec<(String, Instant)>>,
}

impl Watch for Clock {
    fn part(&self, what: &str, _: usize, _: usize) {
        self.at.lock().unwrap_or_else(PoisonError::into_inner).push((what.into(), Instant::now()));
    }
}

/// One block of some shapes, quantized from Q4_K to Q3_K and restored.
fn block(name: &str, shapes: Shapes, threads: u32) -> Result<()> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let [original, compressed] =
        ["original.gguf", "compressed.gguf"].map(|n| folder.path().join(n));
    model::write(&original, &Shapes { n_block: 1, ..shapes }, GgmlType::Q4_K)?;
    quantized(&original, &compressed)?;
    let (model, reference) = (Model::open(&compressed)?, Model::open(&original)?);
    let n_tokens = number("AIRD_BENCH_TOKENS", 2048).next_multiple_of(N_CTX);
    let samples: Vec<Sample> = (0..n_tokens / N_CTX)
        .map(|i| Sample {
            tokens: (0..N_CTX).map(|t| 259 + ((i * N_CTX + t) * 7919 % 120_000) as i32).collect(),
            counted_from: 0,
        })
        .collect();
    let prober = Prober { program: Some(aird().into()), interrupt: Arc::default() };
    let clock = Clock::default();
    let asked = Refit {
        model: &model,
        reference: &reference,
        samples: &samples,
        towards: Towards::Original { prior: 0.1 },
        job: &|info| Some(Job::Swept { ty: info.ty, zeros: Zeros::Own }),
        options: Options::cpu(threads),
        prober: &prober,
        watch: &clock,
    };
    let parts = Parts::open(&folder.path().join("parts"), "bench".into())?;
    let begun = Instant::now();
    let (restored, most) = held::held(|| refit(&asked, &parts, &mut |_| ()));
    let (restored, whole) = (restored?, begun.elapsed());
    clock.part("", 0, 0);
    let at = clock.at.into_inner().unwrap_or_else(PoisonError::into_inner);
    for pair in at.windows(2) {
        println!("{:28} {:8.1} s", pair[0].0, (pair[1].1 - pair[0].1).as_secs_f64());
    }
    println!(
        "a block of {name}, {n_tokens} tokens, {threads} threads: {:.1} s of {:.1} s; at most \
         {:.2} GB held beside the mapped files",
        at.last().zip(at.first()).map_or(0.0, |(z, a)| (z.1 - a.1).as_secs_f64()),
        whole.as_secs_f64(),
        most as f64 / 1e9,
    );
    let (error_before, error_after) = restored.mean_error();
    println!("matrices off by {error_before:.3} -> {error_after:.3}");
    Ok(())
}

fn quantized(from: &Path, to: &Path) -> Result<()> {
    let mut command = Command::new(aird());
    command.arg("quantize").arg(from).args(["--method", "rtn", "--type", "q3_k", "--requantize"]);
    command.arg("-o").arg(to);
    let output = command.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn aird() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_aird"))
}
