//! `general.*`: what the model is called, its license, what it was made from; from the model card,
//! `generation_config.json` and the folder's name.

use super::card::Card;
use super::config::Config;
use super::error::Result;
use super::folder::Checkpoint;
use super::keys::Keys;
use crate::gguf::Value;

/// Where models and data sets are published under `OWNER/NAME`.
const HUB: &str = "https://huggingface.co/";

/// Sets the keys. `size_label` says how many weights the model has.
///
/// # Errors
/// A file that is there cannot be read.
pub(super) fn general_keys(
    checkpoint: &Checkpoint,
    size_label: &str,
    keys: &mut Keys,
) -> Result<()> {
    let card = match checkpoint.file("README.md")? {
        Some(path) => Card::read(&path)?,
        None => Card::default(),
    };
    if let Some(path) = checkpoint.file("generation_config.json")? {
        sampling(&Config::read(&path)?, keys)?;
    }
    let named = card.text(&["name", "model_name"]).map(str::to_owned);
    keys.set("general.name", named.unwrap_or_else(|| folder_title(checkpoint)));
    for (key, fields) in [
        ("author", &["author", "model_author", "model_creator"][..]),
        ("version", &["version", "model_version"]),
        ("organization", &["organization", "model_organization"]),
        ("description", &["description", "model_description"]),
    ] {
        if let Some(text) = card.text(fields) {
            keys.set(&format!("general.{key}"), text);
        }
    }
    keys.set("general.size_label", size_label);
    if !card.list("license").is_empty() {
        keys.set("general.license", card.list("license").join(","));
    }
    for (key, field) in [("license.name", "license_name"), ("license.link", "license_link")] {
        if let Some(text) = card.text(&[field]) {
            keys.set(&format!("general.{key}"), text);
        }
    }
    origins(&card, "base_model", &["base_model", "base_models", "base_model_sources"], keys);
    origins(&card, "dataset", &["datasets", "dataset", "dataset_sources"], keys);
    lists(&card, "general.tags", &["tags", "pipeline_tag"], keys);
    lists(&card, "general.languages", &["languages", "language"], keys);
    Ok(())
}

/// How the model's authors sample its answers.
fn sampling(config: &Config, keys: &mut Keys) -> Result<()> {
    const NUMBERS: [(&str, &str); 4] = [
        ("top_p", "top_p"),
        ("min_p", "min_p"),
        ("temperature", "temp"),
        ("repetition_penalty", "penalty_repeat"),
    ];
    if let Some(k) = config.count("top_k")?.and_then(|k| i32::try_from(k).ok()) {
        keys.set("general.sampling.top_k", k);
    }
    for (from, to) in NUMBERS {
        if let Some(x) = config.number(from)? {
            keys.set(&format!("general.sampling.{to}"), x as f32);
        }
    }
    Ok(())
}

/// The models or data sets that a model was made from.
fn origins(card: &Card, key: &str, fields: &[&str], keys: &mut Keys) {
    let named = fields.iter().map(|field| card.list(field)).find(|list| !list.is_empty());
    let Some(named) = named else { return };
    keys.set(&format!("general.{key}.count"), named.len() as u32);
    for (i, id) in named.iter().enumerate() {
        let mut set = |name: &str, text: String| {
            keys.set(&format!("general.{key}.{i}.{name}"), text);
        };
        let is_url = ["http://", "https://", "ssh://"].iter().any(|start| id.starts_with(start));
        let path = if is_url { id.strip_prefix(HUB).unwrap_or_default() } else { id.as_str() };
        match path.split_once('/') {
            Some((owner, name)) if !name.contains('/') => {
                set("name", title(name));
                set("organization", title(owner));
                set("repo_url", if is_url { id.clone() } else { format!("{HUB}{owner}/{name}") });
            }
            _ if is_url => set("repo_url", id.clone()),
            _ => set("name", title(id)),
        }
    }
}

/// The values of several fields as one list.
fn lists(card: &Card, key: &str, fields: &[&str], keys: &mut Keys) {
    let texts: Vec<&String> = fields.iter().flat_map(|field| card.list(field)).collect();
    if !texts.is_empty() {
        keys.set(key, Value::strings(texts));
    }
}

/// The folder's name as a title. In the cache of the hub a folder has the name of a commit: there
/// it is the model's, `models--OWNER--NAME/snapshots/COMMIT`.
fn folder_title(checkpoint: &Checkpoint) -> String {
    let path = checkpoint.folder.canonicalize().unwrap_or_else(|_| checkpoint.folder.clone());
    let name = |path: &std::path::Path| {
        path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let repository = path.parent().filter(|parent| name(parent) == "snapshots");
    let repository = repository.and_then(|snapshots| snapshots.parent()).map(name);
    let cached = repository.and_then(|name| Some(name.strip_prefix("models--")?.to_owned()));
    match cached.as_deref().and_then(|name| name.rsplit("--").next()) {
        Some(cached) => title(cached),
        None => title(&name(&path)),
    }
}

/// `my-model-v2` as `My Model v2`: words of small letters begin with a capital, unless they are
/// versions.
fn title(name: &str) -> String {
    let words = name.replace('-', " ");
    let words: Vec<String> = words.split_whitespace().map(title_word).collect();
    words.join(" ")
}

fn title_word(word: &str) -> String {
    let digits = word.strip_prefix('v').unwrap_or_default();
    let is_version = digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.chars().all(|c| c.is_ascii_digit() || c == '.');
    let is_lower = word.chars().any(char::is_lowercase) && !word.chars().any(char::is_uppercase);
    if !is_lower || is_version || word.starts_with(|c: char| c.is_ascii_digit()) {
        return word.to_owned();
    }
    let mut after_letter = false;
    let mut out = String::new();
    for c in word.chars() {
        match after_letter {
            true => out.push(c),
            false => out.extend(c.to_uppercase()),
        }
        after_letter = c.is_alphabetic();
    }
    out
}

/// How many weights, in at least two digits: `135M`, `1.5B`.
pub(super) fn rounded(parameters: u64) -> String {
    let n = parameters as f64;
    let (scaled, unit) = match n {
        n if n > 1e12 => (n * 1e-12, "T"),
        n if n > 1e9 => (n * 1e-9, "B"),
        n if n > 1e6 => (n * 1e-6, "M"),
        n => (n * 1e-3, "K"),
    };
    let whole = scaled.round_ties_even();
    let digits = if whole < 1.0 { 0 } else { whole.log10() as usize + 1 };
    format!("{scaled:.*}{unit}", 2usize.saturating_sub(digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_titles_and_versions_stay() {
        for (name, expected) in [
            ("smollm2-135M-instruct", "Smollm2 135M Instruct"),
            ("my-model-v2.1", "My Model v2.1"),
            ("HuggingFaceTB", "HuggingFaceTB"),
            ("qwen2.5-7b", "Qwen2.5 7b"),
        ] {
            assert_eq!(title(name), expected);
        }
    }

    #[test]
    fn sizes_have_two_digits_or_more() {
        for (n, expected) in [
            (134_515_008, "135M"),
            (494_032_768, "494M"),
            (1_543_714_304, "1.5B"),
            (8_030_261_248, "8.0B"),
            (9_400, "9.4K"),
            // As in Python, where 9.5 rounds to 10 before its digits are counted.
            (9_500, "10K"),
            (12_345, "12K"),
            (400, "0.40K"),
        ] {
            assert_eq!(rounded(n), expected);
        }
    }
}
