//! Files of answers that any tool wrote: JSON, JSON lines, CSV, TSV, and aird's own transcripts.

use indexmap::IndexMap;
use serde_json::Value as Json;
use serde_json::value::{RawValue, to_raw_value};

use super::answer_fields::{
    AnswerFields, WantedFields, answer_in, at, error_of, expected_answer, guess_answer,
    guess_request, guess_set, name_in, request_of,
};
use super::error::{Error, Result};
use super::json::{bad_json, kind};
use super::load::{Format, format_of};
use super::records::{Record, json_records, table_records};
use super::text::TextFile;

/// What the first line of a transcript holds, which is no answer but its settings.
const SETTINGS: [&str; 4] = ["build", "model", "prompts", "max_tokens"];

/// The answers of a file, in its order.
#[derive(Debug)]
pub struct AnswerFile {
    /// The fields that were read.
    pub fields: AnswerFields,
    /// At least one.
    pub answers: Vec<GivenAnswer>,
}

/// A record of a file, with the answer that it holds.
#[derive(Debug)]
pub struct GivenAnswer {
    /// Where it is in the file, e.g. `in line 3`.
    pub place: String,
    /// What was asked; None where that is not in the file.
    pub request: Option<String>,
    /// The answer; empty if the record has only the reason for its absence.
    pub answer: String,
    /// Why there is no answer.
    pub error: Option<String>,
    /// The set that it belongs to.
    pub set: Option<String>,
    source: String,
}

impl GivenAnswer {
    /// The record as a line of JSON, as it is in the file, with `more` fields at its end. What the
    /// file has under one of their names is kept under another: `label` as `label_given`.
    ///
    /// # Errors
    /// None that is known of: the record was read as JSON before.
    pub fn with<'f>(&self, more: impl IntoIterator<Item = (&'f str, Json)>) -> Result<String> {
        let fields: serde_json::Result<IndexMap<String, Box<RawValue>>> =
            serde_json::from_str(&self.source);
        let given = fields.map_err(|e| bad_json(&e))?;
        let names: Vec<String> = given.keys().cloned().collect();
        let more: Vec<(&str, Json)> = more.into_iter().collect();
        let mut line: IndexMap<String, Box<RawValue>> = IndexMap::new();
        for (name, value) in given {
            let is_ours = more.iter().any(|(ours, _)| *ours == name);
            line.insert(if is_ours { kept_name(&names, &name) } else { name }, value);
        }
        for (name, value) in more {
            line.insert(name.into(), to_raw_value(&value).map_err(|e| bad_json(&e))?);
        }
        serde_json::to_string(&line).map_err(|e| bad_json(&e))
    }
}

/// Another name for the field `name`, which none of the fields called `names` has.
fn kept_name(names: &[String], name: &str) -> String {
    let mut kept = format!("{name}_given");
    while names.contains(&kept) {
        kept += "_given";
    }
    kept
}

impl TextFile {
    /// The answers of the file.
    ///
    /// The name's ending decides the format: `.json`, `.jsonl`, `.ndjson`, `.csv` and `.tsv`; any
    /// other name is read as JSON if it is JSON. The fields are those that are `wanted`, else the
    /// first ones with usual names, the same for the whole file.
    ///
    /// # Errors
    /// The file is not of the type of its name, no field is known for an answer's, two columns have
    /// the name of one that is read, or a record lacks its answer and does not say why.
    pub fn answers(&self, wanted: &WantedFields) -> Result<AnswerFile> {
        self.parse_answers(wanted).map_err(|e| e.in_file(&self.path))
    }

    fn parse_answers(&self, wanted: &WantedFields) -> Result<AnswerFile> {
        if self.text.trim().is_empty() {
            return Err(Error::Empty { expected: "answers" });
        }
        let mut doubled = Vec::new();
        let mut records = match format_of(&self.path, &self.text) {
            Format::Json => json_records(&self.text)?,
            Format::Table(separator) => {
                let table = table_records(&self.text, separator)?;
                doubled = table.doubled;
                table.records
            }
            Format::Parts | Format::Lines => return Err(Error::NoRecords),
        };
        // Of several transcripts in one file each has its own.
        records.retain(|record| !is_settings(record));
        if let [only] = records.as_slice()
            && guess_answer(&only.value).is_none()
            && let Some(unpacked) = only.unpacked()?
        {
            records = unpacked;
        }
        let Some(first) = records.first() else { return Err(Error::NoAnswers) };
        let fields = fields_of(&records, first, wanted)?;
        if let Some(name) = doubled.into_iter().find(|name: &String| fields.reads(name)) {
            return Err(Error::TwoColumns { name });
        }
        let answers = records.into_iter().map(|record| given(record, &fields));
        Ok(AnswerFile { answers: answers.collect::<Result<_>>()?, fields })
    }
}

fn is_settings(record: &Record) -> bool {
    let has = |name: &&str| record.value.contains_key(*name);
    SETTINGS.iter().all(has) && guess_answer(&record.value).is_none()
}

/// The fields of a file with these records: each by the first record that holds it.
fn fields_of(records: &[Record], first: &Record, wanted: &WantedFields) -> Result<AnswerFields> {
    let answer = answer_field(records, first, wanted.answer.as_deref())?;
    let prompt = match &wanted.prompt {
        Some(field) => Some(known_field(records, first, field)?),
        None => records.iter().find_map(|record| guess_request(&record.value, &answer)),
    };
    let set = match &wanted.set {
        Some(field) => Some(known_field(records, first, field)?),
        None => records.iter().find_map(|record| guess_set(&record.value)).map(str::to_owned),
    };
    Ok(AnswerFields { prompt, answer, set })
}

/// The answer's field. A record with an error decides only if there is no other: beside the answer
/// that it lacks it may have the one that its item expects.
fn answer_field(records: &[Record], first: &Record, wanted: Option<&str>) -> Result<String> {
    let answer_of = |record: &Record| match wanted {
        Some(field) => at(&record.value, field).and_then(answer_in).map(|_| field.to_owned()),
        None => guess_answer(&record.value).map(str::to_owned),
    };
    let sound = records.iter().filter(|record| error_of(&record.value).is_none());
    if let Some(field) = sound.chain(records).find_map(answer_of) {
        return Ok(field);
    }
    let Some(wanted) = wanted else {
        return Err(Error::NoAnswerField {
            place: first.place.clone(),
            expected: expected_answer(),
            found: first.names(),
        });
    };
    let field = known_field(records, first, wanted)?;
    let holder = records.iter().find(|record| at(&record.value, wanted).is_some());
    Err(missing(holder.unwrap_or(first), &field))
}

/// The field `wanted`, if any record has it.
fn known_field(records: &[Record], first: &Record, wanted: &str) -> Result<String> {
    match records.iter().any(|record| at(&record.value, wanted).is_some()) {
        true => Ok(wanted.to_owned()),
        false => Err(Error::NoSuchField {
            place: first.place.clone(),
            field: wanted.into(),
            found: first.names(),
        }),
    }
}

/// The answer of `record`.
fn given(record: Record, fields: &AnswerFields) -> Result<GivenAnswer> {
    let answer = at(&record.value, &fields.answer).and_then(answer_in);
    let is_filled = answer.as_ref().is_some_and(|answer| !answer.trim().is_empty());
    let error = error_of(&record.value).filter(|_| !is_filled);
    if answer.is_none() && error.is_none() {
        return Err(missing(&record, &fields.answer));
    }
    let request = |path: &String| request_of(&record.value, path);
    let set = |path: &String| name_in(at(&record.value, path)?);
    Ok(GivenAnswer {
        request: fields.prompt.as_ref().and_then(request),
        answer: answer.unwrap_or_default(),
        error,
        set: fields.set.as_ref().and_then(set),
        place: record.place,
        source: record.source,
    })
}

/// That `record` holds no answer in `field`.
fn missing(record: &Record, field: &str) -> Error {
    let found = at(&record.value, field).map_or("missing", found_in);
    Error::NoAnswer { place: record.place.clone(), field: field.into(), found }
}

fn found_in(value: &Json) -> &'static str {
    match value {
        Json::Array(_) => "a list without text",
        Json::Object(_) => "an object without text",
        other => kind(other),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(name: &str, text: &str) -> TextFile {
        TextFile { path: name.into(), text: text.into(), sha256: String::new() }
    }

    fn read(name: &str, text: &str) -> AnswerFile {
        file(name, text).answers(&WantedFields::default()).unwrap()
    }

    fn error(name: &str, text: &str) -> String {
        file(name, text).answers(&WantedFields::default()).unwrap_err().to_string()
    }

    #[test]
    fn a_transcript_is_its_answers_without_its_settings() {
        let settings =
            r#"{"build": "b", "model": "m", "prompts": "p", "max_tokens": 6, "set": "s"}"#;
        let line =
            r#"{"prompt": "q", "set": "s", "answer": "a", "label": "refusal", "error": null}"#;
        let none = r#"{"prompt": "p", "set": "s", "answer": "", "label": null, "error": "long"}"#;
        let found = read("a.jsonl", &[settings, none, line].join("\n"));
        let seen: Vec<_> = found.answers.iter().map(|a| (a.answer.as_str(), &a.error)).collect();
        assert_eq!(seen, [("", &Some("long".into())), ("a", &None)]);
        assert_eq!(found.answers[1].request.as_deref(), Some("q"));
        assert_eq!(found.fields.set.as_deref(), Some("set"));
        assert_eq!(read("a.jsonl", &[settings, line, settings, none].join("\n")).answers.len(), 2);
        assert_eq!(
            error("a.jsonl", settings),
            "a.jsonl: the file holds no answer, expected at least one"
        );
    }

    #[test]
    fn a_line_keeps_what_it_holds_and_gets_more() {
        let found = read(
            "a.json",
            "[{\"response\": \"a\", \"label\": 1,\n \"x\": {\"b\": 2.0, \"a\": 1}}]",
        );
        let line = found.answers[0].with([("label", "refusal".into()), ("judge", Json::Null)]);
        let given = r#"{"response":"a","label_given":1,"x":{"b": 2.0, "a": 1}"#;
        assert_eq!(line.unwrap(), format!("{given},\"label\":\"refusal\",\"judge\":null}}"));
        // What was labelled twice keeps both.
        let found = read("a.json", r#"{"response": "a", "label": 2, "label_given": 1}"#);
        let line = found.answers[0].with([("label", 3.into())]).unwrap();
        let expected = r#"{"response":"a","label_given_given":2,"label_given":1,"label":3}"#;
        assert_eq!(line, expected);
    }

    #[test]
    fn each_field_is_that_of_the_first_record_that_holds_it() {
        let table = "category,prompt,response\n,q,a\nx,q,b\n";
        let found = read("a.csv", table);
        let sets: Vec<_> = found.answers.iter().map(|a| a.set.as_deref()).collect();
        assert_eq!(sets, [None, Some("x")]);
        let lines = "{\"prompt\": null, \"response\": \"a\"}\n\
                     {\"prompt\": \"q\", \"response\": \"b\", \"kind\": \"x\"}";
        let found = read("a.jsonl", lines);
        let requests: Vec<_> = found.answers.iter().map(|a| a.request.as_deref()).collect();
        assert_eq!(requests, [None, Some("q")]);
        let wanted = WantedFields { set: Some("kind".into()), ..WantedFields::default() };
        let found = file("a.jsonl", lines).answers(&wanted).unwrap();
        assert_eq!(found.answers[1].set.as_deref(), Some("x"));
        // What an item expects is not the answer of a record that has only an error.
        let lines = "{\"answer\": \"4\", \"prediction\": null, \"error\": \"long\"}\n\
                     {\"answer\": \"4\", \"prediction\": \"5\"}";
        let found = read("a.jsonl", lines);
        assert_eq!(found.fields.answer, "prediction");
        assert_eq!(found.answers[0].error.as_deref(), Some("long"));
    }

    #[test]
    fn a_failed_request_of_a_batch_is_an_error_of_its_record() {
        let body = r#"{"choices": [{"message": {"content": null, "refusal": "No."}}]}"#;
        let lines = format!(
            "{{\"response\": {{\"status_code\": 400, \"body\": {{\"error\": \"too long\"}}}}, \
             \"error\": null}}\n\
             {{\"response\": {{\"status_code\": 200, \"body\": {body}}}, \"error\": null}}"
        );
        let found = read("a.jsonl", &lines);
        let seen: Vec<_> =
            found.answers.iter().map(|a| (a.answer.as_str(), a.error.as_deref())).collect();
        assert_eq!(seen, [("", Some("too long")), ("No.", None)]);
    }

    #[test]
    fn two_columns_of_one_name_are_refused_if_they_are_read() {
        let said = |table: &str| error("a.csv", table);
        let doubled = |name: &str| format!("a.csv: two columns are named '{name}', expected one");
        assert_eq!(said("prompt,response,response\nq,a,b\n"), doubled("response"));
        assert_eq!(said("prompt,response,prompt\nq,a,r\n"), doubled("prompt"));
        assert_eq!(said("error,response,error\n,a,b\n"), doubled("error"));
        assert_eq!(said("instruction,input,input,output\nq,,x,a\n"), doubled("input"));
        let found = read("a.csv", ",prompt,response,,x,x\n0,q,a,,1,2\n");
        let line = found.answers[0].with([("label", 3.into())]).unwrap();
        let given = r#"{"column 1":"0","prompt":"q","response":"a","column 4":"","x":"1""#;
        assert_eq!(line, format!("{given},\"x (column 6)\":\"2\",\"label\":3}}"));
    }

    #[test]
    fn lists_under_names_and_tables_are_read() {
        let found = read("a.json", r#"{"b1": [{"test_case": "q", "generation": "a"}]}"#);
        let answer = &found.answers[0];
        assert_eq!((answer.request.as_deref(), answer.answer.as_str()), (Some("q"), "a"));
        let found = read("a.tsv", "prompt\tcategory\tresponse\nq\tx\t\nq\t\ta\n");
        let seen: Vec<_> =
            found.answers.iter().map(|a| (a.answer.as_str(), a.set.as_deref())).collect();
        assert_eq!(seen, [("", Some("x")), ("a", None)]);
        let found = read("answers", r#"{"messages": [{"role": "assistant", "content": "a"}]}"#);
        assert_eq!((found.answers[0].request.as_deref(), found.answers.len()), (None, 1));
    }

    #[test]
    fn each_mistake_has_its_sentence() {
        const NONE: &str = "the file holds no answer, expected at least one";
        for (name, text, expected) in [
            ("a.jsonl", " \n", "the file is empty, expected answers"),
            ("a.json", "[]", NONE),
            ("a.csv", "prompt,answer\n", NONE),
            (
                "a.txt",
                "No.",
                "the file is read as lines of text, expected records with fields\nhint: the ending \
                 of its name says what it is: .jsonl, .json, .csv or .tsv",
            ),
            (
                "a.jsonl",
                r#"{"prompt": "q", "x": 1}"#,
                "the record in line 1 has no field with an answer, expected 'response', \
                 'completion', 'generation', 'generated_text', 'output', 'outputs', 'choices', \
                 'message', 'messages', 'conversations', 'resps', 'filtered_resps', 'prediction', \
                 'answer', 'content' or 'text'; it has 'prompt', 'x'",
            ),
            (
                "a.jsonl",
                "{\"answer\": \"a\"}\n{\"answer\": null}",
                "the answer in line 2 is null, expected text in field 'answer'",
            ),
            (
                "a.jsonl",
                "{\"answer\": \"a\"}\n{\"output\": \"b\"}",
                "the answer in line 2 is missing, expected text in field 'answer'",
            ),
            (
                "a.json",
                r#"[{"resps": [["a"]]}, {"resps": [[]]}]"#,
                "the answer at place 2 of the list is a list without text, expected text in field \
                 'resps'",
            ),
            (
                "a.jsonl",
                "{\"answer\": \"a\"}\n{\"answer\" 1}",
                "not JSON at line 2, column 11: expected `:`",
            ),
            (
                "a.jsonl",
                "\"a\"",
                "the record in line 1 is text, expected an object that holds an answer",
            ),
        ] {
            assert_eq!(error(name, text), format!("{name}: {expected}"));
        }
    }

    #[test]
    fn fields_that_are_asked_for_are_read_or_named() {
        let text = r#"{"prompt": "q", "a": {"b": "a"}, "n": 1, "kind": "x"}"#;
        let wanted = |prompt: &str, answer: &str, set: &str| {
            let name = |name: &str| (!name.is_empty()).then(|| name.to_owned());
            WantedFields { prompt: name(prompt), answer: name(answer), set: name(set) }
        };
        let found = file("a.json", text).answers(&wanted("kind", "a.b", "n")).unwrap();
        let answer = &found.answers[0];
        assert_eq!((answer.request.as_deref(), answer.answer.as_str()), (Some("x"), "a"));
        assert_eq!(answer.set.as_deref(), Some("1"));
        for (wanted, expected) in [
            (
                wanted("", "b", ""),
                "no record has a field 'b'; the one in line 1 has 'a', 'kind', 'n', 'prompt'",
            ),
            (wanted("b", "a.b", ""), "no record has a field 'b'; the one in line 1 has"),
            (wanted("", "a.b", "b"), "no record has a field 'b'; the one in line 1 has"),
            (wanted("", "n", ""), "the answer in line 1 is a number, expected text in field 'n'"),
        ] {
            let said = file("a.json", text).answers(&wanted).unwrap_err().to_string();
            assert!(said.contains(expected), "{said}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..<_>::default() })]

        #[test]
        fn any_text_is_read_or_refused(text in "[a\",\t\n{}\\[\\]:1]{0,24}") {
            for name in ["a.jsonl", "a.csv", "a.tsv", "a.txt", "a"] {
                if let Ok(found) = file(name, &text).answers(&WantedFields::default()) {
                    prop_assert!(!found.answers.is_empty());
                }
            }
        }
    }
}
