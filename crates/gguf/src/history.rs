//! What aird did to a file, kept inside it: `aird.history`, an array of JSON strings, one a
//! step. No paths and no clock, so that the same inputs give the same bytes.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::edit::KvEdit;
use super::header::KvMap;
use super::tensor::within_block;
use super::value::Value;

/// Array of JSON strings, oldest first.
pub const HISTORY_KEY: &str = "aird.history";
/// The version of aird that wrote last.
pub const VERSION_KEY: &str = "aird.version";

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The verb: `merge`, `prune`, `repair`.
    pub verb: String,
    /// aird's version.
    pub version: String,
    /// Everything that decided the result, by name.
    pub parameters: Map<String, Json>,
    /// sha256 of each file that was read, by role: `model`, `adapter`, `direction`.
    pub sources: Map<String, Json>,
    /// Tensors whose values changed: how many, and of which names with the block left out.
    pub tensors: Map<String, Json>,
}

impl Step {
    /// A step of `verb`, as done by that version of the program.
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

    /// Adds a parameter.
    pub fn parameter(mut self, name: &str, value: impl Into<Json>) -> Step {
        self.parameters.insert(name.into(), value.into());
        self
    }

    /// Adds a source's sha256.
    pub fn source(mut self, role: &str, sha256: &str) -> Step {
        self.sources.insert(role.into(), sha256.into());
        self
    }

    /// Counts `names` by what is left of them without their block's number.
    pub fn changed<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Step {
        for name in names {
            let key = without_block(name);
            let count = self.tensors.get(&key).and_then(Json::as_u64).unwrap_or(0);
            self.tensors.insert(key, (count + 1).into());
        }
        self
    }

    /// Bytes of its line.
    pub(super) fn width(&self) -> u64 {
        self.line().len() as u64
    }

    fn line(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The edits that record this step. JSON may end in spaces: a line of at least `width` bytes
    /// lets the header end where the rewriter wants it to.
    pub(super) fn edits(&self, width: u64) -> [KvEdit; 2] {
        let mut line = self.line();
        line.extend(std::iter::repeat_n(' ', (width as usize).saturating_sub(line.len())));
        [
            KvEdit::Set(VERSION_KEY.into(), self.version.clone().into()),
            KvEdit::Append(HISTORY_KEY.into(), line.into()),
        ]
    }
}

/// `blk.3.attn_v.weight` -> `blk.*.attn_v.weight`.
pub fn without_block(name: &str) -> String {
    match within_block(name) {
        Some(rest) => format!("blk.*.{rest}"),
        None => name.into(),
    }
}

/// The steps of a file, oldest first, each as the JSON it is, or as a JSON string of what
/// stands there if it is none.
pub fn history(kv: &KvMap) -> Vec<Json> {
    let Some(Value::Array(steps)) = kv.get(HISTORY_KEY) else { return Vec::new() };
    let parse = |step: Value| {
        let text = step.to_text()?.into_owned();
        Some(serde_json::from_str(&text).unwrap_or(Json::String(text)))
    };
    steps.iter().filter_map(parse).collect()
}
