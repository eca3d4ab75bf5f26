//! Byte-level BPE: the vocabulary and the merges of `tokenizer.json`.

use serde_json::Value as Json;

use super::files::{Files, TokenType};
use super::pre::pre_tokenizer;
use super::special::special_keys;
use crate::checkpoint::config::Config;
use crate::checkpoint::error::{Error, Result};
use crate::checkpoint::keys::Keys;
use crate::gguf::{Value, ValueType};

/// What byte-level BPE writes for a space.
const SPACE: &str = "\u{120}";

/// Sets the keys of a byte-level BPE tokenizer.
///
/// # Errors
/// `tokenizer.json` is missing, malformed, or of another kind.
pub(super) fn bpe_keys(files: &Files, n_vocab: u64, keys: &mut Keys) -> Result<()> {
    let what = "there is no tokenizer.json".to_owned();
    let tokenizer = files.tokenizer.as_ref().ok_or(Error::NoTokenizer { what })?;
    let path = tokenizer.path().to_owned();
    let model = tokenizer.object("model")?;
    let model = model.ok_or_else(|| tokenizer.missing("model", "the vocabulary and merges"))?;
    check_kind(tokenizer, &model)?;
    let cleans = |config: &Config| config.flag("clean_up_tokenization_spaces");
    let cleans = files.config.as_ref().map_or(Ok(None), cleans)?.unwrap_or(false);
    let pre = pre_tokenizer(tokenizer, &model, cleans)?;
    let (tokens, types) = vocabulary(files, &model, n_vocab)?;
    let merges = merges(files, &model).map_err(|error| error.in_file(&path))?;
    keys.set("tokenizer.ggml.model", "gpt2");
    keys.set("tokenizer.ggml.pre", pre);
    keys.set("tokenizer.ggml.tokens", Value::strings(tokens));
    let types = types.into_iter().map(|ty| Value::I32(ty as i32));
    keys.set("tokenizer.ggml.token_type", Value::array(ValueType::I32, types));
    keys.set("tokenizer.ggml.merges", Value::strings(merges));
    special_keys(files, n_vocab, keys)
}

/// Refuses what llama.cpp's `gpt2` tokenizer does not do.
fn check_kind(tokenizer: &Config, model: &Config) -> Result<()> {
    let wrong = |what: String| Err(Error::Tokenizer { what }.in_file(tokenizer.path()));
    let kind = model.text("type")?.unwrap_or("BPE");
    if kind != "BPE" {
        return wrong(format!("is of the kind {kind}, expected byte-level BPE"));
    }
    if model.flag("byte_fallback")? == Some(true) {
        return wrong("is SentencePiece's BPE, expected byte-level BPE".into());
    }
    for key in ["continuing_subword_prefix", "end_of_word_suffix"] {
        if model.text(key)?.is_some_and(|text| !text.is_empty()) {
            return wrong(format!("marks words by {key}, which llama.cpp does not"));
        }
    }
    // llama.cpp composes no characters, and its converter takes NFC as nothing.
    match tokenizer.get("normalizer").and_then(|n| n.get("type")).and_then(Json::as_str) {
        None | Some("NFC") => Ok(()),
        Some(other) => wrong(format!("has the normalizer {other}, which llama.cpp does not")),
    }
}

/// Every token and its type, by number.
fn vocabulary(
    files: &Files,
    model: &Config,
    n_vocab: u64,
) -> Result<(Vec<String>, Vec<TokenType>)> {
    let expected = "tokens and their numbers";
    let vocab = model.get("vocab").ok_or_else(|| model.missing("vocab", expected))?;
    let wrong = |found: &Json| model.wrong("vocab", found, expected);
    let size = n_vocab as usize;
    let mut tokens: Vec<String> = (0..size).map(|i| format!("[PAD{i}]")).collect();
    let mut types = vec![TokenType::Unused; size];
    let outside = |token: &str, number: u64| {
        let what = format!(
            "gives '{token}' the number {number}, expected less than {n_vocab} \
             (vocab_size of config.json)"
        );
        Error::Tokenizer { what }.in_file(model.path())
    };
    for (token, number) in vocab.as_object().ok_or_else(|| wrong(vocab))? {
        let number = number.as_u64().ok_or_else(|| wrong(number))?;
        let at = Some(number as usize).filter(|at| *at < size);
        let at = at.ok_or_else(|| outside(token, number))?;
        (tokens[at], types[at]) = (token.clone(), TokenType::Normal);
    }
    for (number, added) in files.added()? {
        let at = Some(number as usize).filter(|at| *at < size);
        let at = at.ok_or_else(|| outside(&added.content, number))?;
        (tokens[at], types[at]) = (added.text(), added.token_type());
    }
    Ok((tokens, types))
}

/// The merges, each as two tokens with a space between.
fn merges(files: &Files, model: &Config) -> Result<Vec<String>> {
    let listed = model.list("merges")?;
    let expected = "two tokens";
    let merges = listed.iter().map(|merge| match merge {
        Json::String(text) if text.split(' ').count() == 2 => Ok(text.clone()),
        Json::Array(pair) => match pair.as_slice() {
            [Json::String(a), Json::String(b)] => {
                Ok(format!("{} {}", a.replace(' ', SPACE), b.replace(' ', SPACE)))
            }
            _ => Err(model.wrong("merges", merge, expected)),
        },
        _ => Err(model.wrong("merges", merge, expected)),
    });
    let merges = merges.collect::<Result<Vec<_>>>()?;
    if !merges.is_empty() {
        return Ok(merges);
    }
    let from_file = files.merges.as_ref().map_or(Ok(Vec::new()), |path| {
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|source| Error::Io { path: path.clone(), source })?;
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
        Ok::<_, Error>(lines.map(str::to_owned).collect())
    })?;
    match from_file.is_empty() {
        false => Ok(from_file),
        true => {
            let what = "has no merges, expected those of byte-level BPE".into();
            Err(Error::Tokenizer { what })
        }
    }
}
