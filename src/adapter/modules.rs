//! The names that transformers gives to the modules of llama-like models, and their order of rows.
//!
//! ```text
//! model.layers.3.self_attn.q_proj      blk.3.attn_q.weight
//! model.layers.3.mlp.down_proj         blk.3.ffn_down.weight
//! ```
//! llama.cpp turns the two halves of a head, as they lie in a checkpoint, into pairs: rows of q
//! and k of the architectures below are permuted (`LlamaModel.permute` of its converter). The rows
//! of a LoRA's B go the same way.

use crate::gguf::{Model, block_of, within_block};

use super::error::{Error, Result};

/// Names within a block: transformers' and the file's.
const IN_BLOCK: [(&str, &str); 9] = [
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.qkv_proj", "attn_qkv"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.gate_up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];
const EMBEDDING: (&str, &str) = ("model.embed_tokens", "token_embd.weight");
const HEAD: (&str, &str) = ("lm_head", "output.weight");
/// Architectures of these names; those of which q and k are permuted.
const PLAIN: [&str; 7] = ["qwen2", "qwen3", "gemma", "gemma2", "gemma3", "olmo2", "phi3"];
const PERMUTED: [&str; 2] = ["llama", "granite"];

/// Checks that PEFT's names of the modules of `model`'s architecture are known.
///
/// # Errors
/// They are not.
pub fn check_modules(model: &Model) -> Result<()> {
    let architecture = model.architecture();
    match PLAIN.contains(&architecture) || PERMUTED.contains(&architecture) {
        true => Ok(()),
        false => Err(Error::PeftArchitecture {
            architecture: architecture.into(),
            known: PERMUTED.iter().chain(&PLAIN).copied().collect::<Vec<_>>().join(", "),
        }),
    }
}

/// The tensor of a module.
pub(super) fn tensor_of(module: &str) -> Option<String> {
    if let Some((_, tensor)) = [EMBEDDING, HEAD].iter().find(|(name, _)| *name == module) {
        return Some((*tensor).into());
    }
    let (block, rest) = module.strip_prefix("model.layers.")?.split_once('.')?;
    let block: u32 = block.parse().ok()?;
    let (_, tensor) = IN_BLOCK.iter().find(|(name, _)| *name == rest)?;
    Some(format!("blk.{block}.{tensor}.weight"))
}

/// The module of a tensor of a model of that architecture.
pub(super) fn module_of(architecture: &str, tensor: &str) -> Option<String> {
    if let Some((module, _)) = [EMBEDDING, HEAD].iter().find(|(_, name)| *name == tensor) {
        return Some((*module).into());
    }
    let kind = within_block(tensor)?.strip_suffix(".weight")?;
    let fused = architecture == "phi3" && kind == "ffn_up";
    let mut named = IN_BLOCK.iter().filter(|(_, name)| *name == kind);
    let (module, _) = if fused { named.next_back() } else { named.next() }?;
    Some(format!("model.layers.{}.{module}", block_of(tensor)?))
}

/// Heads whose rows are permuted, of `tensor` in `model`; None where rows keep their order.
///
/// # Errors
/// The model does not say how many heads it has.
pub(super) fn permuted_heads(model: &Model, tensor: &str) -> Result<Option<usize>> {
    let Some(block) = block_of(tensor).filter(|_| PERMUTED.contains(&model.architecture())) else {
        return Ok(None);
    };
    let n_head = || model.hparam_of_block("attention.head_count", block);
    let n = match within_block(tensor) {
        Some("attn_q.weight") => n_head()?,
        Some("attn_k.weight") => match model.hparam_of_block("attention.head_count_kv", block)? {
            None => n_head()?,
            n => n,
        },
        _ => return Ok(None),
    };
    let missing = || Error::NoHeads { name: tensor.into() };
    n.map(|n| n as usize).filter(|n| *n > 0).ok_or_else(missing).map(Some)
}

/// Where row `row` of a file lies in the checkpoint, of `n_rows` in `n_heads` heads.
pub(super) fn row_in_checkpoint(row: usize, n_rows: usize, n_heads: usize) -> usize {
    let len = n_rows / n_heads;
    let (head, i) = (row / len, row % len);
    // A pair's first is of the first half, its second of the second.
    head * len + i % 2 * (len / 2) + i / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        for (module, tensor) in IN_BLOCK.iter().filter(|(module, _)| !module.contains("gate_up")) {
            let (module, tensor) =
                (format!("model.layers.12.{module}"), format!("blk.12.{tensor}.weight"));
            assert_eq!(tensor_of(&module).as_deref(), Some(tensor.as_str()));
            assert_eq!(module_of("llama", &tensor), Some(module));
        }
        let fused = module_of("phi3", "blk.0.ffn_up.weight").unwrap();
        assert_eq!(fused, "model.layers.0.mlp.gate_up_proj");
        assert_eq!(tensor_of("lm_head").as_deref(), Some("output.weight"));
        assert_eq!(tensor_of("model.layers.x.mlp.up_proj"), None);
        assert_eq!(tensor_of("model.layers.0.mlp.experts.3.up_proj"), None);
    }

    #[test]
    fn halves_of_a_head_become_pairs() {
        // Two heads of four rows: 0 1 | 2 3 become 0 2 1 3.
        let rows: Vec<usize> = (0..8).map(|row| row_in_checkpoint(row, 8, 2)).collect();
        assert_eq!(rows, [0, 2, 1, 3, 4, 6, 5, 7]);
    }
}
