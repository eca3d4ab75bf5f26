//! Repairing at a given block and strength: in place (whole commands, on files of two sizes, since
//! the size must not matter), to a new file against `cp` and `sync` in turn, and how much of an
//! edit is really there in every type.
//!
//! `cargo bench --bench repair -- table` runs that part alone; the parts are `table`, `in-place`
//! and `new-file`. `AIRD_BENCH_RUNS` sets the rounds (5), `AIRD_BENCH_BLOCKS` the blocks of the
//! larger file (32: Llama-3-8B's shapes, 4.4 GB).
#![allow(unreachable_pub)] // a program of its own: nothing is reached from outside

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use aird::gguf::{Builder, GgmlType, Layout, Model, Rewrite, Step, Unwatched, Watch};
use aird::llama::graph::{Part, Structure};
use aird::quant::{Along, Zeros, encode_rows, strengthen};
use aird::repair::{Edit, Half, Storage, apply, edit};
use anyhow::{Context, Result, ensure};

#[path = "support/model.rs"]
mod model;

#[path = "support/child.rs"]
mod child;

use child::watched;
use model::{LLAMA_8B, Random, Shapes, TINY_LLAMA};

/// The types that a table row is made for.
const TYPES: [GgmlType; 15] = [
    GgmlType::F32,
    GgmlType::F16,
    GgmlType::BF16,
    GgmlType::Q8_0,
    GgmlType::Q6_K,
    GgmlType::Q5_K,
    GgmlType::Q4_K,
    GgmlType::Q5_0,
    GgmlType::Q5_1,
    GgmlType::Q4_0,
    GgmlType::Q4_1,
    GgmlType::IQ4_NL,
    GgmlType::IQ4_XS,
    GgmlType::Q3_K,
    GgmlType::Q2_K,
];

fn main() -> Result<()> {
    let parts: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|p| p == part);
    if wanted("table") {
        table()?;
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let direction = |shapes: &Shapes| -> Result<PathBuf> {
        let path = folder.path().join(format!("{}.safetensors", shapes.n_embd));
        model::direction(shapes).write(&path)?;
        Ok(path)
    };
    if wanted("in-place") {
        for shapes in [TINY_LLAMA, LLAMA_8B] {
            in_place(folder.path(), &shapes, &direction(&shapes)?)?;
        }
    }
    if wanted("new-file") {
        new_file(folder.path(), &TINY_LLAMA, &direction(&TINY_LLAMA)?)?;
    }
    Ok(())
}

fn runs() -> usize {
    std::env::var("AIRD_BENCH_RUNS").ok().and_then(|v| v.parse().ok()).unwrap_or(5).max(1)
}

/// Realised alpha and noise on a 2048 x 2048 matrix of noise, along a direction of noise and along
/// one that lies in few channels.
fn table() -> Result<()> {
    const N: usize = 2048;
    let folder = tempfile::tempdir()?;
    let mut random = Random(7);
    let weights: Vec<f32> = (0..N * N).map(|_| random.normal() * 0.02).collect();
    let unit = |values: Vec<f32>| {
        let length = values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        values.into_iter().map(|x| (f64::from(x) / length) as f32).collect::<Vec<f32>>()
    };
    let spread = unit((0..N).map(|_| random.normal()).collect());
    let few = unit((0..N).map(|i| if i % 128 == 5 { random.normal() } else { 0.0 }).collect());
    println!("\nrealised alpha of a {N} x {N} matrix (noise, of the type's own rounding)");
    println!("{:8} {:>30}   {:>30}", "", "direction of noise", "in 16 channels");
    println!("{:8} {}", "alpha", "       0.5         1         3   ".repeat(2));
    for ty in TYPES {
        let mut bytes = vec![0; ty.bytes_for((N * N) as u64).context("whole blocks")? as usize];
        encode_rows(ty, &weights, N, None, &mut bytes)?;
        let path = folder.path().join("matrix.gguf");
        let mut file = Builder::new();
        file.kv("general.architecture", "llama");
        file.tensor("blk.0.attn_output.weight", &[N as u64, N as u64], ty, bytes)?;
        file.write(&path)?;
        let model = Model::open(&path)?;
        let tensor = model.tensor("blk.0.attn_output.weight").context("the matrix")?;
        let mut line = format!("{:8}", ty.to_string());
        for along in [&spread, &few] {
            for alpha in [0.5, 1.0, 3.0] {
                let one =
                    strengthen(tensor, 0..N as u64, &Along::same(along), alpha, (ty, Zeros::Keep))?;
                let (off, limit) = ((one.realised_alpha / alpha - 1.0).abs(), limit(ty));
                ensure!(off <= limit, "{ty}, alpha {alpha}: off by {off:.3}, limit {limit}");
                let noise = one.noise / one.own_noise.max(f64::MIN_POSITIVE);
                line += &match one.own_noise > 0.0 {
                    true => format!(" {:6.3}x{noise:4.2}", one.realised_alpha / alpha),
                    false => format!(" {:6.3}    -", one.realised_alpha / alpha),
                };
            }
            line += "  ";
        }
        println!("{line}");
    }
    Ok(())
}

/// By how much of itself an alpha may be off.
fn limit(ty: GgmlType) -> f64 {
    if matches!(ty, GgmlType::Q3_K | GgmlType::Q2_K) { 0.10 } else { 0.05 }
}

/// `aird repair --in-place`, and `aird undo` after it.
fn in_place(folder: &Path, shapes: &Shapes, direction: &Path) -> Result<()> {
    let path = folder.join("in-place-Q4_K.gguf");
    model::write(&path, shapes, GgmlType::Q4_K)?;
    let gb = path.metadata()?.len() as f64 / 1e9;
    let (mut seconds, mut undone, mut peak) = (Vec::new(), Vec::new(), 0);
    for _ in 0..=runs() {
        let mut repair = aird("repair");
        repair.arg(&path).arg("--direction").arg(direction);
        repair.args(["--block", "14", "--alpha", "3", "--type", "keep", "--in-place", "-q"]);
        let repaired = watched(&mut repair)?;
        seconds.push(repaired.seconds);
        peak = peak.max(repaired.memory);
        let mut undo = aird("undo");
        undo.arg(&path).arg("-q");
        undone.push(watched(&mut undo)?.seconds);
    }
    println!("\nin place, Q4_K, {gb:.2} GB: whole commands, warm cache");
    println!("  aird repair --in-place   {:.2} s (goal 1 s)", median(&seconds[1..]));
    println!("  peak memory beyond the map {:.0} MB (goal 200 MB)", peak as f64 / 1e6);
    println!("  aird undo                {:.2} s", median(&undone[1..]));
    std::fs::remove_file(path)?;
    Ok(())
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

/// A new file, against `cp` and `sync` of the same one.
fn new_file(folder: &Path, shapes: &Shapes, direction: &Path) -> Result<()> {
    let [source, copy, target] =
        ["source-Q4_K.gguf", "cp.gguf", "new.gguf"].map(|name| folder.join(name));
    model::write(&source, shapes, GgmlType::Q4_K)?;
    let unit = model::direction(shapes).unit()?;
    let halves = [Part::Attention, Part::Mlp].map(|part| Half { block: 14, part });
    let (mut cp, mut written, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    let mut commands = Vec::new();
    for _ in 0..=runs() {
        let _ = (std::fs::remove_file(&copy), std::fs::remove_file(&target));
        let start = Instant::now();
        let copied = Command::new("cp").arg("--reflink=never").args([&source, &copy]).status()?;
        let synced = Command::new("sync").arg(&copy).status()?;
        ensure!(copied.success() && synced.success(), "cp failed");
        cp.push(start.elapsed().as_secs_f64());
        let stages = Stages { start: Instant::now(), written_ms: AtomicU64::new(0) };
        let model = Model::open(&source)?;
        let structure = &Structure::trace(&model)?;
        let storage = Storage::Keep;
        let (unit, halves, zeros) = (&unit[..], &halves[..], Zeros::Keep);
        let asked = Edit { unit, alpha: 3.0, halves, storage, zeros, structure };
        let edited = edit(&model, asked, &Unwatched)?;
        let mut rewrite = Rewrite::new(&model, Layout::Single);
        rewrite.record(Step::new("bench", aird::VERSION));
        apply(&mut rewrite, &edited)?;
        rewrite.write(&target, false, &stages)?;
        written.push(stages.written_ms.load(Ordering::Relaxed) as f64 / 1e3);
        whole.push(stages.start.elapsed().as_secs_f64());
        drop(edited);
        std::fs::remove_file(&target)?;
        let mut repair = aird("repair");
        repair.arg(&source).arg("--direction").arg(direction).arg("-o").arg(&target);
        repair.args(["--block", "14", "--alpha", "3", "--type", "keep", "-q"]);
        commands.push(watched(&mut repair)?.seconds);
    }
    let ratio =
        |x: &[f64]| median(&x.iter().zip(&cp).skip(1).map(|(x, c)| x / c).collect::<Vec<f64>>());
    println!("\na new file, Q4_K, {:.2} GB", source.metadata()?.len() as f64 / 1e9);
    println!("  cp and sync              {:.2} s", median(&cp[1..]));
    let line = |name: &str, x: &[f64]| {
        println!("  {name:<24} {:.2} s, {:.2} x cp and sync", median(&x[1..]), ratio(x));
    };
    line("edited, written, synced", &written);
    line("read back and renamed", &whole);
    // The source hashed first, every number of the new file decoded, and llama.cpp run on it.
    line("aird repair -o", &commands);
    Ok(())
}

fn aird(verb: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aird"));
    command.arg(verb).stdout(Stdio::null());
    command
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
