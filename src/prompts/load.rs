//! Files of prompts: JSON, JSON lines, CSV, TSV, one per line, or aird's own format with parts.

use std::path::Path;

use super::csv::{Separator, parse_csv};
use super::error::{Error, Result};
use super::field::{
    Draft, answer_field, category_field, expected_text, id_field, input_field, prompt_field, settle,
};
use super::json::{looks_like_json, parse_json};
use super::part::{has_parts, parse_parts};
use super::set::{Prompt, PromptSet};
use super::text::TextFile;

/// Reads the prompts of a file, as [`TextFile::prompts`] does.
///
/// # Errors
/// The file cannot be read, is not of the type of its name, or holds no prompt.
pub fn load(path: &Path, field: Option<&str>) -> Result<PromptSet> {
    TextFile::read(path)?.prompts(field)
}

impl TextFile {
    /// The prompts of the file.
    ///
    /// The name's ending decides the format. `.json`, `.jsonl`, `.ndjson`, `.csv` and `.tsv`: a
    /// field or column named `field`, or by one of the usual names, holds the prompt. `.txt`: one
    /// prompt per line, or the format of the sets that come with aird, of which all parts are read.
    /// Any other name is read as JSON if it is JSON, else as lines.
    ///
    /// # Errors
    /// The file is not of the type of its name, or holds no prompt.
    pub fn prompts(&self, field: Option<&str>) -> Result<PromptSet> {
        let prompts = parse(&self.path, &self.text, field).map_err(|e| e.in_file(&self.path))?;
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        Ok(PromptSet::new(name, prompts))
    }

    /// True if the file holds records with named fields, not running text.
    pub fn holds_records(&self) -> bool {
        matches!(format_of(&self.path, &self.text), Format::Json | Format::Table(_))
    }

    /// The text, if it is not empty.
    ///
    /// # Errors
    /// The file is empty.
    pub fn filled(self) -> Result<String> {
        match self.text.trim().is_empty() {
            true => Err(Error::Empty { expected: "text" }.in_file(&self.path)),
            false => Ok(self.text),
        }
    }
}

/// What a file is read as.
pub(super) enum Format {
    Json,
    Table(Separator),
    Parts,
    Lines,
}

/// The format of a file, by the ending of its name or by its text.
pub(super) fn format_of(path: &Path, text: &str) -> Format {
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    match ending.as_str() {
        "json" | "jsonl" | "ndjson" => Format::Json,
        "csv" => Format::Table(Separator::Comma),
        "tsv" => Format::Table(Separator::Tab),
        _ if has_parts(text) => Format::Parts,
        "txt" => Format::Lines,
        _ if looks_like_json(text) => Format::Json,
        _ => Format::Lines,
    }
}

fn parse(path: &Path, text: &str, field: Option<&str>) -> Result<Vec<Prompt>> {
    if text.is_empty() {
        return Err(Error::Empty { expected: "prompts" });
    }
    let prompts = match format_of(path, text) {
        Format::Json => settle(parse_json(text, field)?)?,
        Format::Table(separator) => settle(parse_table(text, separator, field)?)?,
        Format::Parts => parse_parts(text)?.into_iter().map(|(_, prompt)| prompt).collect(),
        Format::Lines => settle(parse_lines(text))?,
    };
    if prompts.is_empty() { Err(Error::NoPrompts) } else { Ok(prompts) }
}

fn parse_table(text: &str, separator: Separator, field: Option<&str>) -> Result<Vec<Draft>> {
    let mut rows = parse_csv(text, separator)?.into_iter();
    let Some(heading) = rows.next() else { return Ok(Vec::new()) };
    let names: Vec<&str> = heading.fields.iter().map(|name| name.trim()).collect();
    let index_of = |name: Option<&str>| names.iter().position(|&n| Some(n) == name);
    let Some(prompt) = index_of(prompt_field(&names, field)) else {
        let found = names.iter().map(|&name| name.into()).collect();
        return Err(Error::NoColumn { expected: expected_text(field), found });
    };
    if names.iter().filter(|&&name| name == names[prompt]).count() > 1 {
        return Err(Error::TwoColumns { name: names[prompt].into() });
    }
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

/// Blank lines are not prompts; invisible characters at a line's end are not part of one.
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
        parse(Path::new(name), text, None).unwrap()
    }

    fn texts(name: &str, text: &str) -> Vec<String> {
        prompts(name, text).into_iter().map(|p| p.text).collect()
    }

    fn error(name: &str, text: &str, field: Option<&str>) -> String {
        parse(Path::new(name), text, field).unwrap_err().to_string()
    }

    #[test]
    fn the_ending_says_what_a_file_is_and_else_the_content() {
        for (name, text) in [
            ("a.json", r#"["a", "b"]"#),
            ("a.JSON", "{\"text\": \"a\"}\n{\"text\": \"b\"}"),
            ("a.jsonl", "\"a\"\n\"b\""),
            ("a.csv", "prompt\na\nb\n"),
            ("a.tsv", "id\tprompt\n1\ta\n2\tb\n"),
            ("a.TSV", "prompt\n\"a\"\nb\n"),
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
        let table = "id,prompt,type,label\r\nx1,\"How, so?\",homonyms,safe\r\nx2,Why?,,\r\n";
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
        let set = parse(Path::new("a.csv"), "id,prompt\nwhy,no\n", Some("id")).unwrap();
        assert_eq!((set[0].text.as_str(), set[0].id.as_str()), ("why", "1"));
    }

    #[test]
    fn each_mistake_has_its_sentence() {
        let none = "the file holds no prompt";
        for (name, text, expected) in [
            ("a.txt", "", "the file is empty, expected prompts"),
            ("a.txt", " \n\n", none),
            ("a.json", "[]", none),
            ("a.jsonl", "\n", none),
            ("a.csv", "prompt\n", none),
            ("a.csv", "\n", none),
            ("a.txt", "[train]\n# none yet\n", none),
            ("a.csv", "prompt\n\" \"\n", "the prompt in line 2 is empty"),
            ("a.json", "[\"a\", \"\"]", "the prompt at place 2 of the list is empty"),
            (
                "a.csv",
                "premise,label\na,1\n",
                "no column is named 'instruction', 'prompt', 'goal', 'Behavior', 'question' or \
                 'text'; there are 'premise', 'label'\nhint: name the column that holds the prompt",
            ),
            ("a.csv", "prompt,prompt\na,b\n", "two columns are named 'prompt', expected one"),
            (
                "a.csv",
                "prompt,label\na,1\nb\n",
                "line 3 has 1 fields, expected 2 as the first line has",
            ),
        ] {
            assert_eq!(error(name, text, None), expected, "{name}");
        }
        assert!(
            error("a.csv", "prompt\na\n", Some("goal")).starts_with("no column is named 'goal'")
        );
    }
}
