//! Llama and what has its graph: SmolLM, TinyLlama, Mistral 7B.

use super::table::{Extra, Family, How, Line, Vocabulary, line, nothing};
use crate::checkpoint::config::Config;
use crate::checkpoint::error::Result;
use crate::checkpoint::keys::{Keys, Rope, common, head_lengths};
use crate::checkpoint::sizes::Dim::{Embd, Ff, Kv, Q, Vocab};
use crate::checkpoint::sizes::Sizes;

/// `LlamaForCausalLM`: Llama 1, 2, 3, SmolLM.
pub(super) const LLAMA: Family = Family {
    architecture: "llama",
    name: "LlamaForCausalLM",
    whole: WHOLE,
    block: BLOCK,
    keys: llama_keys,
    extra: rope_factors,
    vocabulary: Vocabulary::Llama,
};

/// `MistralForCausalLM`. llama.cpp runs it as `llama`, without its sliding window.
pub(super) const MISTRAL: Family = Family {
    architecture: "llama",
    name: "MistralForCausalLM",
    whole: WHOLE,
    block: BLOCK,
    keys: mistral_keys,
    extra: nothing,
    vocabulary: Vocabulary::Llama,
};

/// Tensors that llama and most families have outside blocks.
pub(super) const WHOLE: &[Line] = &[
    line("model.embed_tokens.weight", "token_embd.weight", &[Vocab, Embd]),
    line("model.norm.weight", "output_norm.weight", &[Embd]),
    line("lm_head.weight", "output.weight", &[Vocab, Embd]).optional(),
];

/// Tensors of a block of llama's graph.
pub(super) const BLOCK: &[Line] = &[
    line("input_layernorm.weight", "attn_norm.weight", &[Embd]),
    line("self_attn.q_proj.weight", "attn_q.weight", &[Q, Embd]).how(How::InterleaveQ),
    line("self_attn.k_proj.weight", "attn_k.weight", &[Kv, Embd]).how(How::InterleaveK),
    line("self_attn.v_proj.weight", "attn_v.weight", &[Kv, Embd]),
    line("self_attn.o_proj.weight", "attn_output.weight", &[Embd, Q]),
    line("self_attn.q_proj.bias", "attn_q.bias", &[Q]).how(How::InterleaveQ).optional(),
    line("self_attn.k_proj.bias", "attn_k.bias", &[Kv]).how(How::InterleaveK).optional(),
    line("self_attn.v_proj.bias", "attn_v.bias", &[Kv]).optional(),
    line("self_attn.o_proj.bias", "attn_output.bias", &[Embd]).optional(),
    line("post_attention_layernorm.weight", "ffn_norm.weight", &[Embd]),
    line("mlp.gate_proj.weight", "ffn_gate.weight", &[Ff, Embd]),
    line("mlp.up_proj.weight", "ffn_up.weight", &[Ff, Embd]),
    line("mlp.down_proj.weight", "ffn_down.weight", &[Embd, Ff]),
    line("mlp.gate_proj.bias", "ffn_gate.bias", &[Ff]).optional(),
    line("mlp.up_proj.bias", "ffn_up.bias", &[Ff]).optional(),
    line("mlp.down_proj.bias", "ffn_down.bias", &[Embd]).optional(),
];

fn llama_keys(config: &Config, sizes: &Sizes, keys: &mut Keys) -> Result<()> {
    common(config, sizes, keys)?;
    // transformers computes head_dim where config.json has none.
    head_lengths(sizes.head_length, keys);
    llama_tail(sizes, keys);
    Ok(())
}

fn mistral_keys(config: &Config, sizes: &Sizes, keys: &mut Keys) -> Result<()> {
    common(config, sizes, keys)?;
    if let Some(length) = sizes.head_dim {
        head_lengths(length, keys);
    }
    llama_tail(sizes, keys);
    Ok(())
}

/// What comes after the common keys.
pub(super) fn llama_tail(sizes: &Sizes, keys: &mut Keys) {
    keys.count("vocab_size", sizes.n_vocab);
    keys.count("rope.dimension_count", sizes.head_length);
}

/// Llama 3.1's factors of each frequency: 1 for short waves, `factor` for those longer than the
/// original context, and smooth between.
fn rope_factors(config: &Config, sizes: &Sizes) -> Result<Vec<Extra>> {
    let rope = Rope::of(config)?;
    if rope.kind.as_deref() != Some("llama3") {
        return Ok(Vec::new());
    }
    let factor = rope.number("factor")?.unwrap_or(8.0);
    let low = rope.number("low_freq_factor")?.unwrap_or(1.0);
    let high = rope.number("high_freq_factor")?.unwrap_or(4.0);
    let context = rope.number("original_max_position_embeddings")?.unwrap_or(8192.0);
    let one = |i: u64| {
        // In f32, as the converter computes it with PyTorch.
        let exponent = (2 * i) as f32 / sizes.head_length as f32;
        let frequency = 1.0 / (rope.theta.powf(f64::from(exponent)) as f32);
        let wave = (2.0 * std::f64::consts::PI) as f32 / frequency;
        if wave < (context / high) as f32 {
            return 1.0;
        }
        if wave > (context / low) as f32 {
            return factor as f32;
        }
        let smooth = (context as f32 / wave - low as f32) / (high - low) as f32;
        1.0 / ((1.0 - smooth) / factor as f32 + smooth)
    };
    let values = (0..sizes.head_length / 2).map(one).collect();
    Ok(vec![Extra { name: "rope_freqs.weight", values }])
}
