//! Reads a recipe's tables: known keys are taken one by one, what is left over is unknown.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::error::{Error, Result};

/// The folders that a recipe's relative paths may begin at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The recipe's folder, tried first; the current folder comes next.
    pub folder: PathBuf,
}

impl Places {
    /// The path that a recipe means: from its own folder if it exists there, else from the current
    /// folder.
    pub fn resolve(&self, text: &str) -> PathBuf {
        let beside = self.folder.join(text);
        if beside.exists() { beside } else { PathBuf::from(text) }
    }
}

/// A hint if a name of `known` is close to `name`.
pub(super) fn nearest(name: &str, known: &[&str]) -> String {
    let near = |other: &&str| strsim::jaro_winkler(name, other);
    let best = known.iter().max_by(|a, b| near(a).total_cmp(&near(b)));
    match best.filter(|other| near(other) > 0.7) {
        Some(other) => format!("\nhint: did you mean '{other}'?"),
        None => String::new(),
    }
}

/// True if `text` may be a part of a file's name on every system.
pub(super) fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !text.is_empty() && text.chars().all(allowed) && !text.starts_with(['-', '.'])
}

/// Two things of one name, in a message. Where names differ only in case they still are one file on
/// macOS and Windows.
pub(super) fn named_twice(what: &str, first: &str, second: &str) -> String {
    match first == second {
        true => format!("two {what} are named '{second}'"),
        false => format!(
            "two {what} are named '{first}' and '{second}', expected names that differ in more \
             than case"
        ),
    }
}

/// What a key of TOML holds that may stand once, `[key]`, or several times, `[[key]]`.
pub(super) enum Tables {
    /// One table; an empty one if the key is missing.
    One(Table),
    /// A list of tables, at least one.
    Several(Vec<Table>),
}

/// A table that is being read.
pub(super) struct Section {
    /// Its name in messages.
    pub within: String,
    table: Table,
    known: Vec<&'static str>,
}

impl Section {
    /// The table called `within` in messages.
    pub(super) fn new(within: impl Into<String>, table: Table) -> Section {
        Section { within: within.into(), table, known: Vec::new() }
    }

    /// The value of `key`, if it is there.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.table.remove(key)
    }

    /// A text.
    pub(super) fn text(&mut self, key: &'static str) -> Result<Option<String>> {
        let Some(value) = self.take(key) else { return Ok(None) };
        match value {
            Value::String(text) => Ok(Some(text)),
            other => Err(self.wrong(key, &other, "a text")),
        }
    }

    /// A text that must be there.
    pub(super) fn required_text(
        &mut self,
        key: &'static str,
        expected: &'static str,
    ) -> Result<String> {
        let missing = Error::MissingKey { within: self.within.clone(), key, expected };
        self.text(key)?.ok_or(missing)
    }

    /// A truth value.
    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> Result<bool> {
        match self.take(key) {
            None => Ok(default),
            Some(Value::Boolean(flag)) => Ok(flag),
            Some(other) => Err(self.wrong(key, &other, "true or false")),
        }
    }

    /// A whole number of at least 0.
    pub(super) fn number(&mut self, key: &'static str, default: u64) -> Result<u64> {
        match self.take(key) {
            None => Ok(default),
            Some(Value::Integer(n)) if n >= 0 => Ok(n.unsigned_abs()),
            Some(other) => Err(self.wrong(key, &other, "a whole number of at least 0")),
        }
    }

    /// A table.
    pub(super) fn table(&mut self, key: &'static str) -> Result<Option<Table>> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Table(table)) => Ok(Some(table)),
            Some(other) => Err(self.wrong(key, &other, "a table")),
        }
    }

    /// A list of tables; empty if the key is missing.
    pub(super) fn tables(&mut self, key: &'static str) -> Result<Vec<Table>> {
        match self.take(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => self.each_table(key, items),
            Some(other) => Err(self.wrong(key, &other, "a list of tables")),
        }
    }

    /// A table, or a list of tables.
    pub(super) fn table_or_tables(&mut self, key: &'static str) -> Result<Tables> {
        match self.take(key) {
            None => Ok(Tables::One(Table::new())),
            Some(Value::Table(table)) => Ok(Tables::One(table)),
            Some(Value::Array(items)) if !items.is_empty() => {
                Ok(Tables::Several(self.each_table(key, items)?))
            }
            Some(other) => Err(self.wrong(key, &other, "a table, or a list with at least one")),
        }
    }

    fn each_table(&self, key: &str, items: Vec<Value>) -> Result<Vec<Table>> {
        let table = |item: Value| match item {
            Value::Table(table) => Ok(table),
            other => Err(self.wrong(key, &other, "a list of tables")),
        };
        items.into_iter().map(table).collect()
    }

    /// A list of texts.
    pub(super) fn texts(&mut self, key: &'static str) -> Result<Option<Vec<String>>> {
        let items = match self.take(key) {
            None => return Ok(None),
            Some(Value::Array(items)) => items,
            Some(other) => return Err(self.wrong(key, &other, "a list of texts")),
        };
        let text = |item: Value| match item {
            Value::String(text) => Ok(text),
            other => Err(self.wrong(key, &other, "a list of texts")),
        };
        items.into_iter().map(text).collect::<Result<_>>().map(Some)
    }

    /// The remaining keys: a verb's own options.
    pub(super) fn rest(self) -> Table {
        self.table
    }

    /// Fails if any key is left.
    pub(super) fn end(self) -> Result<()> {
        let Some(key) = self.table.keys().next() else { return Ok(()) };
        Err(Error::UnknownKey {
            within: self.within.clone(),
            key: key.clone(),
            expected: self.known.join(", "),
            hint: nearest(key, &self.known),
        })
    }

    fn wrong(&self, key: &str, found: &Value, expected: &str) -> Error {
        Error::Value {
            within: self.within.clone(),
            key: key.into(),
            found: described(found),
            expected: expected.into(),
        }
    }
}

/// A value in a message.
pub(super) fn described(value: &Value) -> String {
    match value {
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(flag) => flag.to_string(),
        Value::String(text) => format!("'{text}'"),
        Value::Array(_) => "a list".into(),
        Value::Table(_) => "a table".into(),
        Value::Datetime(_) => "a date".into(),
    }
}

/// The folder that a file lies in.
pub(super) fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.into(),
        _ => PathBuf::from("."),
    }
}
