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
const PARTS: [(&str, &str); 8] = [
    ("bos", "bos"),
    ("eos", "eos"),
    ("unk", "unknown"),
    ("sep", "seperator"),
    ("pad", "padding"),
    ("cls", "cls"),
    ("mask", "mask"),
    // Only where a post-processor ends texts with another token than the EOS.
    (EOT, EOT),
];
const EOT: &str = "eot";

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
        for (part, _) in PARTS.iter().filter(|(part, _)| *part != EOT) {
            let token = config.get(&format!("{part}_token"));
            let text = token.map(|token| token.get("content").unwrap_or(token));
            if let Some(text) = text.and_then(Json::as_str) {
                tokens.texts.insert(part, text.to_owned());
            }
        }
        for (missing, stands_in) in [("bos", "cls"), ("eos", "sep")] {
            if files.tokenizer.is_some()
                && !tokens.texts.contains_key(missing)
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
            special_of(piece?).filter(|_| single.len() > 1).map(str::to_owned)
        };
        let first = text(single.first());
        if let Some(first) = &first {
            let is_first = |part: &&str| self.texts.get(*part) == Some(first);
            if !["bos", "cls"].iter().any(is_first) {
                for part in ["bos", "cls"] {
                    self.texts.entry(part).or_insert_with(|| first.clone());
                }
            }
            let is_first = |part: &&str| self.texts.get(*part) == Some(first);
            self.adds.insert("bos", ["bos", "cls"].iter().any(is_first));
        }
        let last = text(single.last());
        if let Some(last) = &last {
            if let Some(other) = self.texts.insert("eos", last.clone()).filter(|eos| eos != last) {
                self.texts.insert(EOT, other);
            }
            self.adds.insert("eos", true);
        }
        if let Some(middle) = middle_of_pair(processor, first.as_deref(), last.as_deref()) {
            let parts = |text: &str| {
                ["sep", "eos"].iter().any(|part| self.texts.get(*part).is_some_and(|t| t == text))
            };
            let begins = special_of(&middle[0]).is_some_and(|text| last.is_none() && parts(text));
            let follows = middle.len() == 2 && special_of(&middle[1]).is_some_and(parts);
            self.adds.insert("sep", begins || follows);
        }
    }

    /// The numbers of special tokens: of texts that were added, else those of `config.json`.
    fn ids(&self, files: &Files, n_vocab: u64) -> Result<IndexMap<&'static str, u32>> {
        // The converter looks for their texts in tokenizer.json only.
        let added = files.added_by_tokenizer()?;
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

/// The text of a special token in a template.
fn special_of(piece: &Json) -> Option<&str> {
    let text = piece.get("SpecialToken")?.get("id")?.as_str()?;
    Some(text).filter(|text| !text.is_empty())
}

/// What a template puts between two texts; None if it puts nothing there, or has no such form.
fn middle_of_pair<'j>(
    processor: &'j Json,
    first: Option<&str>,
    last: Option<&str>,
) -> Option<&'j [Json]> {
    let mut pair = processor.get("pair")?.as_array()?.as_slice();
    if first.is_some() && special_of(pair.first()?) == first {
        pair = &pair[1..];
    }
    if last.is_some() && special_of(pair.last()?) == last {
        pair = &pair[..pair.len() - 1];
    }
    let sequence = |piece: &Json| Some(piece.get("Sequence")?.get("id")?.as_str()?.to_owned());
    let [a, middle @ .., b] = pair else { return None };
    let is_pair = sequence(a).as_deref() == Some("A") && sequence(b).as_deref() == Some("B");
    (is_pair && !middle.is_empty()).then_some(middle)
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
