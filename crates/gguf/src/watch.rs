//! How a long operation reports its progress without printing, and learns that it should stop.

/// What the caller of a long operation implements to show its progress, and to stop it. Methods are
/// called from several threads at once. Each has a default that does nothing.
pub trait Watch: Sync {
    /// A stage begins that is counted in bytes. `what` names it in a word or two ("reading back");
    /// `bytes` are what it has to do, 0 if that is not known.
    fn stage(&self, _what: &str, _bytes: u64) {}
    /// The stage has done `bytes` more.
    fn advance(&self, _bytes: u64) {}
    /// Of a stage that is counted in parts, `done` of `of` are done. A new `what` is a new stage.
    /// This crate has no such stage: it is for operations that are built on it.
    fn part(&self, _what: &str, _done: usize, _of: usize) {}
    /// Whether the work should stop. It is asked every few megabytes; after a `true` the operation
    /// ends with [`Error::Interrupted`](crate::Error::Interrupted), and its outputs are as they
    /// were.
    fn interrupted(&self) -> bool {
        false
    }
}

/// The watch that shows nothing and never stops the work.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unwatched;

impl Watch for Unwatched {}
