//! What models can run on: this machine's processors, and those of workers.

use serde::{Deserialize, Serialize};

use super::host::Host;
use super::stopped::Stopped;
pub use crate::llama::Device;
use crate::llama::{Workers, devices};

/// Whose devices.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Workers to ask besides this machine.
    pub workers: Workers,
}

/// The devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// In llama.cpp's order.
    pub devices: Vec<Device>,
}

/// Lists the devices.
///
/// # Errors
/// llama.cpp does not start, or a worker cannot be reached.
pub fn run(request: &Request, _: &dyn Host) -> Result<Report, Stopped> {
    Ok(Report { devices: devices(request.workers)? })
}
