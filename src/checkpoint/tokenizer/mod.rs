//! The tokenizer of a checkpoint as keys of GGUF.

mod bpe;
mod files;
mod pre;
mod special;

use super::error::Result;
use super::family::Vocabulary;
use super::folder::Checkpoint;
use super::keys::Keys;
use files::Files;

/// The vocabulary of the small SmolLM and Granite models, which begin without a BOS.
const WITHOUT_BOS: u64 = 49_152;

/// Sets all keys of the tokenizer, `tokenizer.*`.
///
/// # Errors
/// A file is missing or malformed, or llama.cpp has no such tokenizer.
pub(super) fn tokenizer_keys(
    checkpoint: &Checkpoint,
    vocabulary: Vocabulary,
    n_vocab: u64,
    keys: &mut Keys,
) -> Result<()> {
    let files = Files::read(checkpoint)?;
    if vocabulary == Vocabulary::Llama
        && let Some(config) = &files.config
        && let Some(add) = config.flag("add_prefix_space")?
    {
        keys.set("tokenizer.ggml.add_space_prefix", add);
    }
    bpe::bpe_keys(&files, n_vocab, keys)?;
    if vocabulary == Vocabulary::Llama && n_vocab == WITHOUT_BOS {
        keys.set("tokenizer.ggml.add_bos_token", false);
    }
    Ok(())
}
