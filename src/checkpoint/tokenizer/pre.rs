//! How a tokenizer splits texts before it merges, and what llama.cpp calls that.
//!
//! llama.cpp has a list of names, each with its own regular expressions (`llama-vocab.cpp`). Its
//! converter finds the name by a hash of the tokens of one text, which needs the vocabulary of a
//! known model. Here it is found by what it depends on: the pre-tokenizer itself.

use serde_json::Value as Json;

use crate::checkpoint::config::Config;
use crate::checkpoint::error::{Error, Result};

/// A step of a pre-tokenizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step<'j> {
    /// Each digit is a piece.
    Digits,
    /// The pieces of a regular expression.
    Split(&'j str),
    /// Bytes become letters; with GPT-2's regular expression before that, or without.
    ByteLevel { splits: bool },
}

/// A pre-tokenizer that llama.cpp has.
struct Known {
    name: &'static str,
    steps: &'static [Step<'static>],
    /// Whether a piece that is a token is not merged.
    ignores_merges: bool,
}

const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
const TEKKEN: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
const QWEN2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);

const BYTES: Step<'static> = Step::ByteLevel { splits: false };
const GPT2: Step<'static> = Step::ByteLevel { splits: true };

const KNOWN: &[Known] = &[
    Known { name: "smollm", steps: &[Step::Digits, GPT2], ignores_merges: false },
    Known { name: "tekken", steps: &[Step::Split(TEKKEN), BYTES], ignores_merges: true },
    Known { name: "qwen2", steps: &[Step::Split(QWEN2), BYTES], ignores_merges: false },
    Known { name: "llama-bpe", steps: &[Step::Split(LLAMA3), BYTES], ignores_merges: true },
    // The same regular expression, merged in any case.
    Known { name: "dbrx", steps: &[Step::Split(LLAMA3), BYTES], ignores_merges: false },
    Known { name: "gpt-2", steps: &[GPT2], ignores_merges: false },
];

/// llama.cpp's name of the pre-tokenizer. `cleans` is `clean_up_tokenization_spaces`: some of its
/// names differ only in that.
///
/// # Errors
/// It has none that is known: the error shows it.
pub(super) fn pre_tokenizer(
    tokenizer: &Config,
    model: &Config,
    cleans: bool,
) -> Result<&'static str> {
    let json = tokenizer.get("pre_tokenizer").cloned().unwrap_or_default();
    let ignores = model.flag("ignore_merges")?.unwrap_or(false);
    let steps = steps(&json);
    let known = KNOWN
        .iter()
        .find(|known| steps.as_deref() == Some(known.steps) && known.ignores_merges == ignores);
    let name = |known: &Known| match known.name {
        "smollm" if cleans => "refact",
        name => name,
    };
    known.map(name).ok_or_else(|| {
        let ignored = if ignores { ", with ignore_merges" } else { "" };
        Error::PreTokenizer { shown: format!("{json}{ignored}") }.in_file(tokenizer.path())
    })
}

/// The steps of a pre-tokenizer; None if one of them is of another kind.
fn steps(json: &Json) -> Option<Vec<Step<'_>>> {
    match json.get("type")?.as_str()? {
        "Sequence" => json.get("pretokenizers")?.as_array()?.iter().map(step).collect(),
        _ => Some(vec![step(json)?]),
    }
}

fn step(json: &Json) -> Option<Step<'_>> {
    let flag = |key: &str| json.get(key).and_then(Json::as_bool);
    match json.get("type")?.as_str()? {
        "Digits" => flag("individual_digits")?.then_some(Step::Digits),
        "ByteLevel" => {
            let plain = flag("add_prefix_space") == Some(false);
            plain.then_some(Step::ByteLevel { splits: flag("use_regex").unwrap_or(true) })
        }
        "Split" => {
            // Each match is a piece: they are kept, or what is between them is removed, which is
            // nothing.
            let behavior = json.get("behavior")?.as_str()?;
            let invert = flag("invert").unwrap_or(false);
            let is_split = matches!((behavior, invert), ("Isolated", false) | ("Removed", true));
            let pattern = json.get("pattern")?.get("Regex")?.as_str()?;
            is_split.then_some(Step::Split(pattern))
        }
        _ => None,
    }
}
