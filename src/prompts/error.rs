//! What can be wrong with a file of prompts or with a chat template.

use std::io;
use std::path::{Path, PathBuf};

/// A result of this folder.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong between a prompt in a file and the text a model reads. Lines,
/// columns and numbers of prompts count from 1, bytes from 0.
#[allow(missing_docs)] // the sentence of each variant is its documentation
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}: {source}", path.display())]
    InFile { path: PathBuf, source: Box<Error> },
    #[error("cannot read {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },

    #[error("the file is empty, expected prompts")]
    Empty,
    #[error("there is no prompt in it")]
    NoPrompts,
    #[error("prompt set '{name}' holds {}, expected at least {needed}", prompts_text(*found))]
    TooFew { name: String, found: usize, needed: usize },
    #[error(
        "not UTF-8 from byte {offset} on, in line {line}\n\
         hint: save the file as UTF-8, or convert it with iconv"
    )]
    NotUtf8 { offset: usize, line: usize },
    #[error(
        "the text is {found}, expected UTF-8\n\
         hint: save the file as UTF-8, or convert it with iconv"
    )]
    OtherEncoding { found: &'static str },
    #[error("the prompt {place} is empty")]
    EmptyPrompt { place: String },

    #[error("not JSON at line {line}, column {column}: {what}")]
    BadJson { line: usize, column: usize, what: String },
    #[error("the prompt {place} is {found}, expected text or an object with a field of text")]
    NotARecord { place: String, found: &'static str },
    #[error(
        "the object {place} has no field {expected}; it has {}\n\
         hint: say which field holds the prompt",
        names_text(found)
    )]
    NoField { place: String, expected: String, found: Vec<String> },
    #[error("field '{field}' of the object {place} is {found}, expected text")]
    FieldNotText { place: String, field: String, found: &'static str },

    #[error(
        "no column is named {expected}; there are {}\n\
         hint: say which column holds the prompt",
        names_text(found)
    )]
    NoColumn { expected: String, found: Vec<String> },
    #[error("two columns are named '{name}', expected one")]
    TwoColumns { name: String },
    #[error("line {line} has {found} fields, expected {expected} as the first line has")]
    WrongFieldCount { line: usize, found: usize, expected: usize },
    #[error("the quote that opens in line {line} is never closed")]
    OpenQuote { line: usize },
    #[error(
        "line {line}: {found:?} follows a closing quote, expected {separator} or the line's end"
    )]
    AfterQuote { line: usize, found: char, separator: &'static str },

    #[error("line {line}: unknown part [{found}], expected [train], [held-out] or [test]")]
    UnknownPart { line: usize, found: String },
    #[error("line {line}: a prompt before the first part, expected [train], [held-out] or [test]")]
    BeforeFirstPart { line: usize },

    #[error("the model brings no chat template along (tokenizer.chat_template)")]
    NoTemplate,
    #[error("the chat template is empty, expected Jinja that renders the prompt")]
    EmptyTemplate,
    #[error("tokenizer.chat_template is no text, expected a Jinja template as UTF-8")]
    TemplateNotText,
    #[error("the chat template is no Jinja that aird knows, line {line}: {what}")]
    TemplateSyntax { line: usize, what: String },
    #[error("the chat template fails in line {line}: {what}")]
    TemplateFails { line: usize, what: String },
    #[error("the chat template declines these messages: {said}")]
    TemplateRaised { said: String },
    #[error("the chat template stops aird's Jinja engine, expected Jinja that it can render")]
    TemplatePanics,
    #[error("the chat template leaves out the prompt or a part of it, expected all of it")]
    PromptLeftOut,
    #[error("the chat template leaves out the system prompt or a part of it, expected all of it")]
    SystemLeftOut,
    #[error("SOURCE_DATE_EPOCH is {found:?}, expected seconds since 1970, up to the year 9999")]
    BadEpoch { found: String },
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
