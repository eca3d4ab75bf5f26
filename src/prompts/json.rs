//! Prompts in JSON: a list, or values one after another as in JSON lines; each a string or an
//! object.

use serde_json::{Map, Value as Json};

use super::error::{Error, Result};
use super::field::{
    Draft, answer_field, category_field, expected_text, id_field, input_field, prompt_field,
};

/// Every prompt of `text`, the prompts of objects taken from `field` or from a usual one.
///
/// # Errors
/// It is not JSON, or a record is not a prompt; the message names the place.
pub(super) fn parse_json(text: &str, field: Option<&str>) -> Result<Vec<Draft>> {
    let mut records =
        Records { wanted: field.map(str::to_owned), given: field, drafts: Vec::new() };
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Json>();
    let mut lines = Lines::of(text);
    loop {
        let line = lines.at(next_letter(text, values.byte_offset()));
        match values.next() {
            None => return Ok(records.drafts),
            Some(Err(error)) => return Err(bad_json(&error)),
            Some(Ok(Json::Array(list))) => {
                for (n, value) in (1..).zip(list) {
                    records.push(value, format!("at place {n} of the list"))?;
                }
            }
            Some(Ok(value)) => records.push(value, format!("in line {line}"))?,
        }
    }
}

/// True if `text` begins with a whole JSON list or object.
pub(super) fn looks_like_json(text: &str) -> bool {
    let first = serde_json::Deserializer::from_str(text).into_iter::<Json>().next();
    matches!(first, Some(Ok(Json::Array(_) | Json::Object(_))))
}

struct Records<'f> {
    /// The field to read: once guessed from the first object it is the same for all.
    wanted: Option<String>,
    given: Option<&'f str>,
    drafts: Vec<Draft>,
}

impl Records<'_> {
    fn push(&mut self, value: Json, place: String) -> Result<()> {
        let draft = match value {
            Json::String(text) => {
                Draft { place, id: None, text, input: None, category: None, answer: None }
            }
            Json::Object(object) => self.draft_of(&object, place)?,
            other => return Err(Error::NotARecord { place, found: kind(&other) }),
        };
        self.drafts.push(draft);
        Ok(())
    }

    fn draft_of(&mut self, object: &Map<String, Json>, place: String) -> Result<Draft> {
        let names: Vec<&str> = object.keys().map(String::as_str).collect();
        let Some(field) = prompt_field(&names, self.wanted.as_deref()) else {
            let expected = expected_text(self.wanted.as_deref().or(self.given));
            let found = object.keys().cloned().collect();
            return Err(Error::NoField { place, expected, found });
        };
        self.wanted = Some(field.to_owned());
        let text = match &object[field] {
            Json::String(text) => text.clone(),
            other => {
                return Err(Error::FieldNotText { place, field: field.into(), found: kind(other) });
            }
        };
        let id = id_field(&names).and_then(|name| match &object[name] {
            Json::String(id) => Some(id.clone()),
            Json::Number(id) => Some(id.to_string()),
            _ => None,
        });
        let text_of = |name: Option<&str>| Some(object[name?].as_str()?.to_owned());
        let category = text_of(category_field(&names));
        let input = text_of(input_field(&names, field));
        let answer = text_of(answer_field(&names).filter(|name| *name != field));
        Ok(Draft { place, id, text, input, category, answer })
    }
}

/// Where the first letter from `offset` on stands.
fn next_letter(text: &str, offset: usize) -> usize {
    let rest = &text[offset..];
    offset + rest.len() - rest.trim_start().len()
}

/// Counts lines up to places in a text, from one place on to the next: a file of many records would
/// take minutes if each were counted from the beginning.
pub(super) struct Lines<'t> {
    text: &'t str,
    /// Bytes whose line ends are counted.
    offset: usize,
    line: usize,
}

impl<'t> Lines<'t> {
    pub(super) fn of(text: &'t str) -> Lines<'t> {
        Lines { text, offset: 0, line: 1 }
    }

    /// The line of the byte at `offset`, which is not before the one that was asked for last.
    pub(super) fn at(&mut self, offset: usize) -> usize {
        let passed = self.text.as_bytes().get(self.offset..offset).unwrap_or_default();
        self.line += passed.iter().filter(|byte| **byte == b'\n').count();
        self.offset = self.offset.max(offset);
        self.line
    }
}

/// What a value is, for messages.
pub(super) fn kind(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "a bool",
        Json::Number(_) => "a number",
        Json::String(_) => "text",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    }
}

/// The error of the parser, with its place.
pub(super) fn bad_json(error: &serde_json::Error) -> Error {
    let said = error.to_string();
    // The message names the place already.
    let what = said.split(" at line ").next().unwrap_or(&said).to_owned();
    Error::BadJson { line: error.line(), column: error.column(), what }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<String> {
        parse_json(text, None).unwrap().into_iter().map(|draft| draft.text).collect()
    }

    fn error(text: &str, field: Option<&str>) -> String {
        parse_json(text, field).unwrap_err().to_string()
    }

    #[test]
    fn lists_and_lines_of_strings_and_objects_are_read() {
        for text in [
            r#"["a", "b"]"#,
            r#"[{"goal": "a"}, {"goal": "b"}]"#,
            "\"a\"\n\"b\"\n",
            "{\"prompt\": \"a\", \"text\": \"no\"}\r\n\n{\"prompt\": \"b\"}",
            "{\n  \"text\": \"a\"\n}\n{\n  \"text\": \"b\"\n}\n",
        ] {
            assert_eq!(texts(text), ["a", "b"], "{text}");
        }
        assert!(texts("[]").is_empty());
    }

    #[test]
    fn ids_and_categories_are_read_where_there_are_some() {
        let drafts = parse_json(
            r#"[{"id": 7, "prompt": "a", "category": "x"}, {"prompt": "b", "category": null}]"#,
            None,
        );
        let seen: Vec<_> = drafts.unwrap().into_iter().map(|d| (d.id, d.category)).collect();
        assert_eq!(seen, [(Some("7".into()), Some("x".into())), (None, None)]);
    }

    #[test]
    fn mistakes_name_their_place() {
        assert_eq!(
            error("{\"text\": \"a\"}\n\n{\"text\" \"b\"}\n", None),
            "not JSON at line 3, column 9: expected `:`"
        );
        assert_eq!(
            error("[\n\"a\",", None),
            "not JSON at line 2, column 4: EOF while parsing a value"
        );
        assert_eq!(
            error("\"a\"\n{\"text\": 3}", None),
            "field 'text' of the object in line 2 is a number, expected text"
        );
        assert_eq!(
            error(r#"["a", ["b"]]"#, None),
            "the prompt at place 2 of the list is a list, expected text or an object with a field \
             of text"
        );
        assert_eq!(
            error(r#"[{"premise": "a", "label": 1}]"#, None),
            "the object at place 1 of the list has no field 'instruction', 'prompt', 'goal', \
             'Behavior', 'question' or 'text'; it has 'label', 'premise'\n\
             hint: name the field that holds the prompt"
        );
    }

    #[test]
    fn lines_are_counted_on_from_the_last_place() {
        let mut lines = Lines::of("a\n\nb\nc");
        assert_eq!([0, 1, 3, 3, 5, 6].map(|offset| lines.at(offset)), [1, 1, 3, 3, 4, 4]);
    }

    #[test]
    fn many_prompts_take_no_longer_each_than_few() {
        let text = "\"a\"\n".repeat(300_000);
        let started = std::time::Instant::now();
        assert_eq!(parse_json(&text, None).unwrap()[299_999].place, "in line 300000");
        // A second; some minutes if lines are counted from the beginning for each.
        assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    }

    #[test]
    fn the_field_is_one_for_the_whole_file() {
        let text = r#"[{"prompt": "a"}, {"text": "b"}]"#;
        assert!(
            error(text, None).starts_with("the object at place 2 of the list has no field 'pr")
        );
        let text = r#"[{"prompt": "a", "x": "b"}]"#;
        assert_eq!(parse_json(text, Some("x")).unwrap()[0].text, "b");
        assert!(error(text, Some("y")).contains("has no field 'y'; it has 'prompt', 'x'"));
    }
}
