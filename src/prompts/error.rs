//! What can go wrong with a file of prompts or with a chat template.

use std::io;
use std::path::{Path, PathBuf};

/// A result of this folder.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong between a prompt in a file and the text a model reads. Lines,
/// columns and numbers of prompts count from 1, bytes from 0.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file is malformed.
    #[error("{}: {source}", path.display())]
    InFile {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong.
        source: Box<Error>,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is empty.
    #[error("the file is empty, expected {expected}")]
    Empty {
        /// What it should hold.
        expected: &'static str,
    },
    /// The file holds no prompt.
    #[error("the file holds no prompt")]
    NoPrompts,
    /// The file holds no answer.
    #[error("the file holds no answer, expected at least one")]
    NoAnswers,
    /// Answers stand in fields, and the file has none.
    #[error(
        "the file is read as lines of text, expected records with fields\n\
         hint: the ending of its name says what it is: .jsonl, .json, .csv or .tsv"
    )]
    NoRecords,
    /// A record with an answer is not an object.
    #[error("the record {place} is {found}, expected an object that holds an answer")]
    NotAnObject {
        /// Where it is, e.g. `in line 3`.
        place: String,
        /// What it is.
        found: &'static str,
    },
    /// A record has no field that holds an answer.
    #[error(
        "the record {place} has no field with an answer, expected {expected}; it has {}",
        names_text(found)
    )]
    NoAnswerField {
        /// Where it is, e.g. `in line 3`.
        place: String,
        /// Fields that would do.
        expected: String,
        /// Its fields.
        found: Vec<String>,
    },
    /// No record has a field of the name that was asked for.
    #[error("no record has a field '{field}'; the one {place} has {}", names_text(found))]
    NoSuchField {
        /// Where the first one is, e.g. `in line 3`.
        place: String,
        /// The field.
        field: String,
        /// The first one's fields.
        found: Vec<String>,
    },
    /// A record has no answer where the others have theirs.
    #[error("the answer {place} is {found}, expected text in field '{field}'")]
    NoAnswer {
        /// Where it is, e.g. `in line 3`.
        place: String,
        /// The field.
        field: String,
        /// What it holds.
        found: &'static str,
    },
    /// A set holds fewer prompts than are needed.
    #[error("prompt set '{name}' holds {}, expected at least {needed}", prompts_text(*found))]
    TooFew {
        /// The set.
        name: String,
        /// Prompts in it.
        found: usize,
        /// Prompts needed.
        needed: usize,
    },
    /// A text is not UTF-8.
    #[error(
        "not UTF-8 from byte {offset} on, in line {line}\n\
         hint: save the file as UTF-8, or convert it with iconv"
    )]
    NotUtf8 {
        /// The first bad byte.
        offset: usize,
        /// Number of its line, from 1.
        line: usize,
    },
    /// A text is in another encoding.
    #[error(
        "the text is {found}, expected UTF-8\n\
         hint: save the file as UTF-8, or convert it with iconv"
    )]
    OtherEncoding {
        /// The encoding.
        found: &'static str,
    },
    /// A prompt has no text.
    #[error("the prompt {place} is empty")]
    EmptyPrompt {
        /// Where it is, e.g. `in line 3`.
        place: String,
    },
    /// A text is not JSON.
    #[error("not JSON at line {line}, column {column}: {what}")]
    BadJson {
        /// Number of the line, from 1.
        line: usize,
        /// Number of the character in the line, from 1.
        column: usize,
        /// What is wrong, as the end of a sentence.
        what: String,
    },
    /// A prompt is neither text nor an object.
    #[error("the prompt {place} is {found}, expected text or an object with a field of text")]
    NotARecord {
        /// Where it is, e.g. `in line 3`.
        place: String,
        /// What it is.
        found: &'static str,
    },
    /// An object has no field that holds the prompt.
    #[error(
        "the object {place} has no field {expected}; it has {}\n\
         hint: name the field that holds the prompt",
        names_text(found)
    )]
    NoField {
        /// Where it is, e.g. `in line 3`.
        place: String,
        /// Fields that would do.
        expected: String,
        /// Its fields.
        found: Vec<String>,
    },
    /// A field that should hold text does not.
    #[error("field '{field}' of the object {place} is {found}, expected text")]
    FieldNotText {
        /// Where the object is.
        place: String,
        /// The field.
        field: String,
        /// What it holds.
        found: &'static str,
    },
    /// A table has no column that holds the prompt.
    #[error(
        "no column is named {expected}; there are {}\n\
         hint: name the column that holds the prompt",
        names_text(found)
    )]
    NoColumn {
        /// Columns that would do.
        expected: String,
        /// Its columns.
        found: Vec<String>,
    },
    /// Two columns have the same name.
    #[error("two columns are named '{name}', expected one")]
    TwoColumns {
        /// The name.
        name: String,
    },
    /// A line has another number of fields than the first one.
    #[error("line {line} has {found} fields, expected {expected} as the first line has")]
    WrongFieldCount {
        /// Number of the line, from 1.
        line: usize,
        /// Its fields.
        found: usize,
        /// Fields of the first line.
        expected: usize,
    },
    /// A quote is never closed.
    #[error("the quote that opens in line {line} is never closed")]
    OpenQuote {
        /// The line that it opens in.
        line: usize,
    },
    /// A closing quote is not followed by a separator or the line's end.
    #[error(
        "line {line}: {found:?} follows a closing quote, expected {separator} or the line's end"
    )]
    AfterQuote {
        /// Number of the line, from 1.
        line: usize,
        /// What follows it.
        found: char,
        /// The separator.
        separator: &'static str,
    },
    /// A heading in brackets names no part of a prompt set.
    #[error("line {line}: unknown part [{found}], expected [train], [held-out] or [test]")]
    UnknownPart {
        /// Number of the line, from 1.
        line: usize,
        /// The heading.
        found: String,
    },
    /// A prompt stands before the first heading in brackets.
    #[error("line {line}: a prompt before the first part, expected [train], [held-out] or [test]")]
    BeforeFirstPart {
        /// Number of the line, from 1.
        line: usize,
    },
    /// The model has no chat template.
    #[error("the model has no chat template (tokenizer.chat_template)")]
    NoTemplate,
    /// The chat template is empty.
    #[error("the chat template is empty, expected Jinja that renders the prompt")]
    EmptyTemplate,
    /// The key of the chat template does not hold text.
    #[error("tokenizer.chat_template is not text, expected a Jinja template as UTF-8")]
    TemplateNotText,
    /// The chat template does not parse.
    #[error("the chat template is not Jinja that aird supports, line {line}: {what}")]
    TemplateSyntax {
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong, as the end of a sentence.
        what: String,
    },
    /// The chat template fails while it renders.
    #[error("the chat template fails in line {line}: {what}")]
    TemplateFails {
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong, as the end of a sentence.
        what: String,
    },
    /// The chat template calls `raise_exception`.
    #[error("the chat template declines these messages: {said}")]
    TemplateRaised {
        /// Its message.
        said: String,
    },
    /// The chat template makes the Jinja engine panic.
    #[error("the chat template stops aird's Jinja engine, expected Jinja that it can render")]
    TemplatePanics,
    /// The rendered text does not hold the whole prompt.
    #[error("the chat template leaves out the prompt or a part of it, expected all of it")]
    PromptLeftOut,
    /// The rendered text does not hold the whole system prompt.
    #[error("the chat template leaves out the system prompt or a part of it, expected all of it")]
    SystemLeftOut,
    /// `SOURCE_DATE_EPOCH` is not a number of seconds that a date can be made of.
    #[error("SOURCE_DATE_EPOCH is {found:?}, expected seconds since 1970, up to the year 9999")]
    BadEpoch {
        /// Its value.
        found: String,
    },
}

impl Error {
    /// Names the file an error is about.
    pub(super) fn in_file(self, path: &Path) -> Error {
        Error::InFile { path: path.to_owned(), source: Box::new(self) }
    }
}

fn prompts_text(n: usize) -> String {
    if n == 1 { "1 prompt".into() } else { format!("{n} prompts") }
}

/// `'a', 'b'`, short whatever a file holds.
fn names_text(names: &[String]) -> String {
    const MAX_NAMES: usize = 12;
    const MAX_CHARS: usize = 40;
    if names.is_empty() {
        return "none".into();
    }
    let short = |name: &String| match name.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("'{}...'", &name[..end]),
        None => format!("'{name}'"),
    };
    let mut shown: Vec<String> = names.iter().take(MAX_NAMES).map(short).collect();
    if names.len() > MAX_NAMES {
        shown.push(format!("{} more", names.len() - MAX_NAMES));
    }
    shown.join(", ")
}
