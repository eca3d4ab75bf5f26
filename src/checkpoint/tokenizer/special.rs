//! Tokens with a part to play (the first of a text, the last, padding), whether texts get them, and
//! the chat template.
//!
//! What `tokenizer_config.json` says goes before `config.json`; the post-processor of
//! `tokenizer.json` goes before both where it puts tokens around a text. These are the rules of
//! llama.cpp's `gguf-py/gguf/vocab.py`.

use indexmap::IndexMap;
use serde_json::Value as Json;

use super::files::Files;
use crate::checkpoint::error::Result;
use crate::checkpoint::keys::Keys;
use crate::gguf::Value;

/// The parts, and what GGUF calls them.
const PARTS: [(&str, &str); 7] = [
    ("bos", "bos"),
    ("eos", "eos"),
    ("unk", "unknown"),
    ("sep", "seperator"),
    ("pad", "padding"),
    ("cls", "cls"),
    ("mask", "mask"),
];

/// Sets the keys of special tokens and of the chat template.
///
/// # Errors
/// A file has another form than `transformers` writes.
pub(super) fn special_keys(files: &Files, n_vocab: u64, keys: &mut Keys) -> Result<()> {
    let mut tokens = Tokens::of(files)?;
    tokens.around(files);
    let ids = tokens.ids(files, n_vocab)?;
    for (part, id) in &ids {
        keys.set(&format!("tokenizer.ggml.{part}_token_id"), *id);
    }
    for (part, add) in &tokens.adds {
        keys.set(&format!("tokenizer.ggml.add_{part}_token"), *add);
    }
    template(files, keys)
}

/// The texts of special tokens by part, and which are put around texts.
#[derive(Debug, Default)]
struct Tokens {
    texts: IndexMap<&'static str, String>,
    adds: IndexMap<&'static str, bool>,
}

impl Tokens {
    /// Those of `tokenizer_config.json`.
    fn of(files: &Files) -> Result<Tokens> {
        let mut tokens = Tokens::default();
        let Some(config) = &files.config else { return Ok(tokens) };
        for (part, _) in PARTS {
            let token = config.get(&format!("{part}_token"));
            let text = token.map(|token| token.get("content").unwrap_or(token));
            if let Some(text) = text.and_then(Json::as_str) {
                tokens.texts.insert(part, text.to_owned());
            }
        }
        for (missing, stands_in) in [("bos", "cls"), ("eos", "sep")] {
            if !tokens.texts.contains_key(missing)
                && let Some(text) = tokens.texts.get(stands_in).cloned()
            {
                tokens.texts.insert(missing, text);
            }
        }
        Ok(tokens)
    }

    /// What the post-processor puts around a text, then what `add_bos_token` and its like say.
    fn around(&mut self, files: &Files) {
        let processor = files.tokenizer.as_ref().and_then(|t| t.get("post_processor"));
        let one = processor.map(std::slice::from_ref).unwrap_or_default();
        let several = processor.and_then(|p| p.get("processors")).and_then(Json::as_array);
        for processor in several.map_or(one, Vec::as_slice) {
            match processor.get("type").and_then(Json::as_str) {
                Some("ByteLevel") => {
                    self.adds.entry("bos").or_insert(false);
                    self.adds.entry("eos").or_insert(false);
                }
                Some("TemplateProcessing") => self.around_template(processor),
                _ => {}
            }
        }
        let Some(config) = &files.config else { return };
        for (part, _) in PARTS {
            if let Some(add) = config.get(&format!("add_{part}_token")).and_then(Json::as_bool) {
                self.adds.entry(part).or_insert(add);
            }
        }
    }

    /// The first and the last token of a template.
    fn around_template(&mut self, processor: &Json) {
        let single = processor.get("single").and_then(Json::as_array);
        let single = single.map(Vec::as_slice).unwrap_or_default();
        let text = |piece: Option<&Json>| {
            let special = piece?.get("SpecialToken")?.get("id")?.as_str()?;
            (!special.is_empty() && single.len() > 1).then(|| special.to_owned())
        };
        if let Some(first) = text(single.first()) {
            for part in ["bos", "cls"] {
                self.texts.entry(part).or_insert_with(|| first.clone());
            }
            let known = ["bos", "cls"].iter().any(|part| self.texts.get(*part) == Some(&first));
            self.adds.insert("bos", known);
        }
        if let Some(last) = text(single.last()) {
            let known = self.texts.entry("eos").or_insert_with(|| last.clone()) == &last;
            self.adds.insert("eos", known);
        }
    }

    /// The numbers of special tokens: of texts that were added, else those of `config.json`.
    fn ids(&self, files: &Files, n_vocab: u64) -> Result<IndexMap<&'static str, u32>> {
        let added = files.added()?;
        let mut ids = IndexMap::new();
        let fits = |id: u64| u32::try_from(id).ok().filter(|_| id < n_vocab);
        for (part, name) in PARTS {
            let Some(text) = self.texts.get(part) else { continue };
            let found = added.iter().find(|(_, token)| token.content == *text);
            if let Some(id) = found.and_then(|(id, _)| fits(*id)) {
                ids.insert(name, id);
            }
        }
        for (part, name) in PARTS {
            let id = files.model.get(&format!("{part}_token_id")).and_then(Json::as_u64);
            if let Some(id) = id.and_then(fits) {
                ids.entry(name).or_insert(id);
            }
        }
        Ok(ids)
    }
}

/// The chat template, or several by name. It is read only beside a `tokenizer_config.json`.
fn template(files: &Files, keys: &mut Keys) -> Result<()> {
    const KEY: &str = "tokenizer.chat_template";
    let Some(config) = &files.config else { return Ok(()) };
    let Some(json) = config.get("chat_template").or(files.template.as_ref()) else {
        return Ok(());
    };
    let expected = "a text, or a list of names and templates";
    let wrong = |found: &Json| config.wrong("chat_template", found, expected);
    let Some(list) = json.as_array() else {
        keys.set(KEY, json.as_str().ok_or_else(|| wrong(json))?);
        return Ok(());
    };
    let mut names = Vec::new();
    for entry in list {
        let text = |key: &str| entry.get(key).and_then(Json::as_str);
        let (name, text) = text("name").zip(text("template")).ok_or_else(|| wrong(entry))?;
        if name == "default" {
            keys.set(KEY, text);
            continue;
        }
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let name: String = name.chars().map(plain).collect();
        keys.set(&format!("{KEY}.{name}"), text);
        names.push(name);
    }
    if !names.is_empty() {
        keys.set("tokenizer.chat_templates", Value::strings(names));
    }
    Ok(())
}
