//! Being a worker: this machine's devices lent to others by llama.cpp's RPC.

use std::ffi::{CString, c_char, c_void};
use std::io;
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use llama_cpp_sys_2 as sys;

use super::connections;
use super::devices::computing;
use super::error::{Error, Result};
use super::workers::function;

/// Time between two looks at the interrupt.
const PAUSE: Duration = Duration::from_millis(50);
/// Pauses between two looks at who is served.
const LOOKS: u32 = 20;

/// Lends this machine's devices to others, until `interrupt` is set. `listening` is called when the
/// port is open. llama.cpp's server cannot be ended: it goes on in its thread until the process
/// ends, which should then be at once and without exit handlers.
///
/// # Errors
/// The build has no RPC, nobody can listen there, llama.cpp's server ends, or the interrupt.
pub fn serve(
    listen: SocketAddrV4,
    n_threads: usize,
    interrupt: &Arc<AtomicBool>,
    listening: impl FnOnce(),
) -> Result<()> {
    let found = function(c"ggml_backend_rpc_start_server")?;
    // SAFETY: ggml-rpc.h declares the function of that name with this signature.
    let start = unsafe { std::mem::transmute::<*mut c_void, Start>(found) };
    // ggml only says that it failed, and to stderr.
    let free = TcpListener::bind(listen);
    drop(free.map_err(|why| Error::Listen { endpoint: listen.to_string(), why })?);
    let name = CString::new(listen.to_string()).unwrap_or_default();
    let server = std::thread::spawn(move || {
        let mut devices = computing();
        // SAFETY: the texts and the list of devices outlive the call, which does not return while
        // it serves; a null cache folder means none.
        unsafe {
            start(name.as_ptr(), std::ptr::null(), n_threads, devices.len(), devices.as_mut_ptr());
        }
    });
    let mut listening = Some(listening);
    let mut looks = (0..LOOKS).cycle();
    while !server.is_finished() {
        if looks.next() == Some(0) {
            // Whoever is served and vanishes would keep the worker for good.
            connections::keep_alive(&[listen.into()]);
        }
        if interrupt.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        // A connection that is closed at once does a worker no harm.
        if listening.is_some() && TcpStream::connect(listen).is_ok() {
            listening.take().into_iter().for_each(|listening| listening());
        }
        std::thread::sleep(PAUSE);
    }
    let why = io::Error::other("llama.cpp's server ended");
    Err(Error::Listen { endpoint: listen.to_string(), why })
}

/// `ggml_backend_rpc_start_server` of ggml-rpc.h: endpoint, folder of a cache, threads, devices.
type Start =
    unsafe extern "C" fn(*const c_char, *const c_char, usize, usize, *mut sys::ggml_backend_dev_t);
