//! What models can run on: this machine's processors, and those of workers.

use serde::{Deserialize, Serialize};

use super::host::Host;
use super::stopped::Stopped;
use crate::llama::{self, Workers};

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

/// Something that computes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// llama.cpp's name, e.g. `CPU`, `CUDA0`, `RPC0`.
    pub name: String,
    /// What it is; of a worker's device the worker's address.
    pub description: String,
    /// The part of llama.cpp that runs it.
    pub backend: String,
    /// True if blocks of a model may run there: GPUs, and all of a worker's devices.
    pub takes_blocks: bool,
    /// Free bytes of memory; 0 if not known.
    pub free: u64,
    /// All bytes of memory.
    pub total: u64,
}

/// Lists the devices.
///
/// # Errors
/// llama.cpp does not start, or a worker cannot be reached.
pub fn run(request: &Request, _: &dyn Host) -> Result<Report, Stopped> {
    let device = |found: llama::Device| Device {
        name: found.name,
        description: found.description,
        backend: found.backend,
        takes_blocks: found.takes_blocks,
        free: found.free,
        total: found.total,
    };
    let found = llama::devices(request.workers)?;
    Ok(Report { devices: found.into_iter().map(device).collect() })
}
