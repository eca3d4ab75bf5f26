//! Granite 3: llama with four multipliers.

use super::llama::{BLOCK, WHOLE, llama_tail};
use super::table::{Family, Vocabulary, nothing};
use crate::checkpoint::config::Config;
use crate::checkpoint::error::{Error, Result};
use crate::checkpoint::keys::{Keys, common};
use crate::checkpoint::sizes::Sizes;

/// `GraniteForCausalLM`.
pub(super) const GRANITE: Family = Family {
    architecture: "granite",
    name: "GraniteForCausalLM",
    whole: WHOLE,
    block: BLOCK,
    keys: granite_keys,
    extra: nothing,
    vocabulary: Vocabulary::Llama,
};

/// The multipliers: their keys in `config.json`, and in GGUF.
const MULTIPLIERS: [(&str, &str); 4] = [
    ("attention_multiplier", "attention.scale"),
    ("embedding_multiplier", "embedding_scale"),
    ("residual_multiplier", "residual_scale"),
    ("logits_scaling", "logit_scale"),
];

fn granite_keys(config: &Config, sizes: &Sizes, keys: &mut Keys) -> Result<()> {
    if sizes.head_length * sizes.n_head != sizes.n_embd {
        let what = "heads have a length of their own (head_dim)".into();
        return Err(Error::Unsupported { what }.in_file(config.path()));
    }
    common(config, sizes, keys)?;
    llama_tail(sizes, keys);
    for (theirs, ours) in MULTIPLIERS {
        let multiplier = config.number(theirs)?.unwrap_or(1.0);
        if multiplier != 0.0 {
            keys.number(ours, multiplier);
        }
    }
    Ok(())
}
