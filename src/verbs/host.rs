//! Who runs a verb: the command line, a test, a program that uses the library.

use std::fmt::Display;

use crate::gguf::{Unwatched, Watch};
use crate::llama::Prober;

/// How much a note matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// What was done.
    Done,
    /// A detail, for those who ask for more.
    Detail,
    /// What should be known before the result is trusted.
    Warning,
}

/// Hears progress and notes, may interrupt the work, and lends the program in which a model is
/// tried that llama.cpp might abort on.
pub trait Host: Watch {
    /// Hears a note, at the moment when it is known.
    fn note(&self, _note: Note, _text: &str) {}

    /// How a model is tried. The default tries it in this process, which ends with it where
    /// llama.cpp aborts.
    fn prober(&self) -> Prober {
        Prober::in_this_process()
    }
}

impl dyn Host + '_ {
    /// Notes what was done.
    pub fn say(&self, text: impl Display) {
        self.note(Note::Done, &text.to_string());
    }

    /// Notes a detail.
    pub fn detail(&self, text: impl Display) {
        self.note(Note::Detail, &text.to_string());
    }

    /// Notes what should be known before the result is trusted.
    pub fn warn(&self, text: impl Display) {
        self.note(Note::Warning, &text.to_string());
    }
}

impl Host for Unwatched {}
