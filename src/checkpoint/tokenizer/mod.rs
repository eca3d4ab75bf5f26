//! The tokenizer of a checkpoint as keys of GGUF.

mod bpe;
mod files;
mod pre;
mod special;
mod spm;

use super::error::{Error, Result};
use super::family::Vocabulary;
use super::folder::Checkpoint;
use super::keys::Keys;
use files::Files;
use spm::{AddedTokens, spm_keys};

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
    let class = files.config.as_ref().map_or(Ok(None), |c| c.text("tokenizer_class"))?;
    // Phi 4 has another tokenizer than Phi 3, and may keep the old one's file.
    let is_bpe = vocabulary == Vocabulary::Phi && class == Some("GPT2Tokenizer");
    let needs_pieces = matches!(vocabulary, Vocabulary::Gemma | Vocabulary::Phi) && !is_bpe;
    let how = match vocabulary {
        Vocabulary::Phi => AddedTokens::AsGiven,
        _ => AddedTokens::Judged,
    };
    match &files.pieces {
        Some(path) if !is_bpe => spm_keys(path, &files, n_vocab, how, keys)?,
        None if needs_pieces => {
            let what = "there is no tokenizer.model".into();
            return Err(Error::NoTokenizer { what }.in_file(&checkpoint.folder));
        }
        _ => bpe::bpe_keys(&files, n_vocab, keys)?,
    }
    if vocabulary == Vocabulary::Gemma {
        keys.set("tokenizer.ggml.add_space_prefix", false);
    }
    if vocabulary == Vocabulary::Llama && n_vocab == WITHOUT_BOS {
        keys.set("tokenizer.ggml.add_bos_token", false);
    }
    Ok(())
}
