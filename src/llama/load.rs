//! Loading a model's weights: onto this machine, and onto the devices that take blocks.

use std::ffi::{CString, c_void};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use llama_cpp_2::model::LlamaModel;
use llama_cpp_sys_2 as sys;

use super::backend::backend;
use super::error::{Error, Result};
use super::log;
use super::options::Options;
use super::patience::Wait;
use super::shortage::is_shortage;
use super::split::Resolved;
use super::workers::Workers;

// llama-cpp-2 sets devices, but no shares; its model is nothing except the pointer.
const _: () = assert!(size_of::<LlamaModel>() == size_of::<NonNull<sys::llama_model>>());
const _: () = assert!(align_of::<LlamaModel>() == align_of::<NonNull<sys::llama_model>>());

/// What llama.cpp's progress is reported to.
struct Watch<'a> {
    interrupt: &'a AtomicBool,
    workers: Workers,
    wait: &'a Option<Wait>,
}

/// Loads the model at `path`; once `interrupt` is set, the load ends.
///
/// # Errors
/// No such devices, too little memory, llama.cpp's own reasons in its words, or the interrupt.
pub(super) fn load(
    path: &Path,
    options: Options,
    interrupt: &Arc<AtomicBool>,
) -> Result<LlamaModel> {
    backend()?;
    options.workers.connect()?;
    let wait = options.workers.wait();
    let resolved = match options.gpu_layers {
        // Without a list llama.cpp would send large products to a GPU even so.
        0 => Resolved::none(),
        n_blocks => options.split.resolve(path, n_blocks)?,
    };
    log::clear();
    let load = |said: String| Error::Load { path: path.into(), said };
    let file =
        CString::new(path.as_os_str().as_encoded_bytes()).map_err(|e| load(e.to_string()))?;
    let (mut devices, shares) = resolved.for_llama();
    let mut watch = Watch { interrupt, workers: options.workers, wait: &wait };
    // SAFETY: the file's name, the lists, which end as llama.cpp expects, and the watch outlive the
    // call; it copies the lists. The defaults are llama.cpp's own.
    let model = unsafe {
        let mut params = sys::llama_model_default_params();
        params.n_gpu_layers = i32::try_from(options.gpu_layers).unwrap_or(i32::MAX);
        if !devices.is_empty() {
            params.devices = devices.as_mut_ptr();
        }
        if !shares.is_empty() {
            params.tensor_split = shares.as_ptr();
        }
        params.progress_callback = Some(on_progress);
        params.progress_callback_user_data = (&raw mut watch).cast();
        sys::llama_model_load_from_file(file.as_ptr(), params)
    };
    if interrupt.load(Ordering::Relaxed) && model.is_null() {
        return Err(Error::Interrupted);
    }
    let Some(model) = NonNull::new(model) else {
        let said = log::last_errors();
        return Err(match is_shortage(&said) {
            true => Error::NoMeans { path: path.into(), said },
            false => load(said),
        });
    };
    // SAFETY: LlamaModel is a transparent wrapper of such a pointer (llama-cpp-2's model.rs and
    // ptr.rs; the version is pinned), which it owns from here on.
    let model = unsafe { std::mem::transmute::<NonNull<sys::llama_model>, LlamaModel>(model) };
    match interrupt.load(Ordering::Relaxed) {
        true => Err(Error::Interrupted),
        false => Ok(model),
    }
}

unsafe extern "C" fn on_progress(_: f32, watch: *mut c_void) -> bool {
    // SAFETY: llama.cpp passes the watch of `load`, on its thread and while that waits.
    let watch = unsafe { &mut *watch.cast::<Watch<'_>>() };
    if let Some(wait) = watch.wait {
        // The buffers are there, and so are the connections.
        watch.workers.keep_alive();
        wait.got_on();
    }
    !watch.interrupt.load(Ordering::Relaxed)
}
