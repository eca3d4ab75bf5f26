//! Exit codes, decided here alone.

use std::panic::UnwindSafe;

use super::hints::hint;
use super::signals::INTERRUPTED;
use super::ui::print_error;
use crate::verbs::{Stopped, is_interrupt};

/// Done.
const DONE: u8 = 0;
/// Something failed.
const FAILED: u8 = 1;
/// A condition of `--fail-if` holds, or nothing within the budget helps.
const GATE: u8 = 3;

/// Runs the program; its exit code. An error is printed in one sentence, and so is a panic, which
/// is a fault of ours.
pub fn exit_code_of(run: impl FnOnce() -> anyhow::Result<()> + UnwindSafe) -> u8 {
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let text = text.unwrap_or("it gave no reason");
        let place = panic.location().map_or_else(String::new, |at| format!(" at {at}"));
        let error = anyhow::anyhow!("internal error{place}: {text}");
        print_error(&error, Some("please report this".into()));
    }));
    match std::panic::catch_unwind(run) {
        Ok(Ok(())) => DONE,
        Ok(Err(error)) => {
            print_error(&error, hint(&error));
            code_of(&error)
        }
        Err(_) => FAILED,
    }
}

fn code_of(error: &anyhow::Error) -> u8 {
    match () {
        () if matches!(error.downcast_ref(), Some(Stopped::Interrupted)) => INTERRUPTED,
        () if is_interrupt(error.as_ref()) => INTERRUPTED,
        () if matches!(error.downcast_ref(), Some(Stopped::NothingHelps(_))) => GATE,
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
