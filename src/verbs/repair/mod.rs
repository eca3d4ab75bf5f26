//! Bring a compressed model back to its original, or strengthen its refusal direction.

mod adapter;
mod aim;
mod beside;
mod destination;
mod edit;
mod folder;
mod in_place;
mod original;
mod refitted;
pub(super) mod report;
mod request;
mod restore;
mod texts;

use std::time::Instant;

pub(crate) use self::report::NothingFound;
pub use self::report::{
    AimReport, ArrivedReport, EditReport, PlannedRestore, Report, RestoreReport,
};
use self::request::Repair;
pub use self::request::{
    AdapterFormat, Aim, Destination, DirectionSource, EditAfterRestore, EditSetup, Method,
    N_TOKENS, Original, PRIOR, RANK, Request, RestoreSetup, SAFETY_SHARE,
};
use super::error::Error;
use super::host::Host;
use super::stopped::Stopped;
use crate::adapter::check_modules;
use crate::gguf::Model;

/// Repairs a model.
///
/// # Errors
/// [`Stopped::NothingHelps`] where a search finds no edit within the budget, and
/// [`Stopped::NoDirection`] where the original has no direction; a reference or a direction of
/// another model; the disk's; an interrupt.
pub fn run(request: &Request, host: &dyn Host) -> Result<Report, Stopped> {
    let repair = Repair { request, host, begun: Instant::now() };
    if let Destination::Adapter { path, format: AdapterFormat::Peft { force }, .. } =
        &request.destination
    {
        folder::check_folder(path, *force)?;
        check_modules(&Model::open(&request.model)?).map_err(Error::from)?;
    }
    match &request.method {
        Method::Restore(setup) => Ok(Report::Restored(repair.restore(setup)?)),
        Method::Aird(setup) => Ok(Report::Edited(repair.strengthen(setup)?)),
    }
}
