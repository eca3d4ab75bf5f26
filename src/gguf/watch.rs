//! How a long operation talks to its caller without printing.

/// Told about progress, asked whether to go on; by several threads at once.
pub trait Watch: Sync {
    /// A new stretch of work begins: what it is, in a word or two, and its bytes.
    fn stage(&self, _what: &str, _bytes: u64) {}
    /// So many more bytes are done.
    fn advance(&self, _bytes: u64) {}
    /// True once the user asked to stop.
    fn interrupted(&self) -> bool {
        false
    }
}

/// Watches nothing.
pub struct Unwatched;

impl Watch for Unwatched {}
