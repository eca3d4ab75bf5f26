//! Prompts and how a model is asked: sets of prompts and their file formats, the sets that come
//! with aird, and the chat template that turns a prompt into the text a model reads. Files of
//! answers, too: they have the same formats.
//!
//! A [`ChatTemplate`] renders as Hugging Face's `apply_chat_template` does; the text it returns
//! holds special tokens as text, so it is tokenized with those parsed, and with a BOS
//! in front only where [`ChatTemplate::adds_bos`] is false.

mod answer_fields;
mod answers;
mod builtin;
mod clock;
mod csv;
mod error;
mod field;
mod filters;
mod generation;
mod jinja;
mod json;
mod load;
mod methods;
mod part;
mod records;
mod set;
mod shown;
mod special;
mod strings;
mod suffix;
mod template;
mod text;
mod tojson;

pub use answer_fields::{AnswerFields, WantedFields};
pub use answers::{AnswerFile, GivenAnswer};
pub use builtin::{borderline, harmful, harmless, reading};
pub use error::{Error, Result};
pub use load::load;
pub use part::Part;
pub use set::{Prompt, PromptSet};
pub use special::SpecialTokens;
pub use suffix::common_suffix_len;
pub use template::{ChatTemplate, Message};
pub use text::TextFile;
