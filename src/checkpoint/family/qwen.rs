//! Qwen 2 and 3, with and without experts.

use super::llama::WHOLE;
use super::table::{Family, How, Line, Vocabulary, line, nothing};
use crate::checkpoint::config::Config;
use crate::checkpoint::error::{Error, Result};
use crate::checkpoint::keys::{Keys, common, head_lengths};
use crate::checkpoint::sizes::Dim::{Embd, Expert, ExpertFf, Ff, Head, Kv, Q};
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

/// `Qwen3ForCausalLM`.
pub(super) const QWEN3: Family = Family {
    architecture: "qwen3",
    name: "Qwen3ForCausalLM",
    whole: WHOLE,
    block: QWEN3_BLOCK,
    keys: qwen3_keys,
    extra: nothing,
    vocabulary: Vocabulary::Bpe,
};

/// `Qwen3MoeForCausalLM`: experts in every block.
pub(super) const QWEN3_MOE: Family = Family {
    architecture: "qwen3moe",
    name: "Qwen3MoeForCausalLM",
    whole: WHOLE,
    block: QWEN3_MOE_BLOCK,
    keys: qwen3_moe_keys,
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

const QWEN3_BLOCK: &[Line] = &[
    line("input_layernorm.weight", "attn_norm.weight", &[Embd]),
    line("self_attn.q_proj.weight", "attn_q.weight", &[Q, Embd]),
    line("self_attn.k_proj.weight", "attn_k.weight", &[Kv, Embd]),
    line("self_attn.v_proj.weight", "attn_v.weight", &[Kv, Embd]),
    line("self_attn.q_norm.weight", "attn_q_norm.weight", &[Head]),
    line("self_attn.k_norm.weight", "attn_k_norm.weight", &[Head]),
    line("self_attn.o_proj.weight", "attn_output.weight", &[Embd, Q]),
    line("post_attention_layernorm.weight", "ffn_norm.weight", &[Embd]),
    line("mlp.gate_proj.weight", "ffn_gate.weight", &[Ff, Embd]),
    line("mlp.up_proj.weight", "ffn_up.weight", &[Ff, Embd]),
    line("mlp.down_proj.weight", "ffn_down.weight", &[Embd, Ff]),
];

const QWEN3_MOE_BLOCK: &[Line] = &[
    line("input_layernorm.weight", "attn_norm.weight", &[Embd]),
    line("self_attn.q_proj.weight", "attn_q.weight", &[Q, Embd]),
    line("self_attn.k_proj.weight", "attn_k.weight", &[Kv, Embd]),
    line("self_attn.v_proj.weight", "attn_v.weight", &[Kv, Embd]),
    line("self_attn.q_norm.weight", "attn_q_norm.weight", &[Head]),
    line("self_attn.k_norm.weight", "attn_k_norm.weight", &[Head]),
    line("self_attn.o_proj.weight", "attn_output.weight", &[Embd, Q]),
    line("post_attention_layernorm.weight", "ffn_norm.weight", &[Embd]),
    line("mlp.gate.weight", "ffn_gate_inp.weight", &[Expert, Embd]),
    line("mlp.experts.*.down_proj.weight", "ffn_down_exps.weight", &[Embd, ExpertFf])
        .how(How::Stack),
    line("mlp.experts.*.gate_proj.weight", "ffn_gate_exps.weight", &[ExpertFf, Embd])
        .how(How::Stack),
    line("mlp.experts.*.up_proj.weight", "ffn_up_exps.weight", &[ExpertFf, Embd]).how(How::Stack),
];

fn qwen_keys(config: &Config, sizes: &Sizes, keys: &mut Keys) -> Result<()> {
    common(config, sizes, keys)?;
    if let Some(length) = sizes.head_dim {
        head_lengths(length, keys);
    }
    Ok(())
}

fn qwen3_keys(config: &Config, sizes: &Sizes, keys: &mut Keys) -> Result<()> {
    if sizes.head_dim.is_none() {
        // transformers would take 128, whatever the heads are.
        return Err(config.missing("head_dim", "the length of a head"));
    }
    qwen_keys(config, sizes, keys)
}

fn qwen3_moe_keys(config: &Config, sizes: &Sizes, keys: &mut Keys) -> Result<()> {
    if sizes.n_expert == 0 {
        return Err(config.missing("num_experts", "the number of experts"));
    }
    let dense = config.list("mlp_only_layers")?;
    if !dense.is_empty() || config.count("decoder_sparse_step")?.unwrap_or(1) != 1 {
        let what = "some blocks have no experts (mlp_only_layers, decoder_sparse_step)".into();
        return Err(Error::Unsupported { what }.in_file(config.path()));
    }
    qwen_keys(config, sizes, keys)?;
    keys.count("expert_feed_forward_length", sizes.n_expert_ff);
    Ok(())
}
