//! Exit codes, decided here alone.

use std::error::Error;
use std::io;

use super::ui::print_error;
use crate::{adapter, direction, gguf, llama, quant, stats};

/// Done.
pub const DONE: u8 = 0;
/// Something failed.
const FAILED: u8 = 1;
/// Ctrl-C, or a polite kill.
pub(super) const INTERRUPTED: u8 = 130;

type Cause<'a> = &'a (dyn Error + 'static);

/// Prints `error` to stderr and chooses the exit code. A reader that closed the pipe has what it
/// wanted: that is success, and silent.
pub fn report(error: &anyhow::Error) -> u8 {
    if error.chain().any(is_broken_pipe) {
        return DONE;
    }
    print_error(error);
    if error.chain().any(is_interrupt) { INTERRUPTED } else { FAILED }
}

fn is_broken_pipe(cause: Cause<'_>) -> bool {
    cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

fn is_interrupt(cause: Cause<'_>) -> bool {
    if let Some(error) = cause.downcast_ref::<gguf::Error>() {
        return error.is_interrupted();
    }
    if let Some(llama::Error::Interrupted) = cause.downcast_ref() {
        return true;
    }
    // Transparent wrappers show their inner error's sources, not the inner error itself.
    if let Some(error) = cause.downcast_ref::<adapter::Error>() {
        return match error {
            adapter::Error::Gguf(e) => is_interrupt(e),
            adapter::Error::Quant(e) => is_interrupt(e),
            _ => false,
        };
    }
    match (cause.downcast_ref(), cause.downcast_ref(), cause.downcast_ref()) {
        (Some(quant::Error::Gguf(e)), ..) => is_interrupt(e),
        (_, Some(stats::Error::Gguf(e)), _) => is_interrupt(e),
        (_, Some(stats::Error::Engine(e)), _) => is_interrupt(e),
        (.., Some(direction::Error::Gguf(e))) => is_interrupt(e),
        (.., Some(direction::Error::Llama(e))) => is_interrupt(e),
        _ => false,
    }
}
