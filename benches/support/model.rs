//! Files in the shapes of real models, of noise, written as they are made.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use aird::direction::{About, Direction, Grid};
use aird::gguf::{GgmlType, Header, KvMap, TensorInfo, Value, ValueType};
use aird::quant::encode_rows;
use anyhow::{Context, Result};

/// A model's size.
#[derive(Clone, Copy)]
pub struct Shapes {
    /// Width of the residual stream.
    pub n_embd: u64,
    /// Heads of attention.
    pub n_head: u64,
    /// Width of the MLP.
    pub n_ff: u64,
    /// Keys of all heads, and values.
    pub n_kv: u64,
    /// Tokens of the vocabulary.
    pub n_vocab: u64,
    /// Merges of the vocabulary: a byte-level one has many, SentencePiece has none.
    pub n_merges: u64,
    /// Blocks.
    pub n_block: u64,
}

/// TinyLlama: 1.1 billion parameters.
pub const TINY_LLAMA: Shapes = Shapes {
    n_embd: 2048,
    n_head: 32,
    n_ff: 5632,
    n_kv: 256,
    n_vocab: 32_000,
    n_merges: 0,
    n_block: 22,
};
/// Llama 3.3 70B, whole.
#[allow(dead_code)] // not every bench takes every size
pub const LLAMA_70B: Shapes =
    Shapes { n_embd: 8192, n_head: 64, n_ff: 28_672, n_block: 80, ..LLAMA_8B };
/// Llama 3 8B.
#[allow(dead_code)] // not every bench takes every size
pub const LLAMA_8B: Shapes = Shapes {
    n_embd: 4096,
    n_head: 32,
    n_ff: 14_336,
    n_kv: 1024,
    n_vocab: 128_256,
    n_merges: 280_147,
    n_block: 32,
};

/// Writes a model of noise, its matrices of type `ty`.
pub fn write(path: &Path, shapes: &Shapes, ty: GgmlType) -> Result<()> {
    let header = header(shapes, ty);
    let mut random = Random(1);
    let values: Vec<f32> = (0..1 << 22).map(|_| random.normal() * 0.02).collect();
    let mut noise = vec![0; ty.bytes_for(values.len() as u64).context("whole blocks")? as usize];
    encode_rows(ty, &values, 256, None, &mut noise)?;
    let one = 1f32.to_le_bytes().repeat(1 << 16);
    let mut out = BufWriter::new(File::create(path)?);
    out.write_all(&header.encode())?;
    for info in header.tensors.values() {
        let source = if info.ty == GgmlType::F32 { &one } else { &noise };
        let mut left = info.n_bytes() as usize;
        while left > 0 {
            let n = left.min(source.len());
            out.write_all(&source[..n])?;
            left -= n;
        }
    }
    Ok(out.into_inner()?.sync_all()?)
}

fn header(shapes: &Shapes, ty: GgmlType) -> Header {
    let &Shapes { n_embd, n_ff, n_kv, n_vocab, n_block, .. } = shapes;
    let mut header = Header::new();
    keys(&mut header.kv, shapes);
    vocabulary(&mut header.kv, shapes);
    let mut tensor = |name: String, shape: &[u64]| {
        let ty = if shape.len() == 1 { GgmlType::F32 } else { ty };
        let info = TensorInfo { name: name.clone(), shape: shape.to_vec(), ty, offset: 0 };
        header.tensors.insert(name, info);
    };
    tensor("token_embd.weight".into(), &[n_embd, n_vocab]);
    for block in 0..n_block {
        for (part, shape) in [
            ("attn_norm", &[n_embd][..]),
            ("attn_q", &[n_embd, n_embd]),
            ("attn_k", &[n_embd, n_kv]),
            ("attn_v", &[n_embd, n_kv]),
            ("attn_output", &[n_embd, n_embd]),
            ("ffn_norm", &[n_embd]),
            ("ffn_gate", &[n_embd, n_ff]),
            ("ffn_up", &[n_embd, n_ff]),
            ("ffn_down", &[n_ff, n_embd]),
        ] {
            tensor(format!("blk.{block}.{part}.weight"), shape);
        }
    }
    tensor("output_norm.weight".into(), &[n_embd]);
    tensor("output.weight".into(), &[n_embd, n_vocab]);
    header.lay_out();
    header
}

/// What llama.cpp needs to know.
fn keys(kv: &mut KvMap, shapes: &Shapes) {
    let n_head_dim = shapes.n_embd / shapes.n_head;
    kv.insert("general.architecture".into(), "llama".into());
    for (name, n) in [
        ("context_length", 2048),
        ("embedding_length", shapes.n_embd),
        ("block_count", shapes.n_block),
        ("feed_forward_length", shapes.n_ff),
        ("attention.head_count", shapes.n_head),
        ("attention.head_count_kv", shapes.n_kv / n_head_dim),
        ("rope.dimension_count", n_head_dim),
    ] {
        kv.insert(format!("llama.{name}"), u32::try_from(n).unwrap_or(0).into());
    }
    kv.insert("llama.attention.layer_norm_rms_epsilon".into(), 1e-5f32.into());
    kv.insert("general.quantization_version".into(), 2u32.into());
}

/// As long as a real one: it makes most of a header.
fn vocabulary(kv: &mut KvMap, shapes: &Shapes) {
    const CONTROL: i32 = 3;
    const BYTE: i32 = 6;
    let special = ["<unk>", "<s>", "</s>"].map(|text| (text.to_owned(), CONTROL));
    let bytes = (0..256).map(|b| (format!("<0x{b:02X}>"), BYTE));
    let words = (0..shapes.n_vocab - 259).map(|i| (format!("word{i}"), 1));
    let (texts, kinds): (Vec<String>, Vec<i32>) =
        special.into_iter().chain(bytes).chain(words).unzip();
    let scores = (0..texts.len()).map(|i| Value::F32(-(i as f32)));
    let scores = Value::array(ValueType::F32, scores);
    let kinds = Value::array(ValueType::I32, kinds.into_iter().map(Value::I32));
    let merges = (0..shapes.n_merges).map(|i| format!("word{i} s{i}"));
    kv.insert("tokenizer.ggml.model".into(), "llama".into());
    kv.insert("tokenizer.ggml.tokens".into(), Value::strings(texts));
    kv.insert("tokenizer.ggml.scores".into(), scores);
    kv.insert("tokenizer.ggml.token_type".into(), kinds);
    kv.insert("tokenizer.ggml.merges".into(), Value::strings(merges));
    kv.insert("tokenizer.ggml.bos_token_id".into(), 1u32.into());
    kv.insert("tokenizer.ggml.eos_token_id".into(), 2u32.into());
}

/// A direction of noise, for such a model.
pub fn direction(shapes: &Shapes) -> Direction {
    let mut random = Random(3);
    let (n_embd, n_layer) = (shapes.n_embd as usize, shapes.n_block as usize);
    let values = (0..n_layer * n_embd).map(|_| random.normal()).collect();
    Direction {
        candidates: Grid { n_layer, n_pos: 1, n_embd, values },
        about: About {
            version: env!("CARGO_PKG_VERSION").into(),
            model: "bench".into(),
            model_sha256: String::new(),
            architecture: "llama".into(),
            layer: Some(0),
            position: Some(-1),
            max_kl: None,
            refusal_tokens: Vec::new(),
            scores: Vec::new(),
            prompts: serde_json::Map::new(),
            n_kept: (0, 0),
            template_sha256: String::new(),
        },
    }
}

/// Sebastiano Vigna's SplitMix64.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Nearly normal, of unit variance: the sum of four even numbers.
    pub fn normal(&mut self) -> f32 {
        let bits = self.next();
        let sum: f32 = (0..4).map(|i| (bits >> (16 * i) & 0xffff) as f32 / 65_536.0 - 0.5).sum();
        sum * 3f32.sqrt()
    }
}
