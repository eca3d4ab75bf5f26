//! Tiny models made in code, whole enough that llama.cpp loads them and answers with finite
//! logits. What keys and tensors an architecture has: `src/models/*.cpp` of llama.cpp.

use std::path::{Path, PathBuf};

use aird::gguf::{Builder, GgmlType, ShardName};

use super::ggml;
use super::random::Random;
use super::vocabulary::Tokenizer;

/// The architectures there are, each here for what the others lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    /// The plain one.
    Llama,
    /// Biases of q, k and v.
    Qwen2,
    /// Norms after the projections as well as before; norms of q and k; scaled embeddings.
    Gemma3,
    /// Norms after the projections only; norms of q and k over all heads.
    Olmo2,
    /// Experts.
    Qwen3Moe,
    /// Gate and up in one matrix; llama.cpp has no name for the stream between a block's halves.
    Phi3,
}

impl Arch {
    /// Those that every verb is tried on.
    pub const ALL: [Arch; 5] =
        [Arch::Llama, Arch::Qwen2, Arch::Gemma3, Arch::Olmo2, Arch::Qwen3Moe];

    /// `general.architecture`.
    pub fn name(self) -> &'static str {
        match self {
            Arch::Llama => "llama",
            Arch::Qwen2 => "qwen2",
            Arch::Gemma3 => "gemma3",
            Arch::Olmo2 => "olmo2",
            Arch::Qwen3Moe => "qwen3moe",
            Arch::Phi3 => "phi3",
        }
    }

    fn tokenizer(self) -> Tokenizer {
        match self {
            Arch::Llama | Arch::Gemma3 | Arch::Phi3 => Tokenizer::Llama,
            Arch::Qwen2 | Arch::Olmo2 | Arch::Qwen3Moe => Tokenizer::Gpt2,
        }
    }
}

/// Types that models are made in: 64 wide for blocks of 32 and less, 256 wide for the others.
pub const TYPES: [GgmlType; 7] = [
    GgmlType::F32,
    GgmlType::F16,
    GgmlType::Q8_0,
    GgmlType::Q4_0,
    GgmlType::Q4_K,
    GgmlType::Q6_K,
    GgmlType::IQ4_XS,
];

/// A tensor before it is encoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Weight {
    pub name: String,
    /// Inputs first.
    pub shape: Vec<u64>,
    pub ty: GgmlType,
    pub values: Vec<f32>,
}

/// A tiny model to be written; the same description makes the same bytes.
#[derive(Debug, Clone)]
pub struct Tiny {
    pub arch: Arch,
    ty: GgmlType,
    seed: u64,
    n_shards: u64,
    n_block: u64,
    tied: bool,
    biased: bool,
    scaled: bool,
    width: u64,
}

pub const N_HEAD: u64 = 4;
pub const N_HEAD_KV: u64 = 2;
pub const N_EXPERT: u64 = 4;

impl Tiny {
    /// Two blocks in F32, embeddings tied where the real models' are.
    pub fn new(arch: Arch) -> Tiny {
        let tied = matches!(arch, Arch::Qwen2 | Arch::Gemma3);
        let (ty, biased, scaled) = (GgmlType::F32, false, false);
        Tiny { arch, ty, seed: 0, n_shards: 1, n_block: 2, tied, biased, scaled, width: 64 }
    }

    /// Type of the matrices; vectors and routers are always F32.
    pub fn ty(self, ty: GgmlType) -> Tiny {
        Tiny { ty, ..self }
    }

    pub fn seed(self, seed: u64) -> Tiny {
        Tiny { seed, ..self }
    }

    /// In how many files.
    pub fn shards(self, n_shards: u64) -> Tiny {
        Tiny { n_shards, ..self }
    }

    pub fn blocks(self, n_block: u64) -> Tiny {
        Tiny { n_block, ..self }
    }

    /// Whether `token_embd` is the output as well. `olmo2` has no such models.
    pub fn tied(self, tied: bool) -> Tiny {
        assert!(!tied || self.arch != Arch::Olmo2, "olmo2 needs an output.weight");
        Tiny { tied, ..self }
    }

    /// Biases on what writes into the residual stream: `llama` alone has such models.
    pub fn biased(self) -> Tiny {
        assert!(self.arch == Arch::Llama, "only llama takes these biases");
        Tiny { biased: true, ..self }
    }

    /// Scales beside what writes into the residual stream, as NVFP4's files have them.
    pub fn scaled(self) -> Tiny {
        Tiny { scaled: true, ..self }
    }

    /// At least so wide, so that k-quants fit.
    pub fn wide(self, width: u64) -> Tiny {
        Tiny { width, ..self }
    }

    /// Width of the residual stream.
    pub fn n_embd(&self) -> u64 {
        self.ty.layout().block_len.max(self.width)
    }

    pub fn n_block(&self) -> u64 {
        self.n_block
    }

    /// Width between the MLP's matrices; of one expert where there are experts.
    pub fn n_ff(&self) -> u64 {
        match (self.arch, self.n_embd()) {
            (Arch::Qwen3Moe, n) => n,
            (_, 64) => 128,
            (_, n) => n,
        }
    }

    /// The file's name; that of the first shard of several.
    pub fn file_name(&self) -> String {
        let stem = format!("tiny-{}-{}", self.arch.name(), self.ty);
        match self.n_shards {
            1 => format!("{stem}.gguf"),
            n => format!("{stem}-00001-of-{n:05}.gguf"),
        }
    }

    /// Writes the model into `folder` and returns the path of its (first) file.
    pub fn write(&self, folder: &Path) -> PathBuf {
        let path = folder.join(self.file_name());
        let weights = self.weights();
        if self.n_shards == 1 {
            let mut file = Builder::new();
            self.keys(&mut file);
            add(&mut file, &weights);
            file.write(&path).unwrap();
            return path;
        }
        let name = ShardName::parse(&path).unwrap();
        let per_shard = weights.len().div_ceil(self.n_shards as usize);
        for (i, weights_here) in weights.chunks(per_shard).enumerate() {
            let mut file = Builder::new();
            if i == 0 {
                self.keys(&mut file);
            }
            file.kv("split.no", i as u16)
                .kv("split.count", self.n_shards as u16)
                .kv("split.tensors.count", weights.len() as i32);
            add(&mut file, weights_here);
            file.write(&name.path(i as u64)).unwrap();
        }
        path
    }

    pub(super) fn keys(&self, file: &mut Builder) {
        let arch = self.arch.name();
        let n_head_dim = self.n_embd() / N_HEAD;
        // llama.cpp looks for the real phi3's special tokens in a model of its name.
        file.kv("general.architecture", arch)
            .kv("general.type", "model")
            .kv("general.name", format!("Tiny {}", arch.replace("phi3", "phi")))
            .kv("general.license", "apache-2.0")
            .kv("general.file_type", file_type(self.ty));
        if self.ty.is_quantized() {
            file.kv("general.quantization_version", 2u32);
        }
        let mut number = |name: &str, n: u64| {
            file.kv(format!("{arch}.{name}"), n as u32);
        };
        number("context_length", 512);
        number("embedding_length", self.n_embd());
        number("block_count", self.n_block);
        number("feed_forward_length", self.n_ff());
        number("attention.head_count", N_HEAD);
        number("attention.head_count_kv", N_HEAD_KV);
        number("attention.key_length", n_head_dim);
        number("attention.value_length", n_head_dim);
        number("rope.dimension_count", n_head_dim);
        match self.arch {
            Arch::Gemma3 => number("attention.sliding_window", 512),
            Arch::Qwen3Moe => {
                number("expert_count", N_EXPERT);
                number("expert_used_count", 2);
                number("expert_feed_forward_length", self.n_ff());
            }
            _ => {}
        }
        file.kv(format!("{arch}.rope.freq_base"), 10_000f32)
            .kv(format!("{arch}.attention.layer_norm_rms_epsilon"), 1e-5f32);
        self.arch.tokenizer().write(file);
    }

    /// Every tensor in the file's order, before it is encoded.
    pub fn weights(&self) -> Vec<Weight> {
        let mut maker = Maker { tiny: self, random: Random::new(self.seed), made: Vec::new() };
        let (n_embd, n_vocab) = (self.n_embd(), self.arch.tokenizer().n_vocab());
        maker.matrix("token_embd.weight", &[n_embd, n_vocab]);
        for block in 0..self.n_block {
            maker.block(block);
        }
        maker.gains("output_norm.weight", n_embd);
        if !self.tied {
            maker.matrix("output.weight", &[n_embd, n_vocab]);
        }
        maker.made
    }
}

fn add(file: &mut Builder, weights: &[Weight]) {
    for w in weights {
        let bytes = ggml::encode(w.ty, &w.values, w.shape[0]);
        file.tensor(&w.name, &w.shape, w.ty, bytes).unwrap();
    }
}

struct Maker<'t> {
    tiny: &'t Tiny,
    random: Random,
    made: Vec<Weight>,
}

impl Maker<'_> {
    /// Rows of length about 1, so that an input of unit size gives outputs of unit size.
    fn matrix(&mut self, name: &str, shape: &[u64]) {
        self.matrix_as(self.tiny.ty, name, shape);
    }

    fn matrix_as(&mut self, ty: GgmlType, name: &str, shape: &[u64]) {
        let scale = 1.0 / (shape[0] as f32).sqrt();
        let values = self.random.normals(shape.iter().product::<u64>() as usize, scale);
        self.made.push(Weight { name: name.into(), shape: shape.to_vec(), ty, values });
    }

    /// A norm's gains, well away from 1: a code that forgets them must be seen to be wrong.
    fn gains(&mut self, name: &str, n: u64) {
        let values = (0..n).map(|_| 1.0 + 0.25 * self.random.normal()).collect();
        self.vector(name, values);
    }

    fn bias(&mut self, name: &str, n: u64) {
        let values = self.random.normals(n as usize, 0.1);
        self.vector(name, values);
    }

    fn vector(&mut self, name: &str, values: Vec<f32>) {
        let shape = vec![values.len() as u64];
        self.made.push(Weight { name: name.into(), shape, ty: GgmlType::F32, values });
    }

    fn block(&mut self, block: u64) {
        let n_embd = self.tiny.n_embd();
        let arch = self.tiny.arch;
        let name = |part: &str| format!("blk.{block}.{part}");
        if arch != Arch::Olmo2 {
            self.gains(&name("attn_norm.weight"), n_embd);
        }
        self.attention(block);
        if matches!(arch, Arch::Gemma3 | Arch::Olmo2) {
            self.gains(&name("post_attention_norm.weight"), n_embd);
        }
        if arch != Arch::Olmo2 {
            self.gains(&name("ffn_norm.weight"), n_embd);
        }
        let n_ff = self.tiny.n_ff();
        if arch == Arch::Qwen3Moe {
            self.matrix_as(GgmlType::F32, &name("ffn_gate_inp.weight"), &[n_embd, N_EXPERT]);
            self.matrix(&name("ffn_gate_exps.weight"), &[n_embd, n_ff, N_EXPERT]);
            self.matrix(&name("ffn_up_exps.weight"), &[n_embd, n_ff, N_EXPERT]);
            self.matrix(&name("ffn_down_exps.weight"), &[n_ff, n_embd, N_EXPERT]);
        } else {
            let n_up = if arch == Arch::Phi3 { 2 * n_ff } else { n_ff };
            if arch != Arch::Phi3 {
                self.matrix(&name("ffn_gate.weight"), &[n_embd, n_ff]);
            }
            self.matrix(&name("ffn_up.weight"), &[n_embd, n_up]);
            self.matrix(&name("ffn_down.weight"), &[n_ff, n_embd]);
        }
        if self.tiny.scaled && arch == Arch::Qwen3Moe {
            self.vector(&name("ffn_down_exps.scale"), vec![0.5, 1.5, 0.75, 2.0]);
        } else if self.tiny.scaled {
            self.vector(&name("ffn_down.scale"), vec![0.6]);
        }
        if self.tiny.biased {
            self.bias(&name("ffn_gate.bias"), n_ff);
            self.bias(&name("ffn_up.bias"), n_ff);
            self.bias(&name("ffn_down.bias"), n_embd);
        }
        if matches!(arch, Arch::Gemma3 | Arch::Olmo2) {
            self.gains(&name("post_ffw_norm.weight"), n_embd);
        }
    }

    fn attention(&mut self, block: u64) {
        let n_embd = self.tiny.n_embd();
        let n_head_dim = n_embd / N_HEAD;
        let n_kv = n_head_dim * N_HEAD_KV;
        let name = |part: &str| format!("blk.{block}.{part}");
        for (part, n_out) in [("attn_q", n_embd), ("attn_k", n_kv), ("attn_v", n_kv)] {
            self.matrix(&name(&format!("{part}.weight")), &[n_embd, n_out]);
            if self.tiny.arch == Arch::Qwen2 {
                self.bias(&name(&format!("{part}.bias")), n_out);
            }
        }
        let (n_q_norm, n_k_norm) = match self.tiny.arch {
            Arch::Gemma3 | Arch::Qwen3Moe => (n_head_dim, n_head_dim),
            Arch::Olmo2 => (n_embd, n_kv),
            Arch::Llama | Arch::Qwen2 | Arch::Phi3 => (0, 0),
        };
        if n_q_norm > 0 {
            self.gains(&name("attn_q_norm.weight"), n_q_norm);
            self.gains(&name("attn_k_norm.weight"), n_k_norm);
        }
        self.matrix(&name("attn_output.weight"), &[n_embd, n_embd]);
        if self.tiny.scaled {
            self.vector(&name("attn_output.scale"), vec![1.7]);
        }
        if self.tiny.biased {
            self.bias(&name("attn_output.bias"), n_embd);
        }
    }
}

/// `llama_ftype` of llama.cpp's `llama.h`.
fn file_type(ty: GgmlType) -> u32 {
    match ty {
        GgmlType::F32 => 0,
        GgmlType::F16 => 1,
        GgmlType::Q4_0 => 2,
        GgmlType::Q4_1 => 3,
        GgmlType::Q8_0 => 7,
        GgmlType::Q2_K => 10,
        GgmlType::Q4_K => 15,
        GgmlType::Q5_K => 17,
        GgmlType::Q6_K => 18,
        GgmlType::IQ4_NL => 25,
        GgmlType::IQ4_XS => 30,
        GgmlType::BF16 => 32,
        other => unimplemented!("no tiny model in {other}"),
    }
}
