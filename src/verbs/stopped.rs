//! How a verb ends without its report.

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::repair::report::EditReport;
use crate::{
    adapter, checkpoint, compress, direction, eval, gguf, judge, llama, prompts, quant, refit,
    repair, report, stats,
};

/// How a verb ends without its report.
#[derive(Debug)]
#[non_exhaustive]
pub enum Stopped {
    /// The caller asked to stop. What is done of long work is kept where the notes say.
    Interrupted,
    /// A search found no edit that helps within the budget; nothing was written. The report has no
    /// tensors, and all that was tried.
    NothingHelps(Box<EditReport>),
    /// The model has no direction that could be found.
    NoDirection(NoDirection),
    /// Something is wrong.
    Failed(Error),
}

/// Why a model has no direction that could be found.
#[derive(Debug)]
pub struct NoDirection {
    /// The reason.
    pub why: Why,
    /// The reason with its figures.
    pub error: Error,
}

/// The reasons for which a model has no direction: see [`direction::Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It refuses too few harmful prompts.
    HardlyRefuses,
    /// Too few prompts are refused as they should be, or answered.
    TooFewLeft,
    /// No candidate passes the selection.
    NonePasses,
}

/// What `--json` prints in place of a report where a model has no direction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopReport {
    /// How the verb ended.
    pub stopped: StopReason,
}

/// How a verb ended without its report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopReason {
    /// Why the model has no direction.
    pub no_direction: Why,
    /// The reason with its figures, in a sentence.
    pub message: String,
}

impl Why {
    /// The reason that `error` is, or that caused it.
    fn of(error: &(dyn std::error::Error + 'static)) -> Option<Why> {
        let mut next = Some(error);
        while let Some(error) = next {
            match error.downcast_ref() {
                Some(direction::Error::HardlyRefuses { .. }) => return Some(Why::HardlyRefuses),
                Some(direction::Error::TooFewLeft { .. }) => return Some(Why::TooFewLeft),
                Some(direction::Error::NonePasses { .. }) => return Some(Why::NonePasses),
                _ => next = error.source(),
            }
        }
        None
    }
}

impl NoDirection {
    /// As `--json` prints it.
    pub fn report(&self) -> StopReport {
        let message = self.error.to_string();
        StopReport { stopped: StopReason { no_direction: self.why, message } }
    }
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Stopped {
        match Why::of(&error) {
            _ if error.is_interrupt() => Stopped::Interrupted,
            Some(why) => Stopped::NoDirection(NoDirection { why, error }),
            None => Stopped::Failed(error),
        }
    }
}

/// Errors of the folders below stop a verb as errors of this one do.
macro_rules! stops {
    ($($folder:ident),*) => {
        $(impl From<$folder::Error> for Stopped {
            fn from(error: $folder::Error) -> Stopped {
                Error::from(error).into()
            }
        })*
    };
}

stops!(
    adapter, checkpoint, compress, direction, eval, gguf, judge, llama, prompts, quant, refit,
    repair, report, stats
);

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Stopped::Interrupted => write!(f, "interrupted"),
            Stopped::NothingHelps(report) => write!(f, "{}", report.nothing_helps_text()),
            Stopped::NoDirection(NoDirection { error, .. }) | Stopped::Failed(error) => {
                write!(f, "{error}")
            }
        }
    }
}

impl std::error::Error for Stopped {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Stopped::Interrupted | Stopped::NothingHelps(_) => None,
            Stopped::NoDirection(NoDirection { error, .. }) | Stopped::Failed(error) => Some(error),
        }
    }
}
