//! Bring a compressed model back to its original, or strengthen its refusal direction.

mod adapter;
mod aim;
mod beside;
mod destination;
mod edit;
mod in_place;
mod original;
mod report;
mod restore;
mod texts;

use std::path::PathBuf;

pub use self::aim::{Aim, AimReport, EditAfterRestore};
pub use self::destination::Destination;
pub use self::edit::EditSetup;
pub use self::original::{DirectionSource, Original};
pub(crate) use self::report::NothingFound;
pub use self::report::{ArrivedReport, EditReport, PlannedRestore, Report, RestoreReport};
pub use self::restore::{N_TOKENS, PRIOR, RANK, RestoreSetup, SAFETY_SHARE};
use super::chat::ChatSetup;
use super::error::Stopped;
use super::host::Host;
use super::search::{SearchSetup, Searcher};
use crate::llama::Options;

/// What to repair, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// A GGUF file; any shard of a split one.
    pub model: PathBuf,
    /// What is done to it.
    pub method: Method,
    /// What is written.
    pub destination: Destination,
    /// Write nothing: only report what would be written. A search is made all the same.
    pub dry_run: bool,
    /// How prompts are put to the model and to its original.
    pub chat: ChatSetup,
    /// How llama.cpp runs.
    pub engine: Options,
}

/// How a model is repaired.
#[derive(Debug, Clone, PartialEq)]
pub enum Method {
    /// Refit every matrix of the blocks to what the original computes.
    Restore(RestoreSetup),
    /// `W + alpha r r^T W` on chosen blocks, r the original's refusal direction.
    Aird(EditSetup),
}

/// Repairs a model.
///
/// # Errors
/// [`Stopped::NothingHelps`] where a search finds no edit within the budget, and
/// [`Stopped::NoDirection`] where the original has no direction; a reference or a direction of
/// another model; the disk's; an interrupt.
pub fn run(request: &Request, host: &dyn Host) -> Result<Report, Stopped> {
    let repair = Repair { request, host };
    match &request.method {
        Method::Restore(setup) => Ok(Report::Restored(repair.restore(setup)?)),
        Method::Aird(setup) => Ok(Report::Edited(repair.strengthen(setup)?)),
    }
}

/// A repair under way.
#[derive(Clone, Copy)]
struct Repair<'a> {
    request: &'a Request,
    host: &'a dyn Host,
}

impl<'a> Repair<'a> {
    fn searcher(&self, setup: &'a SearchSetup) -> Searcher<'a> {
        let Request { chat, engine, .. } = self.request;
        Searcher { setup, chat, engine: *engine, host: self.host }
    }
}
