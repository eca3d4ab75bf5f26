//! A record inside the file of what was done to it, and its format.
//!
//! ```text
//! aird.history: str[]    one JSON object a step (Step), oldest first; perhaps spaces after it
//! aird.version: str      the program that wrote last: Step::version of the last step
//! ```
//! A step holds no paths and no time, so that the same inputs give the same bytes. The spaces are
//! room for a later step: a patch in place may not make the header longer.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::edit::KvEdit;
use crate::header::KvMap;
use crate::tensor::within_block;
use crate::value::Value;

/// The key of the history: an array of strings, one JSON object each, oldest first.
pub const HISTORY_KEY: &str = "aird.history";
/// The key of the version of the program that recorded the last step.
pub const VERSION_KEY: &str = "aird.version";

/// One entry of a file's history: what was done, by which program, with which inputs.
///
/// Recording is optional: a [`Rewrite`](crate::Rewrite), a [`Patch`](crate::Patch) or a
/// [`Builder`](crate::Builder) without a step adds no keys. [`history`] reads the steps again.
///
/// ```
/// use aird_gguf::Step;
///
/// let step = Step::new("scale", "1.2.0")
///     .parameter("factor", 0.5)
///     .changed(["blk.0.ffn_up.weight", "blk.1.ffn_up.weight"]);
/// assert_eq!(step.tensors["blk.*.ffn_up.weight"], 2);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// What was done, in a word: `merge`, `prune`, `repair`.
    pub verb: String,
    /// The version of the program that did it.
    pub version: String,
    /// Everything that decided the result, by name.
    pub parameters: Map<String, Json>,
    /// sha256 of each file that was read, by role: `model`, `adapter`.
    pub sources: Map<String, Json>,
    /// How many tensors changed, by their names [`without_block`].
    pub tensors: Map<String, Json>,
}

impl Step {
    /// A step without parameters, sources and tensors.
    #[must_use]
    pub fn new(verb: &str, version: &str) -> Step {
        Step {
            verb: verb.into(),
            version: version.into(),
            parameters: Map::new(),
            sources: Map::new(),
            tensors: Map::new(),
        }
    }

    /// Adds a parameter: anything that becomes a JSON value.
    #[must_use]
    pub fn parameter(mut self, name: &str, value: impl Into<Json>) -> Step {
        self.parameters.insert(name.into(), value.into());
        self
    }

    /// Adds a file that was read, by the role it had: see [`sha256`](crate::sha256) and
    /// [`model_sha256`](crate::model_sha256).
    #[must_use]
    pub fn source(mut self, role: &str, sha256: &str) -> Step {
        self.sources.insert(role.into(), sha256.into());
        self
    }

    /// Counts the tensors `names` as changed, by their names [`without_block`].
    #[must_use]
    pub fn changed<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Step {
        for name in names {
            let key = without_block(name);
            let count = self.tensors.get(&key).and_then(Json::as_u64).unwrap_or(0);
            self.tensors.insert(key, (count + 1).into());
        }
        self
    }

    /// Bytes of the step as JSON, without spaces after it.
    pub(crate) fn width(&self) -> u64 {
        self.line().len() as u64
    }

    fn line(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The edits that record this step. JSON may end in spaces: they fill the line up to `width`
    /// bytes, so that the header ends where the rewriter wants it to.
    pub(crate) fn edits(&self, width: u64) -> [KvEdit; 2] {
        let mut line = self.line();
        line.extend(std::iter::repeat_n(' ', (width as usize).saturating_sub(line.len())));
        [
            KvEdit::Set(VERSION_KEY.into(), self.version.clone().into()),
            KvEdit::Append(HISTORY_KEY.into(), line.into()),
        ]
    }
}

/// The name with its block's number replaced: `blk.3.attn_v.weight` becomes `blk.*.attn_v.weight`,
/// names outside blocks stay.
#[must_use]
pub fn without_block(name: &str) -> String {
    match within_block(name) {
        Some(rest) => format!("blk.*.{rest}"),
        None => name.into(),
    }
}

/// The steps of a file's history, oldest first. Each is the JSON object of a [`Step`]; a line that
/// is not valid JSON comes as a JSON string. Empty if the file has no history.
#[must_use]
pub fn history(kv: &KvMap) -> Vec<Json> {
    let Some(Value::Array(steps)) = kv.get(HISTORY_KEY) else { return Vec::new() };
    let parse = |step: Value| {
        let text = step.to_text()?.into_owned();
        Some(serde_json::from_str(&text).unwrap_or(Json::String(text)))
    };
    steps.iter().filter_map(parse).collect()
}
