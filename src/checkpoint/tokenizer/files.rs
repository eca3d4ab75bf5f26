//! The files of a tokenizer, and the tokens that were added to its vocabulary.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value as Json;

use crate::checkpoint::config::Config;
use crate::checkpoint::error::{Error, Result};
use crate::checkpoint::folder::Checkpoint;

/// `llama_token_type` of llama.cpp's `include/llama.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenType {
    /// A piece of text.
    Normal = 1,
    /// Begins, ends or parts texts: never text itself.
    Control = 3,
    /// Text that is one token whatever stands around it.
    UserDefined = 4,
    /// A number without a token.
    Unused = 5,
}

/// A token that was added to a vocabulary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Added {
    /// Its text.
    pub(super) content: String,
    /// True if it is no text.
    pub(super) special: bool,
}

/// The files of a tokenizer.
#[derive(Debug)]
pub(super) struct Files {
    /// `tokenizer.json`.
    pub(super) tokenizer: Option<Config>,
    /// `tokenizer_config.json`.
    pub(super) config: Option<Config>,
    /// `config.json` of the model.
    pub(super) model: Config,
    /// The chat template where it has a file of its own.
    pub(super) template: Option<Json>,
    /// `merges.txt`.
    pub(super) merges: Option<PathBuf>,
    /// `added_tokens.json`.
    pub(super) added_tokens: Option<PathBuf>,
    /// `tokenizer.model`.
    pub(super) pieces: Option<PathBuf>,
}

impl Files {
    /// Reads them.
    ///
    /// # Errors
    /// A file that is there cannot be read, or is not JSON.
    pub(super) fn read(checkpoint: &Checkpoint) -> Result<Files> {
        let json = |name: &str| -> Result<Option<Config>> {
            checkpoint.file(name)?.map(|path| Config::read(&path)).transpose()
        };
        let template = match checkpoint.file("chat_template.jinja")? {
            Some(path) => {
                let text = std::fs::read_to_string(&path);
                Some(Json::from(text.map_err(|source| Error::Io { path, source })?))
            }
            None => json("chat_template.json")?.and_then(|c| c.get("chat_template").cloned()),
        };
        Ok(Files {
            tokenizer: json("tokenizer.json")?,
            config: json("tokenizer_config.json")?,
            model: checkpoint.config.clone(),
            template,
            merges: checkpoint.file("merges.txt")?,
            added_tokens: checkpoint.file("added_tokens.json")?,
            pieces: checkpoint.file("tokenizer.model")?,
        })
    }

    /// The tokens of `added_tokens.json`, with their numbers.
    ///
    /// # Errors
    /// An entry is no token.
    pub(super) fn added_file(&self) -> Result<Vec<(String, u64)>> {
        let Some(path) = &self.added_tokens else { return Ok(Vec::new()) };
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|source| Error::Io { path: path.clone(), source })?;
        let tokens: BTreeMap<String, u64> =
            serde_json::from_str(&text).map_err(|e| Error::from(e).in_file(path))?;
        Ok(tokens.into_iter().collect())
    }

    /// The tokens that were added, by their numbers.
    ///
    /// # Errors
    /// An entry is no token.
    pub(super) fn added(&self) -> Result<BTreeMap<u64, Added>> {
        let mut added = self.added_by_config()?;
        added.extend(self.added_by_tokenizer()?);
        Ok(added)
    }

    /// The added tokens of `tokenizer.json`, by their numbers.
    ///
    /// # Errors
    /// An entry is no token.
    pub(super) fn added_by_tokenizer(&self) -> Result<BTreeMap<u64, Added>> {
        let mut added = BTreeMap::new();
        if let Some(tokenizer) = &self.tokenizer {
            for token in tokenizer.list("added_tokens")? {
                let wrong = || tokenizer.wrong("added_tokens", token, "a token and its number");
                let number = token.get("id").and_then(Json::as_u64).ok_or_else(wrong)?;
                added.insert(number, added_token(token).ok_or_else(wrong)?);
            }
        }
        Ok(added)
    }

    /// The added tokens of `tokenizer_config.json`, by their numbers.
    ///
    /// # Errors
    /// An entry is no token.
    pub(super) fn added_by_config(&self) -> Result<BTreeMap<u64, Added>> {
        let mut added = BTreeMap::new();
        if let Some(config) = &self.config
            && let Some(decoder) = config.get("added_tokens_decoder")
        {
            let wrong = || config.wrong("added_tokens_decoder", decoder, "tokens by their numbers");
            for (number, token) in decoder.as_object().ok_or_else(wrong)? {
                let number = number.parse().map_err(|_| wrong())?;
                added.insert(number, added_token(token).ok_or_else(wrong)?);
            }
        }
        Ok(added)
    }
}

fn added_token(json: &Json) -> Option<Added> {
    let content = json.get("content")?.as_str()?.to_owned();
    Some(Added { content, special: json.get("special").and_then(Json::as_bool).unwrap_or(false) })
}

impl Added {
    /// Its type. Some models do not mark all tokens as special that are: these have the form
    /// `<|name|>`, or are among a few names.
    pub(super) fn token_type(&self) -> TokenType {
        let text = self.content.as_str();
        let between = |start: &str, end: &str| text.starts_with(start) && text.ends_with(end);
        let looks_special = ["<pad>", "<mask>", "<2mass>", "[@BOS@]"].contains(&text)
            || between("<|", "|>")
            || between("<\u{ff5c}", "\u{ff5c}>")
            || between("<unused", ">");
        match self.special || looks_special {
            true => TokenType::Control,
            false => TokenType::UserDefined,
        }
    }

    /// Its text as llama.cpp takes it: spaces of SentencePiece are spaces in text.
    pub(super) fn text(&self) -> String {
        match self.token_type() {
            TokenType::UserDefined => self.content.replace('\u{2581}', " "),
            _ => self.content.clone(),
        }
    }
}
