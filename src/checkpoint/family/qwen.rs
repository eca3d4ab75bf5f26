//! Qwen 2 and 3.

use super::llama::WHOLE;
use super::table::{Family, Line, Vocabulary, line, nothing};
use crate::checkpoint::config::Config;
use crate::checkpoint::error::Result;
use crate::checkpoint::keys::{Keys, common, head_lengths};
use crate::checkpoint::sizes::Dim::{Embd, Ff, Kv, Q};
use crate::checkpoint::sizes::Sizes;

/// `Qwen2ForCausalLM`: Qwen 1.5, 2, 2.5.
pub(super) const QWEN2: Family = Family {
    architecture: "qwen2",
    name: "Qwen2ForCausalLM",
    whole: WHOLE,
    block: QWEN2_BLOCK,
    keys: qwen_keys,
    extra: nothing,
    vocabulary: Vocabulary::Bpe,
};

const QWEN2_BLOCK: &[Line] = &[
    line("input_layernorm.weight", "attn_norm.weight", &[Embd]),
    line("self_attn.q_proj.weight", "attn_q.weight", &[Q, Embd]),
    line("self_attn.k_proj.weight", "attn_k.weight", &[Kv, Embd]),
    line("self_attn.v_proj.weight", "attn_v.weight", &[Kv, Embd]),
    line("self_attn.q_proj.bias", "attn_q.bias", &[Q]),
    line("self_attn.k_proj.bias", "attn_k.bias", &[Kv]),
    line("self_attn.v_proj.bias", "attn_v.bias", &[Kv]),
    line("self_attn.o_proj.weight", "attn_output.weight", &[Embd, Q]),
    line("post_attention_layernorm.weight", "ffn_norm.weight", &[Embd]),
    line("mlp.gate_proj.weight", "ffn_gate.weight", &[Ff, Embd]),
    line("mlp.up_proj.weight", "ffn_up.weight", &[Ff, Embd]),
    line("mlp.down_proj.weight", "ffn_down.weight", &[Embd, Ff]),
];

fn qwen_keys(config: &Config, sizes: &Sizes, keys: &mut Keys) -> Result<()> {
    common(config, sizes, keys)?;
    if let Some(length) = sizes.head_dim {
        head_lengths(length, keys);
    }
    Ok(())
}
