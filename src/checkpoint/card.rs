//! The front matter of a model card: the YAML at the beginning of `README.md`.
//!
//! Only what cards use at the top level is read: a text, or a list of texts. Nested parts, such as
//! `model-index`, are skipped.

use std::path::Path;

use indexmap::IndexMap;

use super::error::{Error, Result};

/// The line before and after the front matter.
const FENCE: &str = "---";

/// The front matter by key: one value, or several of a list.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Card {
    fields: IndexMap<String, Vec<String>>,
}

impl Card {
    /// Reads the front matter of a file; empty if it has none.
    pub(super) fn read(path: &Path) -> Result<Card> {
        let text = std::fs::read(path).map_err(|source| Error::Io { path: path.into(), source })?;
        Ok(Card::parse(&String::from_utf8_lossy(&text)))
    }

    /// The first value of the first of `keys` that the card has.
    pub(super) fn text(&self, keys: &[&str]) -> Option<&str> {
        keys.iter().find_map(|key| self.fields.get(*key)?.first().map(String::as_str))
    }

    /// All values of a key.
    pub(super) fn list(&self, key: &str) -> &[String] {
        self.fields.get(key).map_or(&[], Vec::as_slice)
    }

    fn parse(text: &str) -> Card {
        let mut lines = text.lines();
        let mut card = Card::default();
        if lines.next() != Some(FENCE) {
            return card;
        }
        let mut key: Option<String> = None;
        for line in lines.take_while(|line| *line != FENCE) {
            let content = line.trim();
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            let item = content.strip_prefix("- ");
            if let (Some(item), Some(key)) = (item, &key) {
                let depth = line.len() - line.trim_start().len();
                // A list within a list, or a list of objects, is no list of texts.
                let nested = depth > 2 || split_key(item).is_some();
                if let Some(text) = scalar(item).filter(|_| !nested) {
                    card.fields.entry(key.clone()).or_default().push(text);
                }
                continue;
            }
            if line.starts_with([' ', '\t', '-']) {
                continue;
            }
            let Some((name, value)) = split_key(content) else { continue };
            key = Some(name.clone());
            let values = match value.strip_prefix('[').and_then(|v| v.strip_suffix(']')) {
                Some(items) => items.split(',').filter_map(scalar).collect(),
                None => scalar(value).into_iter().collect::<Vec<_>>(),
            };
            if !values.is_empty() {
                card.fields.insert(name, values);
            }
        }
        card
    }
}

/// `key: value` or `key:` as its parts.
fn split_key(text: &str) -> Option<(String, &str)> {
    if text.starts_with(['"', '\'']) {
        return None;
    }
    let (key, value) = text.split_once(':')?;
    let is_key = value.is_empty() || value.starts_with([' ', '\t']);
    is_key.then(|| (key.trim().to_owned(), value.trim()))
}

/// A text, quoted or not; None for nothing, and for a block of lines.
fn scalar(text: &str) -> Option<String> {
    let text = text.trim();
    for quote in ['"', '\''] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|t| t.strip_suffix(quote)) {
            return Some(inner.to_owned());
        }
    }
    let text = text.split(" #").next().unwrap_or_default().trim_end();
    let is_none = text.is_empty() || ["null", "~", "{}", "[]"].contains(&text);
    (!is_none && !text.starts_with(['|', '>', '&', '*', '{'])).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_lists_are_read_and_nested_parts_are_not() {
        let card = Card::parse(
            "---\nlicense: apache-2.0 # see below\nlanguage:\n- en\n  - \"no\"\ntags: [a, 'b c']\n\
             model-index:\n- name: x\n  results:\n  - task:\n      type: t\nname: \"My model\"\n\
             base_model: https://huggingface.co/a/b\nempty:\n---\nlicense: other\n",
        );
        assert_eq!(card.text(&["license"]), Some("apache-2.0"));
        assert_eq!(card.list("language"), ["en", "no"]);
        assert_eq!(card.list("tags"), ["a", "b c"]);
        assert_eq!(card.text(&["model_name", "name"]), Some("My model"));
        assert_eq!(card.text(&["base_model"]), Some("https://huggingface.co/a/b"));
        assert!(card.list("model-index").is_empty() && card.text(&["empty"]).is_none());
    }

    #[test]
    fn a_card_without_front_matter_says_nothing() {
        assert_eq!(Card::parse("# Title\n---\nlicense: mit\n---\n"), Card::default());
        assert_eq!(Card::parse(""), Card::default());
    }
}
