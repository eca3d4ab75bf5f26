//! How a long operation reports to its caller without printing.

/// Hears how far the work is, and is asked whether to go on; from several threads at once. Every
/// method may be left out.
pub trait Watch: Sync {
    /// A stage begins that is counted in bytes: what it does, in a word or two, and how many there
    /// are; 0 where that is not known.
    fn stage(&self, _what: &str, _bytes: u64) {}
    /// `bytes` more of the stage are done.
    fn advance(&self, _bytes: u64) {}
    /// A stage that is counted in parts: `done` of `of` are done. Another `what` is another stage.
    fn part(&self, _what: &str, _done: usize, _of: usize) {}
    /// True once the caller wants the work to stop.
    fn interrupted(&self) -> bool {
        false
    }
}

/// Hears nothing and never stops the work.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unwatched;

impl Watch for Unwatched {}
