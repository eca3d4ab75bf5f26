//! OLMo 2, which has norms after attention and MLP, not before.

use super::llama::WHOLE;
use super::table::{Family, Line, Vocabulary, line, nothing};
use crate::checkpoint::config::Config;
use crate::checkpoint::error::Result;
use crate::checkpoint::keys::{Keys, common, head_lengths};
use crate::checkpoint::sizes::Dim::{Embd, Ff, Kv, Q};
use crate::checkpoint::sizes::Sizes;

/// `Olmo2ForCausalLM`.
pub(super) const OLMO2: Family = Family {
    architecture: "olmo2",
    name: "Olmo2ForCausalLM",
    whole: WHOLE,
    block: BLOCK,
    keys: olmo2_keys,
    extra: nothing,
    vocabulary: Vocabulary::Bpe,
};

const BLOCK: &[Line] = &[
    line("self_attn.q_proj.weight", "attn_q.weight", &[Q, Embd]),
    line("self_attn.k_proj.weight", "attn_k.weight", &[Kv, Embd]),
    line("self_attn.v_proj.weight", "attn_v.weight", &[Kv, Embd]),
    line("self_attn.q_norm.weight", "attn_q_norm.weight", &[Q]),
    line("self_attn.k_norm.weight", "attn_k_norm.weight", &[Kv]),
    line("self_attn.o_proj.weight", "attn_output.weight", &[Embd, Q]),
    line("post_attention_layernorm.weight", "post_attention_norm.weight", &[Embd]),
    line("mlp.gate_proj.weight", "ffn_gate.weight", &[Ff, Embd]),
    line("mlp.up_proj.weight", "ffn_up.weight", &[Ff, Embd]),
    line("mlp.down_proj.weight", "ffn_down.weight", &[Embd, Ff]),
    line("post_feedforward_layernorm.weight", "post_ffw_norm.weight", &[Embd]),
];

fn olmo2_keys(config: &Config, sizes: &Sizes, keys: &mut Keys) -> Result<()> {
    common(config, sizes, keys)?;
    if let Some(length) = sizes.head_dim {
        head_lengths(length, keys);
    }
    Ok(())
}
