//! Rewriting a large file with two tensors changed, side by side with `cp` and `sync` of the
//! same file: A B A B, medians, and the ratio pair by pair. Peak memory beyond the map too.
//!
//! `AIRD_BENCH_GB` sets the file's size (2), `AIRD_BENCH_RUNS` the number of pairs (7).
#![allow(unreachable_pub)] // a program of its own: nothing is reached from outside

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aird::gguf::{Ask, Builder, GgmlType, Layout, Model, Replacement, Rewrite, Step, Watch};
use aird::quant::{decode_rows, encode_rows};

const N_EMBD: u64 = 4096;
const N_FF: u64 = 8192;
const BLOCK_BYTES: u64 = 2 * (N_EMBD * N_EMBD + N_EMBD * N_FF);
const CHANGED: [&str; 2] = ["blk.3.attn_output.weight", "blk.3.ffn_down.weight"];

fn main() {
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
    };
    let (gb, runs) = (number("AIRD_BENCH_GB", 2), number("AIRD_BENCH_RUNS", 7));
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let source = folder.path().join("model-F16.gguf");
    let bytes = make_model(&source, gb * 1_000_000_000 / BLOCK_BYTES);
    println!("file: {:.2} GB F16, {runs} pairs, warm cache", bytes as f64 / 1e9);

    let memory = PeakMemory::start();
    let (mut cp, mut write, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..=runs {
        cp.push(time_cp(&source, &folder.path().join("cp.gguf")));
        let (w, all) = time_rewrite(&source, &folder.path().join("rewrite.gguf"));
        write.push(w);
        whole.push(all);
    }
    // The first of each warms the cache.
    let ratio = |x: &[f64]| median(x.iter().zip(&cp).skip(1).map(|(x, c)| x / c).collect());
    println!("cp and sync                     {:.2} s", median(cp[1..].to_vec()));
    let line = |name: &str, x: &[f64]| {
        println!("{name:<31} {:.2} s  {:.2} x cp and sync", median(x[1..].to_vec()), ratio(x));
    };
    line("rewrite, written and synced", &write);
    line("rewrite, read back and renamed", &whole);
    println!("peak memory beyond the map      {:.0} MB", memory.stop() as f64 / 1e6);
}

/// Blocks of one attention and one MLP matrix.
fn make_model(path: &Path, n_block: u64) -> u64 {
    let values: Vec<u8> = (0..BLOCK_BYTES / 2)
        .flat_map(|i| half::f16::from_f32((i as f32 * 0.61).sin() * 0.02).to_le_bytes())
        .collect();
    let attention = (2 * N_EMBD * N_EMBD) as usize;
    let mut file = Builder::new();
    file.kv("general.architecture", "llama");
    for i in 0..n_block {
        let name = |part: &str| format!("blk.{i}.{part}.weight");
        let (a, b) = values.split_at(attention);
        file.tensor(&name("attn_output"), &[N_EMBD, N_EMBD], GgmlType::F16, a.to_vec())
            .and_then(|f| f.tensor(&name("ffn_down"), &[N_FF, N_EMBD], GgmlType::F16, b.to_vec()))
            .expect("valid tensors");
    }
    file.write(path).expect("room for the file");
    path.metadata().expect("the file").len()
}

fn time_cp(source: &Path, target: &PathBuf) -> f64 {
    let _ = std::fs::remove_file(target);
    let start = Instant::now();
    let copy = Command::new("cp").args(["--reflink=never".as_ref(), source, target]).status();
    let sync = Command::new("sync").arg(target).status();
    assert!(copy.is_ok_and(|s| s.success()) && sync.is_ok_and(|s| s.success()));
    start.elapsed().as_secs_f64()
}

/// Notes when reading back begins.
struct Stages {
    start: Instant,
    written_ms: AtomicU64,
}

impl Watch for Stages {
    fn stage(&self, what: &str, _: u64) {
        if what == "reading back" {
            self.written_ms.store(self.start.elapsed().as_millis() as u64, Ordering::Relaxed);
        }
    }
}

/// Seconds until written and synced, and until done.
fn time_rewrite(source: &Path, target: &PathBuf) -> (f64, f64) {
    let _ = std::fs::remove_file(target);
    let stages = Stages { start: Instant::now(), written_ms: AtomicU64::new(0) };
    let model = Model::open(source).expect("the model");
    let mut rewrite = Rewrite::new(&model, Layout::Single);
    rewrite.record(Step::new("bench", aird::VERSION));
    for name in CHANGED {
        let tensor = model.tensor(name).expect("a tensor to change");
        let n_cols = tensor.info.n_cols() as usize;
        let mut values = Vec::new();
        let produce = move |rows: std::ops::Range<u64>, out: &mut [u8]| {
            values.resize((rows.end - rows.start) as usize * n_cols, 0.0);
            decode_rows(tensor.info.ty, tensor.rows(rows), n_cols, &mut values)?;
            values.iter_mut().for_each(|x| *x *= 1.5);
            Ok(encode_rows(tensor.info.ty, &values, n_cols, None, out)?)
        };
        let ty = tensor.info.ty;
        let new = Replacement { ty, ask: Ask::Chunks, produce: Box::new(produce) };
        rewrite.replace(name, new).expect("rows that fit");
    }
    rewrite.write(target, false, &stages).expect("a rewrite");
    let written = stages.written_ms.load(Ordering::Relaxed) as f64 / 1e3;
    (written, stages.start.elapsed().as_secs_f64())
}

fn median(mut x: Vec<f64>) -> f64 {
    x.sort_by(f64::total_cmp);
    x[x.len() / 2]
}

/// The largest RssAnon of this process, looked at every few milliseconds; Linux only.
struct PeakMemory {
    stop: std::sync::Arc<AtomicBool>,
    thread: std::thread::JoinHandle<u64>,
}

impl PeakMemory {
    fn start() -> PeakMemory {
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let seen = std::sync::Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut peak = 0;
            while !seen.load(Ordering::Relaxed) {
                peak = peak.max(rss_anon());
                std::thread::sleep(Duration::from_millis(2));
            }
            peak
        });
        PeakMemory { stop, thread }
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or(0)
    }
}

fn rss_anon() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("RssAnon:"));
    let kb = line.and_then(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok());
    kb.unwrap_or(0) * 1024
}
