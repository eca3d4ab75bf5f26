//! Records of a file, objects of JSON or rows of a table: as values, and as their text in the file.

use indexmap::IndexMap;
use serde_json::value::RawValue;
use serde_json::{Deserializer, Map, Value as Json};

use super::csv::{Row, Separator, parse_csv};
use super::error::{Error, Result};
use super::json::{Lines, bad_json, kind};

/// A record.
#[derive(Debug)]
pub(super) struct Record {
    /// For messages: `in line 3`.
    pub place: String,
    /// Its fields.
    pub value: Map<String, Json>,
    /// It as JSON, in one line, with the fields' order and the numbers' digits of the file.
    pub source: String,
}

impl Record {
    /// A record of `text`, which may be over several lines.
    fn of(text: &str, raw: &RawValue, place: String) -> Result<Record> {
        let value: Json = serde_json::from_str(raw.get()).map_err(|e| within(text, raw, &e))?;
        match value {
            // No text of JSON holds a line break: those between its parts mean nothing.
            Json::Object(value) => {
                Ok(Record { place, value, source: raw.get().replace(['\n', '\r'], " ") })
            }
            other => Err(Error::NotAnObject { place, found: kind(&other) }),
        }
    }

    /// Names of its fields.
    pub(super) fn names(&self) -> Vec<String> {
        self.value.keys().cloned().collect()
    }

    /// The records that lie in lists, as `{"name": [{..}, {..}], ..}`; None if it is no such
    /// object. The turns of a chat are not records.
    pub(super) fn unpacked(&self) -> Result<Option<Vec<Record>>> {
        let is_record = |value: &Json| value.is_object() && value.get("role").is_none();
        let is_records = |value: &Json| {
            value.as_array().is_some_and(|list| !list.is_empty() && list.iter().all(is_record))
        };
        if self.value.is_empty() || !self.value.values().all(is_records) {
            return Ok(None);
        }
        let lists: IndexMap<String, Vec<&RawValue>> =
            serde_json::from_str(&self.source).map_err(|e| bad_json(&e))?;
        let mut records = Vec::new();
        for (name, list) in lists {
            for (n, raw) in (1..).zip(list) {
                records.push(Record::of(&self.source, raw, format!("at place {n} of '{name}'"))?);
            }
        }
        Ok(Some(records))
    }
}

/// Every record of a JSON list, or of values one after another as in JSON lines.
///
/// # Errors
/// It is not JSON, or a record is not an object.
pub(super) fn json_records(text: &str) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    let mut lines = Lines::of(text);
    for value in Deserializer::from_str(text).into_iter::<&RawValue>() {
        let raw = value.map_err(|e| bad_json(&e))?;
        if !raw.get().starts_with('[') {
            let place = format!("in line {}", lines.at(start_of(text, raw)));
            records.push(Record::of(text, raw, place)?);
            continue;
        }
        let list: Vec<&RawValue> =
            serde_json::from_str(raw.get()).map_err(|e| within(text, raw, &e))?;
        for (n, raw) in (1..).zip(list) {
            records.push(Record::of(text, raw, format!("at place {n} of the list"))?);
        }
    }
    Ok(records)
}

/// The records of a table.
#[derive(Debug, Default)]
pub(super) struct TableRecords {
    /// A record a row, below the heading.
    pub records: Vec<Record>,
    /// Names that several columns have: fields of these names hold what the first of them does.
    pub doubled: Vec<String>,
}

/// Every row of a table below its heading. A column without a name is called by its place.
///
/// # Errors
/// It is no table, or a row has another number of fields.
pub(super) fn table_records(text: &str, separator: Separator) -> Result<TableRecords> {
    let mut rows = parse_csv(text, separator)?.into_iter();
    let Some(heading) = rows.next() else { return Ok(TableRecords::default()) };
    let mut names: Vec<String> = Vec::new();
    let mut doubled = Vec::new();
    for (n, name) in (1..).zip(&heading.fields) {
        let name = match name.trim() {
            "" => format!("column {n}"),
            name => name.to_owned(),
        };
        if names.contains(&name) {
            names.push(format!("{name} (column {n})"));
            doubled.push(name);
        } else {
            names.push(name);
        }
    }
    let record = |row: Row| {
        let (line, found, expected) = (row.line, row.fields.len(), names.len());
        if found != expected {
            return Err(Error::WrongFieldCount { line, found, expected });
        }
        let cells = names.iter().map(String::as_str).zip(row.fields.iter().map(String::as_str));
        let source = serde_json::to_string(&cells.clone().collect::<IndexMap<&str, &str>>());
        Ok(Record {
            place: format!("in line {line}"),
            value: cells.map(|(name, cell)| (name.into(), cell.into())).collect(),
            source: source.map_err(|e| bad_json(&e))?,
        })
    };
    let records = rows.map(record).collect::<Result<Vec<Record>>>()?;
    Ok(TableRecords { records, doubled })
}

/// Where in `text` the part `part` of it begins.
fn start_of(text: &str, part: &RawValue) -> usize {
    part.get().as_ptr().addr().saturating_sub(text.as_ptr().addr())
}

/// The line of `text` that `part`, a part of it, begins in.
fn line_of(text: &str, part: &RawValue) -> usize {
    Lines::of(text).at(start_of(text, part))
}

/// An error of `part`, whose lines are counted from its beginning, in the lines of `text`.
fn within(text: &str, part: &RawValue, error: &serde_json::Error) -> Error {
    match bad_json(error) {
        Error::BadJson { line, column, what } => {
            Error::BadJson { line: line_of(text, part) - 1 + line, column, what }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(records: &[Record]) -> Vec<&str> {
        records.iter().map(|record| record.place.as_str()).collect()
    }

    #[test]
    fn records_keep_their_order_their_digits_and_their_place() {
        let text = "{\"z\": 1.50, \"a\": [98765432109876543210]}\n\n{\n \"b\":\r\n 2}\n\
            [{\"c\": 3},\n{\"d\": 4}]";
        let records = json_records(text).unwrap();
        let expected =
            ["in line 1", "in line 3", "at place 1 of the list", "at place 2 of the list"];
        assert_eq!(places(&records), expected);
        let sources: Vec<&str> = records.iter().map(|record| record.source.as_str()).collect();
        assert_eq!(sources[0], r#"{"z": 1.50, "a": [98765432109876543210]}"#);
        assert_eq!(sources[1], "{  \"b\":   2}");
        assert_eq!(sources[3], r#"{"d": 4}"#);
    }

    #[test]
    fn rows_are_objects_of_text() {
        let text = "z,a\n1.50,\"x\ny\"\n,b\n";
        let records = table_records(text, Separator::Comma).unwrap().records;
        assert_eq!(places(&records), ["in line 2", "in line 4"]);
        assert_eq!(records[0].source, r#"{"z":"1.50","a":"x\ny"}"#);
        assert_eq!(records[1].value["z"], "");
        let error = |text| table_records(text, Separator::Comma).unwrap_err().to_string();
        assert_eq!(error("a,b\n1\n"), "line 2 has 1 fields, expected 2 as the first line has");
    }

    #[test]
    fn columns_without_a_name_of_their_own_are_called_by_their_place() {
        let table = table_records(",a,a,\n1,2,3,4\n", Separator::Comma).unwrap();
        let expected = r#"{"column 1":"1","a":"2","a (column 3)":"3","column 4":"4"}"#;
        assert_eq!(table.records[0].source, expected);
        assert_eq!(table.doubled, ["a"]);
    }

    #[test]
    fn many_records_take_no_longer_each_than_few() {
        let text = "{\"response\": \"a\"}\n".repeat(200_000);
        let started = std::time::Instant::now();
        assert_eq!(json_records(&text).unwrap()[199_999].place, "in line 200000");
        // A second; some minutes if lines are counted from the beginning for each.
        assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    }

    #[test]
    fn lists_in_an_object_are_unpacked() {
        let records = json_records(r#"{"x": [{"a": 1.0}, {"a": 2}], "w": [{"a": 3}]}"#).unwrap();
        let unpacked = records[0].unpacked().unwrap().unwrap();
        assert_eq!(
            places(&unpacked),
            ["at place 1 of 'x'", "at place 2 of 'x'", "at place 1 of 'w'"]
        );
        assert_eq!(unpacked[0].source, r#"{"a": 1.0}"#);
        for other in [
            r#"{"x": [1]}"#,
            r#"{"x": [], "y": [{}]}"#,
            r#"{"x": 1}"#,
            r#"{"x": [{"role": "a"}]}"#,
            "{}",
        ] {
            assert!(json_records(other).unwrap()[0].unpacked().unwrap().is_none(), "{other}");
        }
    }

    #[test]
    fn mistakes_name_their_line() {
        let error = |text| json_records(text).unwrap_err().to_string();
        assert_eq!(error("{\"a\": 1}\n{\"a\" 2}"), "not JSON at line 2, column 6: expected `:`");
        assert_eq!(
            error("{}\n7 "),
            "the record in line 2 is a number, expected an object that holds an answer"
        );
        // What is JSON and not Unicode.
        let said = error("{}\n\n{\n\"a\": \"\\ud800\"}");
        assert!(said.starts_with("not JSON at line 4, column"), "{said}");
    }
}
