//! Tells apart errors about the machine, which lacks memory or threads, and errors about the file.

/// Words of llama.cpp's and the system's messages that mean: this machine lacks something. Such a
/// message is not about the file.
const WORDS: [&str; 9] = [
    "mem_buffer != null",
    "insufficient memory",
    "failed to allocate",
    "unable to allocate",
    "bad_alloc",
    "out of memory",
    "cannot allocate",
    "thread creation failed",
    "resource temporarily unavailable",
];

/// True if the message `said` is about what this machine lacks, not about a file.
pub(super) fn is_shortage(said: &str) -> bool {
    let lower = said.to_lowercase();
    WORDS.iter().any(|words| lower.contains(words))
}
