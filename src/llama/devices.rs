//! What llama.cpp can compute on: this machine's processors, and those of workers.

use std::ffi::{CStr, c_char};

use llama_cpp_sys_2 as sys;
use serde::{Deserialize, Serialize};

use super::backend::backend;
use super::error::Result;
use super::workers::Workers;

/// Something that computes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// llama.cpp's name, e.g. `CPU`, `CUDA0`, `RPC0`.
    pub name: String,
    /// What it is; of a worker's device the worker's address.
    pub description: String,
    /// The part of llama.cpp that runs it, e.g. `CUDA`.
    pub backend: String,
    /// True if blocks of a model may run there: GPUs, and all of a worker's devices.
    pub takes_blocks: bool,
    /// Free bytes of memory, as far as llama.cpp knows; 0 if it does not.
    pub free: u64,
    /// All bytes of memory.
    pub total: u64,
}

/// Every device of this machine, and of `workers`.
///
/// # Errors
/// llama.cpp does not start, or a worker cannot be reached.
pub fn devices(workers: Workers) -> Result<Vec<Device>> {
    backend()?;
    workers.connect()?;
    Ok(all().into_iter().map(described).collect())
}

/// The devices that take blocks, workers' first, as llama.cpp orders them.
pub(super) fn taking_blocks() -> Vec<(sys::ggml_backend_dev_t, Device)> {
    let found = all().into_iter().filter(|device| takes_blocks(*device));
    let mut found: Vec<_> = found.map(|device| (device, described(device))).collect();
    found.sort_by_key(|(_, device)| device.backend != "RPC");
    found
}

/// The devices that a worker lends: those that take blocks, else the CPU.
pub(super) fn computing() -> Vec<sys::ggml_backend_dev_t> {
    let (taking, rest): (Vec<_>, Vec<_>) =
        all().into_iter().partition(|device| takes_blocks(*device));
    if !taking.is_empty() {
        return taking;
    }
    // SAFETY: a device of ggml's list.
    let is_cpu = |device: &sys::ggml_backend_dev_t| unsafe {
        sys::ggml_backend_dev_type(*device) == sys::GGML_BACKEND_DEVICE_TYPE_CPU
    };
    rest.into_iter().filter(is_cpu).collect()
}

fn all() -> Vec<sys::ggml_backend_dev_t> {
    // SAFETY: indices below the count.
    (0..unsafe { sys::ggml_backend_dev_count() })
        .map(|i| unsafe { sys::ggml_backend_dev_get(i) })
        .collect()
}

fn takes_blocks(device: sys::ggml_backend_dev_t) -> bool {
    // SAFETY: a device of ggml's list.
    let kind = unsafe { sys::ggml_backend_dev_type(device) };
    kind == sys::GGML_BACKEND_DEVICE_TYPE_GPU || kind == sys::GGML_BACKEND_DEVICE_TYPE_IGPU
}

fn described(device: sys::ggml_backend_dev_t) -> Device {
    let (mut free, mut total) = (0, 0);
    // SAFETY: a device of ggml's list; its texts live as long as it does, and it as long as the
    // process.
    let (name, description, backend) = unsafe {
        sys::ggml_backend_dev_memory(device, &raw mut free, &raw mut total);
        let registry = sys::ggml_backend_dev_backend_reg(device);
        (
            text(sys::ggml_backend_dev_name(device)),
            text(sys::ggml_backend_dev_description(device)),
            text(sys::ggml_backend_reg_name(registry)),
        )
    };
    let takes_blocks = takes_blocks(device);
    Device { name, description, backend, takes_blocks, free: free as u64, total: total as u64 }
}

fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: ggml's texts are NUL-terminated.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
