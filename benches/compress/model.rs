//! A model of noise in TinyLlama's shapes that llama.cpp takes for one, and statistics of it.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use aird::gguf::{GgmlType, Header, TensorInfo, Value, ValueType};
use aird::stats::{InputStats, Stats};
use anyhow::Result;

/// TinyLlama's: 1.1 billion parameters in 22 blocks.
const N_EMBD: u64 = 2048;
const N_FF: u64 = 5632;
const N_KV: u64 = 256;
const N_VOCAB: u64 = 32_000;
const N_CTX: u64 = 2048;

/// TinyLlama's header, with a vocabulary of that size that spells nothing but bytes.
pub fn header(n_block: u64) -> Header {
    let mut header = Header::new();
    let mut key = |key: &str, value: Value| drop(header.kv.insert(key.into(), value));
    key("general.architecture", "llama".into());
    key("general.file_type", 1u32.into());
    for (name, n) in [
        ("context_length", N_CTX),
        ("embedding_length", N_EMBD),
        ("block_count", n_block),
        ("feed_forward_length", N_FF),
        ("attention.head_count", 32),
        ("attention.head_count_kv", 4),
        ("rope.dimension_count", 64),
    ] {
        key(&format!("llama.{name}"), (n as u32).into());
    }
    key("llama.attention.layer_norm_rms_epsilon", 1e-5f32.into());
    let byte = |i: u64| (3..259).contains(&i).then(|| format!("<0x{:02X}>", i - 3));
    let special = ["<unk>", "<s>", "</s>"];
    let text = |i: u64| special.get(i as usize).map(|s| String::from(*s)).or_else(|| byte(i));
    let tokens = (0..N_VOCAB).map(|i| text(i).unwrap_or_else(|| format!("token{i}")));
    let kinds = (0..N_VOCAB).map(|i| match i {
        0 => 2,
        1 | 2 => 3,
        3..259 => 6,
        _ => 1,
    });
    key("tokenizer.ggml.model", "llama".into());
    key("tokenizer.ggml.tokens", Value::strings(tokens));
    let scores = (0..N_VOCAB).map(|i| Value::F32(-(i as f32)));
    key("tokenizer.ggml.scores", Value::array(ValueType::F32, scores));
    key("tokenizer.ggml.token_type", Value::array(ValueType::I32, kinds.map(Value::I32)));
    for (name, shape) in tensors(n_block) {
        let ty = if shape.len() == 1 { GgmlType::F32 } else { GgmlType::F16 };
        header.tensors.insert(name.clone(), TensorInfo { name, shape, ty, offset: 0 });
    }
    header.lay_out();
    header
}

/// Names and shapes, inputs first, in the usual order of files.
fn tensors(n_block: u64) -> Vec<(String, Vec<u64>)> {
    let mut all = vec![("token_embd.weight".into(), vec![N_EMBD, N_VOCAB])];
    for block in 0..n_block {
        for (part, shape) in [
            ("attn_norm", vec![N_EMBD]),
            ("attn_q", vec![N_EMBD, N_EMBD]),
            ("attn_k", vec![N_EMBD, N_KV]),
            ("attn_v", vec![N_EMBD, N_KV]),
            ("attn_output", vec![N_EMBD, N_EMBD]),
            ("ffn_norm", vec![N_EMBD]),
            ("ffn_gate", vec![N_EMBD, N_FF]),
            ("ffn_up", vec![N_EMBD, N_FF]),
            ("ffn_down", vec![N_FF, N_EMBD]),
        ] {
            all.push((format!("blk.{block}.{part}.weight"), shape));
        }
    }
    all.push(("output_norm.weight".into(), vec![N_EMBD]));
    all.push(("output.weight".into(), vec![N_EMBD, N_VOCAB]));
    all
}

/// Writes a model of noise as it goes, so that this process stays small.
pub fn write(path: &Path, header: &Header) -> Result<()> {
    let mut random = Random(1);
    let mut half = || half::f16::from_f32(random.normal() * 0.02).to_le_bytes();
    // Each tensor begins elsewhere in it.
    let noise: Vec<u8> = (0..N_EMBD * N_VOCAB * 5 / 4).flat_map(|_| half()).collect();
    let mut out = BufWriter::new(File::create(path)?);
    out.write_all(&header.encode())?;
    for (i, info) in header.tensors.values().enumerate() {
        // Whole multiples of the alignment, all of them.
        let n_bytes = info.n_bytes() as usize;
        match info.ty {
            GgmlType::F32 => out.write_all(&1f32.to_le_bytes().repeat(n_bytes / 4))?,
            _ => out.write_all(&noise[i * 1_000_000 % (noise.len() / 5) / 2 * 2..][..n_bytes])?,
        }
    }
    Ok(out.into_inner()?.sync_all()?)
}

pub fn made_up_stats(header: &Header) -> Stats {
    let mut random = Random(2);
    let mut stats = Stats { datasets: vec!["made up".into()], ..Stats::default() };
    for info in header.tensors.values().filter(|t| t.block().is_some() && t.shape.len() > 1) {
        let n_cols = info.n_cols() as usize;
        let mut input = InputStats::new(1, n_cols);
        input.counts = vec![65_536];
        input.sum2 = (0..n_cols).map(|_| 65_536.0 * f64::from(random.normal()).exp()).collect();
        (input.sum_abs, input.max_abs) = (None, None);
        stats.inputs.insert(info.name.clone(), input);
    }
    stats
}

/// Sebastiano Vigna's SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Nearly normal, of unit variance: the sum of four even numbers.
    fn normal(&mut self) -> f32 {
        let bits = self.next();
        let sum: f32 = (0..4).map(|i| (bits >> (16 * i) & 0xffff) as f32 / 65_536.0 - 0.5).sum();
        sum * 3f32.sqrt()
    }
}
