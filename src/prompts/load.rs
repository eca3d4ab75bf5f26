//! Files of prompts: JSON, JSON lines, CSV, a line each, or our own format with parts.

use std::path::Path;

use super::csv::parse_csv;
use super::error::{Error, Result};
use super::field::{
    Draft, answer_field, category_field, expected_text, id_field, input_field, prompt_field, settle,
};
use super::json::{looks_like_json, parse_json};
use super::part::{has_parts, parse_parts};
use super::set::{Prompt, PromptSet};

/// Reads the prompts of a file.
///
/// The name's ending says what it is: `.json`, `.jsonl`, `.ndjson` and `.csv`, where a field or
/// column named `field`, or by one of the usual names, holds the prompt; `.txt`, with a prompt a
/// line or in the format of the sets that aird brings along, of which all parts are read. Under
/// any other name it is taken for JSON if it is that, for lines otherwise.
///
/// # Errors
/// The file cannot be read, is not what its name says, or holds no prompt.
pub fn load(path: &Path, field: Option<&str>) -> Result<PromptSet> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let bytes = std::fs::read(path).map_err(io)?;
    let prompts = parse(path, &bytes, field).map_err(|e| e.in_file(path))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(PromptSet::new(name, prompts))
}

/// The text of a file, which must be UTF-8.
///
/// # Errors
/// The file cannot be read, is empty or not UTF-8.
pub fn read_text(path: &Path) -> Result<String> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let bytes = std::fs::read(path).map_err(io)?;
    let text = utf8(&bytes).map_err(|e| e.in_file(path))?;
    if text.trim().is_empty() { Err(Error::Empty.in_file(path)) } else { Ok(text.to_owned()) }
}

enum Format {
    Json,
    Csv,
    Parts,
    Lines,
}

fn format_of(path: &Path, text: &str) -> Format {
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    match ending.as_str() {
        "json" | "jsonl" | "ndjson" => Format::Json,
        "csv" => Format::Csv,
        _ if has_parts(text) => Format::Parts,
        "txt" => Format::Lines,
        _ if looks_like_json(text) => Format::Json,
        _ => Format::Lines,
    }
}

fn parse(path: &Path, bytes: &[u8], field: Option<&str>) -> Result<Vec<Prompt>> {
    let text = utf8(bytes)?;
    if text.is_empty() {
        return Err(Error::Empty);
    }
    let prompts = match format_of(path, text) {
        Format::Json => settle(parse_json(text, field)?)?,
        Format::Csv => settle(parse_table(text, field)?)?,
        Format::Parts => parse_parts(text)?.into_iter().map(|(_, prompt)| prompt).collect(),
        Format::Lines => settle(parse_lines(text))?,
    };
    if prompts.is_empty() { Err(Error::NoPrompts) } else { Ok(prompts) }
}

/// The text without its byte order mark.
fn utf8(bytes: &[u8]) -> Result<&str> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let offset = e.valid_up_to();
        let line = 1 + bytes[..offset].iter().filter(|&&b| b == b'\n').count();
        Error::NotUtf8 { offset, line }
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

fn parse_table(text: &str, field: Option<&str>) -> Result<Vec<Draft>> {
    let mut rows = parse_csv(text)?.into_iter();
    let Some(heading) = rows.next() else { return Ok(Vec::new()) };
    let names: Vec<&str> = heading.fields.iter().map(|name| name.trim()).collect();
    let index_of = |name: Option<&str>| names.iter().position(|&n| Some(n) == name);
    let Some(prompt) = index_of(prompt_field(&names, field)) else {
        let found = names.iter().map(|&name| name.into()).collect();
        return Err(Error::NoColumn { expected: expected_text(field), found });
    };
    let (id, category) = (index_of(id_field(&names)), index_of(category_field(&names)));
    let input = index_of(input_field(&names, names[prompt]));
    let answer = index_of(answer_field(&names)).filter(|index| *index != prompt);
    rows.map(|mut row| {
        let (line, found, expected) = (row.line, row.fields.len(), names.len());
        if found != expected {
            return Err(Error::WrongFieldCount { line, found, expected });
        }
        let mut cell = |index: usize| std::mem::take(&mut row.fields[index]);
        let text = cell(prompt);
        let mut filled = |index| Some(cell(index?)).filter(|text| !text.is_empty());
        let (id, category) = (filled(id), filled(category));
        let (input, answer) = (filled(input), filled(answer));
        Ok(Draft { place: format!("in line {line}"), id, text, input, category, answer })
    })
    .collect()
}

/// Blank lines are no prompts; what no eye sees at a line's end is no part of one.
fn parse_lines(text: &str) -> Vec<Draft> {
    let lines = (1..).zip(text.lines().map(str::trim_end)).filter(|(_, line)| !line.is_empty());
    let draft = |(line, text): (usize, &str)| Draft {
        place: format!("in line {line}"),
        id: None,
        text: text.into(),
        input: None,
        category: None,
        answer: None,
    };
    lines.map(draft).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompts(name: &str, text: &str) -> Vec<Prompt> {
        parse(Path::new(name), text.as_bytes(), None).unwrap()
    }

    fn texts(name: &str, text: &str) -> Vec<String> {
        prompts(name, text).into_iter().map(|p| p.text).collect()
    }

    fn error(name: &str, bytes: &[u8], field: Option<&str>) -> String {
        parse(Path::new(name), bytes, field).unwrap_err().to_string()
    }

    #[test]
    fn the_ending_says_what_a_file_is_and_else_the_content() {
        for (name, text) in [
            ("a.json", r#"["a", "b"]"#),
            ("a.JSON", "{\"text\": \"a\"}\n{\"text\": \"b\"}"),
            ("a.jsonl", "\"a\"\n\"b\""),
            ("a.csv", "prompt\na\nb\n"),
            ("a.txt", "a\n\nb \r\n"),
            ("a.txt", "# ours\n[test]\nx\ta\ny\tb\n"),
            ("a", "[\"a\", \"b\"]"),
            ("a.md", "a\nb"),
        ] {
            assert_eq!(texts(name, text), ["a", "b"], "{name}: {text}");
        }
        assert_eq!(texts("a.txt", "[\"a\"]\n# b"), ["[\"a\"]", "# b"]);
    }

    #[test]
    fn a_table_gives_text_id_and_category() {
        let table =
            "\u{feff}id,prompt,type,label\r\nx1,\"How, so?\",homonyms,safe\r\nx2,Why?,,\r\n";
        let prompt = |id: &str, text: &str, category: Option<&str>| Prompt {
            id: id.into(),
            text: text.into(),
            category: category.map(str::to_owned),
            answer: None,
        };
        let expected = [prompt("x1", "How, so?", Some("homonyms")), prompt("x2", "Why?", None)];
        assert_eq!(prompts("a.csv", table), expected);
    }

    #[test]
    fn one_column_may_be_prompt_and_nothing_else() {
        let set = parse(Path::new("a.csv"), b"id,prompt\nwhy,no\n", Some("id")).unwrap();
        assert_eq!((set[0].text.as_str(), set[0].id.as_str()), ("why", "1"));
    }

    #[test]
    fn each_mistake_has_its_sentence() {
        let none = "there is no prompt in it";
        for (name, bytes, expected) in [
            ("a.txt", &b""[..], "the file is empty, expected prompts"),
            ("a.json", b"\xef\xbb\xbf", "the file is empty, expected prompts"),
            ("a.txt", b" \n\n", none),
            ("a.json", b"[]", none),
            ("a.jsonl", b"\n", none),
            ("a.csv", b"prompt\n", none),
            ("a.csv", b"\n", none),
            ("a.txt", b"[train]\n# none yet\n", none),
            ("a.csv", b"prompt\n\" \"\n", "the prompt in line 2 is empty"),
            ("a.json", b"[\"a\", \"\"]", "the prompt at place 2 of the list is empty"),
            (
                "a.txt",
                b"a\nb\xff",
                "not UTF-8 from byte 3 on, in line 2\n\
                 hint: save the file as UTF-8, or convert it with iconv",
            ),
            (
                "a.csv",
                b"premise,label\na,1\n",
                "no column is named 'instruction', 'prompt', 'goal', 'Behavior', 'question' or \
                 'text'; there are 'premise', 'label'\nhint: say which column holds the prompt",
            ),
            (
                "a.csv",
                b"prompt,label\na,1\nb\n",
                "line 3 has 1 fields, expected 2 as the first line has",
            ),
        ] {
            assert_eq!(error(name, bytes, None), expected, "{name}");
        }
        assert!(
            error("a.csv", b"prompt\na\n", Some("goal")).starts_with("no column is named 'goal'")
        );
    }
}
