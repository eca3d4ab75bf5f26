//! Importing a checkpoint of BF16, side by side with `cp` and `sync` of the same bytes: A B A B,
//! medians, and the ratio pair by pair. Peak memory beyond the maps too.
//!
//! `AIRD_BENCH_GB` sets the size (2), `AIRD_BENCH_RUNS` the number of pairs (5). With
//! `AIRD_BENCH_CONVERTER` naming llama.cpp's convert_hf_to_gguf.py and `AIRD_PYTHON` a python that
//! has what it needs, that runs in turn as well (Linux, with GNU time).
#![allow(unreachable_pub)] // a program of its own: nothing is reached from outside

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use aird::checkpoint::{Checkpoint, Import, ImportType};
use aird::gguf::{Error, Step, Watch};
use serde_json::{Map, Value, json};

/// The shapes of an 8B model.
const N_EMBD: u64 = 4096;
const N_FF: u64 = 14_336;
const N_KV: u64 = 1024;
const N_VOCAB: u64 = 304;

fn main() {
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
    };
    let (gb, runs) = (number("AIRD_BENCH_GB", 2), number("AIRD_BENCH_RUNS", 5));
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let block: u64 =
        shapes(Some(0)).iter().map(|(_, shape)| 2 * shape.iter().product::<u64>()).sum();
    let n_block = (gb * 1_000_000_000 / block).max(1);
    let checkpoint = folder.path().join("model");
    let weights = make_checkpoint(&checkpoint, n_block);
    let bytes = weights.metadata().expect("the weights").len();
    println!("checkpoint: {:.2} GB BF16, {n_block} blocks of 8B, {runs} pairs", bytes as f64 / 1e9);

    let converter = std::env::var("AIRD_BENCH_CONVERTER").ok();
    let memory = PeakMemory::start();
    let (mut cp, mut written, mut whole, mut theirs) = (vec![], vec![], vec![], vec![]);
    let mut their_memory = 0;
    for _ in 0..=runs {
        cp.push(time_cp(&weights, &folder.path().join("cp.safetensors")));
        let (w, all) = time_import(&checkpoint, &folder.path().join("import.gguf"));
        written.push(w);
        whole.push(all);
        if let Some(converter) = &converter {
            let out = folder.path().join("converted.gguf");
            let (seconds, kb) = time_converter(converter, &checkpoint, &out);
            theirs.push(seconds);
            their_memory = their_memory.max(kb);
        }
    }
    // The first of each warms the cache.
    let ratio = |x: &[f64]| median(x.iter().zip(&cp).skip(1).map(|(x, c)| x / c).collect());
    println!("cp and sync                     {:.2} s", median(cp[1..].to_vec()));
    let line = |name: &str, x: &[f64]| {
        println!("{name:<31} {:.2} s  {:.2} x cp and sync", median(x[1..].to_vec()), ratio(x));
    };
    line("import, written and synced", &written);
    line("import, read back and renamed", &whole);
    println!("peak memory beyond the maps     {:.0} MB", memory.stop() as f64 / 1e6);
    if !theirs.is_empty() {
        line("convert_hf_to_gguf.py", &theirs);
        println!("its peak memory (RSS)           {:.0} MB", their_memory as f64 / 1e3);
    }
}

/// Names and shapes of a block's tensors, or of those outside.
fn shapes(block: Option<u64>) -> Vec<(String, Vec<u64>)> {
    let Some(block) = block else {
        return vec![
            ("model.embed_tokens.weight".into(), vec![N_VOCAB, N_EMBD]),
            ("model.norm.weight".into(), vec![N_EMBD]),
            ("lm_head.weight".into(), vec![N_VOCAB, N_EMBD]),
        ];
    };
    let named =
        |(name, shape): (&str, Vec<u64>)| (format!("model.layers.{block}.{name}.weight"), shape);
    let shapes = [
        ("input_layernorm", vec![N_EMBD]),
        ("self_attn.q_proj", vec![N_EMBD, N_EMBD]),
        ("self_attn.k_proj", vec![N_KV, N_EMBD]),
        ("self_attn.v_proj", vec![N_KV, N_EMBD]),
        ("self_attn.o_proj", vec![N_EMBD, N_EMBD]),
        ("post_attention_layernorm", vec![N_EMBD]),
        ("mlp.gate_proj", vec![N_FF, N_EMBD]),
        ("mlp.up_proj", vec![N_FF, N_EMBD]),
        ("mlp.down_proj", vec![N_EMBD, N_FF]),
    ];
    shapes.map(named).into()
}

/// Writes a checkpoint of noise; returns the path of its weights.
fn make_checkpoint(folder: &Path, n_block: u64) -> PathBuf {
    fs::create_dir(folder).expect("a folder");
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": N_EMBD,
        "intermediate_size": N_FF, "num_hidden_layers": n_block, "num_attention_heads": 32,
        "num_key_value_heads": 8, "vocab_size": N_VOCAB, "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5, "torch_dtype": "bfloat16",
    });
    fs::write(folder.join("config.json"), config.to_string()).expect("room");
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/checkpoints/bpe.json");
    let text = fs::read_to_string(fixture).expect("the fixture");
    let mut tokenizer: Value = serde_json::from_str(&text).expect("JSON");
    tokenizer["pre_tokenizer"] = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
    });
    fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).expect("room");
    fs::write(folder.join("tokenizer_config.json"), r#"{"tokenizer_class": "GPT2Tokenizer"}"#)
        .expect("room");

    let all = (0..n_block).map(Some).chain([None]);
    let tensors: Vec<(String, Vec<u64>)> = all.flat_map(shapes).collect();
    let mut header = Map::new();
    let mut at = 0;
    for (name, shape) in &tensors {
        let end = at + 2 * shape.iter().product::<u64>();
        let info = json!({ "dtype": "BF16", "shape": shape, "data_offsets": [at, end] });
        header.insert(name.clone(), info);
        at = end;
    }
    let mut header = Value::from(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let noise: Vec<u8> = (0..1u32 << 20)
        .flat_map(|i| half::bf16::from_f32((i as f32 * 0.61).sin() * 0.02).to_le_bytes())
        .collect();
    let path = folder.join("model.safetensors");
    let mut file = std::io::BufWriter::new(fs::File::create(&path).expect("room"));
    file.write_all(&(header.len() as u64).to_le_bytes()).expect("room");
    file.write_all(&header).expect("room");
    let mut left = at as usize;
    while left > 0 {
        let n = left.min(noise.len());
        file.write_all(&noise[..n]).expect("room for the weights");
        left -= n;
    }
    file.into_inner().expect("room").sync_all().expect("a disk");
    path
}

fn time_cp(source: &Path, target: &PathBuf) -> f64 {
    let _ = fs::remove_file(target);
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

/// Seconds until written and synced, and until done. The weights are hashed meanwhile, as `aird
/// import` does it; llama.cpp's trial of the model is left out, since `cp` has none either.
fn time_import(folder: &Path, target: &Path) -> (f64, f64) {
    let _ = fs::remove_file(target);
    let stages = Stages { start: Instant::now(), written_ms: AtomicU64::new(0) };
    let checkpoint = Checkpoint::open(folder).expect("a checkpoint");
    let import = Import::plan(&checkpoint, ImportType::Auto).expect("a plan");
    let mut assembly = import.assembly(&checkpoint).expect("an assembly");
    let step = |sum: &str| Step::new("bench", aird::VERSION).source("weights", sum);
    let make = |watch: &dyn Watch| Ok(step(&checkpoint.shards[0].sha256(watch)?));
    assembly.record(&step(&"0".repeat(64)), make).expect("a step");
    assembly.write_if(target, false, &[], &stages, |_| Ok::<_, Error>(())).expect("an import");
    let written = stages.written_ms.load(Ordering::Relaxed) as f64 / 1e3;
    (written, stages.start.elapsed().as_secs_f64())
}

/// Seconds and kilobytes of llama.cpp's converter, and the sync of what it wrote. It knows no
/// vocabulary of noise: a line before it names the pre-tokenizer.
fn time_converter(converter: &str, folder: &Path, out: &Path) -> (f64, u64) {
    let _ = fs::remove_file(out);
    let python = std::env::var("AIRD_PYTHON").unwrap_or_else(|_| "python3".into());
    let code = "import runpy, sys, pathlib\n\
        sys.path[:0] = [str(pathlib.Path(sys.argv[1]).parent)]\n\
        from conversion.base import TextModel\n\
        TextModel.get_vocab_base_pre = lambda self, tokenizer: 'gpt-2'\n\
        sys.argv = sys.argv[1:]\n\
        runpy.run_path(sys.argv[0], run_name='__main__')\n";
    let start = Instant::now();
    let run = Command::new("/usr/bin/time")
        .args(["-f", "%M", &python, "-c", code, converter])
        .arg(folder)
        .args(["--outtype", "bf16", "--outfile"])
        .arg(out)
        .output()
        .expect("GNU time");
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{said}");
    let sync = Command::new("sync").arg(out).status();
    assert!(sync.is_ok_and(|s| s.success()));
    let kb = said.lines().last().and_then(|line| line.trim().parse().ok()).unwrap_or(0);
    (start.elapsed().as_secs_f64(), kb)
}

fn median(mut x: Vec<f64>) -> f64 {
    x.sort_by(f64::total_cmp);
    x[x.len() / 2]
}

/// The largest RssAnon of this process, looked at every few milliseconds; Linux only.
struct PeakMemory {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl PeakMemory {
    fn start() -> PeakMemory {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
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
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("RssAnon:"));
    let kb = line.and_then(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok());
    kb.unwrap_or(0) * 1024
}
