//! A row of a data file: its fields; an error about one names its line.

use std::path::Path;

use serde_json::{Map, Value};

use super::super::error::{Error, Result};

/// A row of a data file.
pub struct Row<'a> {
    path: &'a Path,
    /// Its line, from 1.
    pub line: usize,
    /// Its fields by name, as the data file has them.
    pub fields: Map<String, Value>,
}

impl<'a> Row<'a> {
    pub(super) fn new(path: &'a Path, line: usize, fields: Map<String, Value>) -> Row<'a> {
        Row { path, line, fields }
    }

    /// An error about this row.
    pub(super) fn error(&self, what: &str) -> Error {
        malformed(self.path, self.line, what)
    }

    /// The first of `names` that is a field.
    ///
    /// # Errors
    /// None is.
    pub(super) fn field(&self, names: &[&str]) -> Result<(String, &Value)> {
        let found =
            names.iter().find_map(|name| Some(((*name).to_owned(), self.fields.get(*name)?)));
        found.ok_or_else(|| {
            let quoted: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
            let there: Vec<&str> = self.fields.keys().map(String::as_str).collect();
            let there = if there.is_empty() { "none".into() } else { there.join(", ") };
            self.error(&format!("no field {}, found {there}", quoted.join(" or ")))
        })
    }

    /// The text of the first of `names` that is a field.
    ///
    /// # Errors
    /// No such field exists, or it is not text.
    pub(super) fn text(&self, names: &[&str]) -> Result<&str> {
        let (name, value) = self.field(names)?;
        value
            .as_str()
            .ok_or_else(|| self.error(&format!("field '{name}' is {value}, expected text")))
    }

    /// The whole number of field `name`, also one that is spelled as a text.
    ///
    /// # Errors
    /// No such field exists, or it is not a number below `n`.
    pub(super) fn index(&self, name: &str, n: usize) -> Result<usize> {
        let (_, value) = self.field(&[name])?;
        let number = value.as_u64().or_else(|| value.as_str()?.trim().parse().ok());
        let index = number.and_then(|x| usize::try_from(x).ok()).filter(|x| *x < n);
        index.ok_or_else(|| {
            self.error(&format!("field '{name}' is {value}, expected a number from 0 to {}", n - 1))
        })
    }
}

/// The objects of JSON lines. A line of lm-evaluation-harness's samples holds the row as `doc`.
pub(super) fn json_rows<'a>(path: &'a Path, text: &str) -> Result<Vec<Row<'a>>> {
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let row = |(line, json): (usize, &str)| {
        let value = serde_json::from_str(json)
            .map_err(|error| malformed(path, line, &format!("not JSON ({error})")))?;
        let Value::Object(mut fields) = value else {
            return Err(malformed(path, line, "not a JSON object"));
        };
        let inner = fields.get_mut("doc").and_then(Value::as_object_mut).map(std::mem::take);
        Ok(Row { path, line, fields: inner.unwrap_or(fields) })
    };
    lines.map(row).collect()
}

pub(super) fn malformed(path: &Path, line: usize, what: &str) -> Error {
    Error::File { path: path.into(), what: format!("line {line}: {what}") }
}

/// Rows of JSON lines for tests.
#[cfg(test)]
pub(super) fn rows(values: &[Value]) -> Vec<Row<'static>> {
    let lines: Vec<String> = values.iter().map(Value::to_string).collect();
    json_rows(Path::new("rows.jsonl"), &lines.join("\n")).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_the_harness_samples_are_unwrapped() {
        let rows = rows(&[serde_json::json!({"doc_id": 3, "doc": {"a": "b"}})]);
        assert_eq!(rows[0].text(&["a"]).unwrap(), "b");
    }
}
