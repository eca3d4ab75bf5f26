//! Whether an error is about the machine, which lacks memory or threads, or about the file.

/// Words in llama.cpp's and the system's messages that say that this machine lacks something, which
/// says nothing about the file.
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

/// True if `said` speaks of what this machine lacks, not of a file.
pub(super) fn is_shortage(said: &str) -> bool {
    let lower = said.to_lowercase();
    WORDS.iter().any(|words| lower.contains(words))
}
