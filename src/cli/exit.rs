//! Exit codes, decided here alone.

use std::error::Error;
use std::panic::UnwindSafe;

use super::ui::print_error;
use crate::{
    adapter, compress, direction, eval, gguf, judge, llama, quant, refit, repair, stats, study,
};

/// Done.
const DONE: u8 = 0;
/// Something failed.
const FAILED: u8 = 1;
/// A condition of `--fail-if` holds, or nothing within the budget helps.
const GATE: u8 = 3;
/// Ctrl-C, or a polite kill.
pub(super) const INTERRUPTED: u8 = 130;

type Cause<'a> = &'a (dyn Error + 'static);

/// Runs the program; its exit code. An error is printed in one sentence, and so is a panic, which
/// is a fault of ours.
pub fn exit_code_of(run: impl FnOnce() -> anyhow::Result<()> + UnwindSafe) -> u8 {
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let text = text.unwrap_or("it did not say why");
        let place = panic.location().map_or_else(String::new, |at| format!(" at {at}"));
        print_error(&anyhow::anyhow!("internal error{place}: {text}\nhint: please report this"));
    }));
    match std::panic::catch_unwind(run) {
        Ok(Ok(())) => DONE,
        Ok(Err(error)) => {
            print_error(&error);
            code_of(&error)
        }
        Err(_) => FAILED,
    }
}

fn code_of(error: &anyhow::Error) -> u8 {
    match () {
        () if error.chain().any(is_interrupt) => INTERRUPTED,
        () if error.is::<GateFailed>() => GATE,
        () => FAILED,
    }
}

/// The work is done and its results are printed, but a condition that must not hold does.
#[derive(Debug, thiserror::Error)]
#[error("{said}")]
pub(super) struct GateFailed {
    said: String,
}

impl GateFailed {
    /// With the condition and the figure.
    pub(super) fn new(said: String) -> GateFailed {
        GateFailed { said }
    }
}

fn is_interrupt(cause: Cause<'_>) -> bool {
    if let Some(error) = cause.downcast_ref::<gguf::Error>() {
        return error.is_interrupted();
    }
    if let Some(llama::Error::Interrupted) = cause.downcast_ref() {
        return true;
    }
    inside(cause).is_some_and(is_interrupt)
}

/// What a transparent wrapper wraps: it shows its inner error's sources, not the error itself.
fn inside(cause: Cause<'_>) -> Option<Cause<'_>> {
    inside_of_weights(cause).or_else(|| inside_of_models(cause))
}

/// The same, of what is done with weights.
fn inside_of_weights(cause: Cause<'_>) -> Option<Cause<'_>> {
    if let Some(error) = cause.downcast_ref() {
        return match error {
            quant::Error::Gguf(e) => Some(e),
            _ => None,
        };
    }
    if let Some(error) = cause.downcast_ref() {
        return match error {
            adapter::Error::Gguf(e) => Some(e),
            adapter::Error::Quant(e) => Some(e),
            _ => None,
        };
    }
    if let Some(error) = cause.downcast_ref() {
        return match error {
            stats::Error::Gguf(e) => Some(e),
            stats::Error::Engine(e) => Some(e),
            _ => None,
        };
    }
    if let Some(error) = cause.downcast_ref() {
        return match error {
            compress::Error::Gguf(e) => Some(e),
            compress::Error::Quant(e) => Some(e),
            compress::Error::Stats(e) => Some(e),
            _ => None,
        };
    }
    match cause.downcast_ref()? {
        refit::Error::Gguf(e) => Some(e),
        refit::Error::Quant(e) => Some(e),
        refit::Error::Llama(e) => Some(e),
        _ => None,
    }
}

/// The same, of what is done with models.
fn inside_of_models(cause: Cause<'_>) -> Option<Cause<'_>> {
    if let Some(error) = cause.downcast_ref() {
        return match error {
            direction::Error::Gguf(e) => Some(e),
            direction::Error::Llama(e) => Some(e),
            _ => None,
        };
    }
    if let Some(error) = cause.downcast_ref() {
        return match error {
            eval::Error::Gguf(e) => Some(e),
            eval::Error::Llama(e) => Some(e),
            eval::Error::Direction(e) => Some(e),
            _ => None,
        };
    }
    if let Some(error) = cause.downcast_ref() {
        return match error {
            judge::Error::Llama(e) => Some(e),
            _ => None,
        };
    }
    if let Some(error) = cause.downcast_ref() {
        return match error {
            study::Error::Gguf(e) => Some(e),
            study::Error::Llama(e) => Some(e),
            _ => None,
        };
    }
    match cause.downcast_ref()? {
        repair::Error::Gguf(e) => Some(e),
        repair::Error::Quant(e) => Some(e),
        repair::Error::Llama(e) => Some(e),
        repair::Error::Direction(e) => Some(e),
        _ => None,
    }
}
