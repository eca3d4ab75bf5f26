//! Gemma 2 and 3, text only. Their norms multiply by 1 + weight, llama.cpp's by the weight.

use super::table::{Family, How, Line, Vocabulary, line, nothing};
use crate::checkpoint::config::Config;
use crate::checkpoint::error::{Error, Result};
use crate::checkpoint::keys::{Keys, Rope, common, head_lengths};
use crate::checkpoint::sizes::Dim::{Embd, Ff, Head, Kv, Q, Vocab};
use crate::checkpoint::sizes::Sizes;

/// `Gemma2ForCausalLM`.
pub(super) const GEMMA2: Family = Family {
    architecture: "gemma2",
    name: "Gemma2ForCausalLM",
    whole: WHOLE,
    block: GEMMA2_BLOCK,
    keys: gemma2_keys,
    extra: nothing,
    vocabulary: Vocabulary::Gemma,
};

/// `Gemma3ForCausalLM`: the models without pictures.
pub(super) const GEMMA3: Family = Family {
    architecture: "gemma3",
    name: "Gemma3ForCausalLM",
    whole: WHOLE,
    block: GEMMA3_BLOCK,
    keys: gemma3_keys,
    extra: nothing,
    vocabulary: Vocabulary::Gemma,
};

/// The output is the embedding: there is no `lm_head`.
const WHOLE: &[Line] = &[
    line("model.embed_tokens.weight", "token_embd.weight", &[Vocab, Embd]),
    line("model.norm.weight", "output_norm.weight", &[Embd]).how(How::PlusOne),
];

const GEMMA2_BLOCK: &[Line] = &[
    line("input_layernorm.weight", "attn_norm.weight", &[Embd]).how(How::PlusOne),
    line("self_attn.q_proj.weight", "attn_q.weight", &[Q, Embd]),
    line("self_attn.k_proj.weight", "attn_k.weight", &[Kv, Embd]),
    line("self_attn.v_proj.weight", "attn_v.weight", &[Kv, Embd]),
    line("self_attn.o_proj.weight", "attn_output.weight", &[Embd, Q]),
    line("post_attention_layernorm.weight", "post_attention_norm.weight", &[Embd])
        .how(How::PlusOne),
    line("pre_feedforward_layernorm.weight", "ffn_norm.weight", &[Embd]).how(How::PlusOne),
    line("post_feedforward_layernorm.weight", "post_ffw_norm.weight", &[Embd]).how(How::PlusOne),
    line("mlp.gate_proj.weight", "ffn_gate.weight", &[Ff, Embd]),
    line("mlp.up_proj.weight", "ffn_up.weight", &[Ff, Embd]),
    line("mlp.down_proj.weight", "ffn_down.weight", &[Embd, Ff]),
];

const GEMMA3_BLOCK: &[Line] = &[
    line("input_layernorm.weight", "attn_norm.weight", &[Embd]).how(How::PlusOne),
    line("self_attn.q_proj.weight", "attn_q.weight", &[Q, Embd]),
    line("self_attn.k_proj.weight", "attn_k.weight", &[Kv, Embd]),
    line("self_attn.v_proj.weight", "attn_v.weight", &[Kv, Embd]),
    line("self_attn.q_norm.weight", "attn_q_norm.weight", &[Head]).how(How::PlusOne),
    line("self_attn.k_norm.weight", "attn_k_norm.weight", &[Head]).how(How::PlusOne),
    line("self_attn.o_proj.weight", "attn_output.weight", &[Embd, Q]),
    line("post_attention_layernorm.weight", "post_attention_norm.weight", &[Embd])
        .how(How::PlusOne),
    line("pre_feedforward_layernorm.weight", "ffn_norm.weight", &[Embd]).how(How::PlusOne),
    line("post_feedforward_layernorm.weight", "post_ffw_norm.weight", &[Embd]).how(How::PlusOne),
    line("mlp.gate_proj.weight", "ffn_gate.weight", &[Ff, Embd]),
    line("mlp.up_proj.weight", "ffn_up.weight", &[Ff, Embd]),
    line("mlp.down_proj.weight", "ffn_down.weight", &[Embd, Ff]),
];

fn gemma2_keys(config: &Config, sizes: &Sizes, keys: &mut Keys) -> Result<()> {
    keys.count("context_length", config.needed("max_position_embeddings")?);
    keys.count("embedding_length", sizes.n_embd);
    keys.count("block_count", sizes.n_block);
    keys.count("feed_forward_length", sizes.n_ff);
    keys.count("attention.head_count", sizes.n_head);
    keys.count("attention.head_count_kv", sizes.n_head_kv);
    keys.number("attention.layer_norm_rms_epsilon", config.needed_number("rms_norm_eps")?);
    head_lengths(own_head(config, sizes)?, keys);
    for name in ["attn_logit_softcapping", "final_logit_softcapping"] {
        keys.number(name, config.needed_number(name)?);
    }
    keys.count("attention.sliding_window", config.needed("sliding_window")?);
    Ok(())
}

fn gemma3_keys(config: &Config, sizes: &Sizes, keys: &mut Keys) -> Result<()> {
    let length = own_head(config, sizes)?;
    if config.get("attn_logit_softcapping").is_some() {
        let what = "attention's logits are capped (attn_logit_softcapping)".into();
        return Err(Error::Unsupported { what }.in_file(config.path()));
    }
    // The other default of this family: see Rope::of.
    if config.get("rope_theta").is_none() && Rope::of(config)?.parameters.is_none() {
        return Err(config.missing("rope_theta", "a number"));
    }
    common(config, sizes, keys)?;
    let newer = config.object("rope_parameters")?;
    let sliding = newer.map(|rope| rope.object("sliding_attention")).transpose()?.flatten();
    let local = match sliding {
        Some(sliding) => sliding.number("rope_theta")?,
        None => config.number("rope_local_base_freq")?,
    };
    keys.number("rope.freq_base_swa", local.unwrap_or(10_000.0));
    head_lengths(length, keys);
    if let Some(cap) = config.number("final_logit_softcapping")? {
        keys.number("final_logit_softcapping", cap);
    }
    keys.count("attention.sliding_window", config.needed("sliding_window")?);
    Ok(())
}

/// The length of a head, which these models do not compute from other sizes.
fn own_head(config: &Config, sizes: &Sizes) -> Result<u64> {
    sizes.head_dim.ok_or_else(|| config.missing("head_dim", "the length of a head"))
}
