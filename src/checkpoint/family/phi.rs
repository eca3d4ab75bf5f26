//! Phi 3 and 4: queries, keys and values in one matrix, gate and up in another. llama.cpp keeps
//! them so.

use super::llama::WHOLE;
use super::table::{Extra, Family, Line, Vocabulary, line};
use crate::checkpoint::config::Config;
use crate::checkpoint::error::{Error, Result};
use crate::checkpoint::keys::{Keys, Rope};
use crate::checkpoint::sizes::Dim::{Embd, Ff, Q, Qkv, TwoFf};
use crate::checkpoint::sizes::Sizes;

/// `Phi3ForCausalLM`: Phi 3, 3.5, 4.
pub(super) const PHI3: Family = Family {
    architecture: "phi3",
    name: "Phi3ForCausalLM",
    whole: WHOLE,
    block: BLOCK,
    keys: phi3_keys,
    extra: long_factors,
    vocabulary: Vocabulary::Phi,
};

const BLOCK: &[Line] = &[
    line("input_layernorm.weight", "attn_norm.weight", &[Embd]),
    line("self_attn.qkv_proj.weight", "attn_qkv.weight", &[Qkv, Embd]),
    line("self_attn.o_proj.weight", "attn_output.weight", &[Embd, Q]),
    line("post_attention_layernorm.weight", "ffn_norm.weight", &[Embd]),
    line("mlp.gate_up_proj.weight", "ffn_up.weight", &[TwoFf, Embd]),
    line("mlp.down_proj.weight", "ffn_down.weight", &[Embd, Ff]),
];

fn phi3_keys(config: &Config, sizes: &Sizes, keys: &mut Keys) -> Result<()> {
    let context = config.needed("max_position_embeddings")?;
    let rope = Rope::of(config)?;
    let original = original_context(config, &rope)?;
    keys.count("context_length", context);
    keys.count("rope.scaling.original_context_length", original);
    keys.count("embedding_length", sizes.n_embd);
    keys.count("feed_forward_length", sizes.n_ff);
    keys.count("block_count", sizes.n_block);
    keys.count("attention.head_count", sizes.n_head);
    keys.count("attention.head_count_kv", sizes.n_head_kv);
    keys.number("attention.layer_norm_rms_epsilon", config.needed_number("rms_norm_eps")?);
    keys.count("rope.dimension_count", rotated(config, &rope, sizes)?);
    keys.number("rope.freq_base", rope.theta);
    // 0 tells Phi 4 from the others.
    keys.count("attention.sliding_window", config.count("sliding_window")?.unwrap_or(0));
    if rope.kind.is_some() {
        keys.number("rope.scaling.attn_factor", attention_factor(config, &rope)?);
    }
    Ok(())
}

/// The context that the model was trained for before it was made longer.
fn original_context(config: &Config, rope: &Rope) -> Result<u64> {
    match rope.number("original_max_position_embeddings")? {
        Some(original) => Ok(original as u64),
        None => Ok(config.count("original_max_position_embeddings")?.unwrap_or(4096)),
    }
}

/// How many elements of a head are rotated.
fn rotated(config: &Config, rope: &Rope, sizes: &Sizes) -> Result<u64> {
    let own = config.number("partial_rotary_factor")?;
    let share = rope.number("partial_rotary_factor")?.or(own).unwrap_or(1.0);
    Ok((share * sizes.n_embd as f64) as u64 / sizes.n_head)
}

/// What attention is multiplied by in a longer context.
fn attention_factor(config: &Config, rope: &Rope) -> Result<f64> {
    let original = original_context(config, rope)? as f64;
    let scale = config.needed("max_position_embeddings")? as f64 / original;
    match rope.kind.as_deref() {
        Some("longrope" | "su") if scale > 1.0 => Ok((1.0 + scale.ln() / original.ln()).sqrt()),
        Some("yarn") if scale > 1.0 => Ok(0.1 * scale.ln() + 1.0),
        Some("longrope" | "su" | "yarn") => Ok(1.0),
        other => {
            let what =
                format!("the positions are scaled by '{}' (rope_scaling)", other.unwrap_or(""));
            Err(Error::Unsupported { what }.in_file(config.path()))
        }
    }
}

/// The factors of frequencies in long and in short contexts.
fn long_factors(config: &Config, sizes: &Sizes) -> Result<Vec<Extra>> {
    let rope = Rope::of(config)?;
    let (Some(parameters), Some(_)) = (&rope.parameters, &rope.kind) else {
        return Ok(Vec::new());
    };
    let n = rotated(config, &rope, sizes)? / 2;
    let factors = |key: &'static str, name: &'static str| {
        let expected = "a list of numbers, one for each pair of a head's rotated elements";
        let values = parameters.numbers(key)?.ok_or_else(|| parameters.missing(key, expected))?;
        if values.len() as u64 != n {
            let found = parameters.get(key).cloned().unwrap_or_default();
            return Err(parameters.wrong(key, &found, expected));
        }
        Ok(Extra { name, values: values.into_iter().map(|x| x as f32).collect() })
    };
    Ok(vec![
        factors("long_factor", "rope_factors_long.weight")?,
        factors("short_factor", "rope_factors_short.weight")?,
    ])
}
