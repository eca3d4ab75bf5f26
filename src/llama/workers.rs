//! Other machines that hold a part of a model and compute it: RPC workers, made known to llama.cpp
//! (`ggml/src/ggml-rpc`).

use std::ffi::{CStr, CString, c_char, c_void};
use std::sync::mpsc;
use std::time::Duration;

use llama_cpp_sys_2 as sys;

use super::backend::backend;
use super::endpoint::{Endpoint, connected, find_connected};
use super::error::{Error, Result};
use super::patience::Wait;
use super::{abort, connections};

/// The workers of a run, and how long each is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workers {
    endpoints: &'static [Endpoint],
    timeout: Duration,
    silence: Duration,
}

impl Default for Workers {
    fn default() -> Workers {
        Workers::NONE
    }
}

impl Workers {
    /// No workers.
    pub const NONE: Workers = Workers {
        endpoints: &[],
        timeout: Duration::from_secs(10),
        silence: Duration::from_secs(600),
    };

    /// These workers, which have `timeout` to greet, and then together up to `silence` for a batch.
    /// They are remembered as long as the process lives, as ggml remembers them.
    pub fn new(endpoints: Vec<Endpoint>, timeout: Duration, silence: Duration) -> Workers {
        match endpoints.is_empty() {
            true => Workers::NONE,
            false => Workers { endpoints: endpoints.leak(), timeout, silence },
        }
    }

    /// True if everything runs on this machine.
    pub fn is_empty(self) -> bool {
        self.endpoints.is_empty()
    }

    /// Their addresses.
    pub fn endpoints(self) -> &'static [Endpoint] {
        self.endpoints
    }

    /// The time that each has to greet.
    pub fn timeout(self) -> Duration {
        self.timeout
    }

    /// The time that they have for a batch.
    pub fn silence(self) -> Duration {
        self.silence
    }

    /// To be held during a call into llama.cpp that needs workers: they are given up if it takes
    /// too long. None without workers.
    pub(super) fn wait(self) -> Option<Wait> {
        (!self.is_empty()).then(|| Wait::begin(self.silence))
    }

    /// From now on a worker whose machine is gone is noticed. To be called when ggml has opened
    /// connections: it does so where it needs one.
    pub(super) fn keep_alive(self) {
        if !self.is_empty() {
            let addresses: Vec<_> = connected().iter().map(|(_, address)| *address).collect();
            connections::keep_alive(&addresses);
        }
    }

    /// Makes their devices known to llama.cpp; those that are known already stay so.
    ///
    /// # Errors
    /// A worker cannot be reached or speaks another version, or the build has no RPC.
    pub(super) fn connect(self) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let add = AddServer::find()?;
        for endpoint in self.endpoints {
            let address = endpoint.address()?;
            match find_connected(address) {
                Some(same) if same == *endpoint => continue,
                // It would wait for itself: a worker serves one connection at a time.
                Some(same) => return Err(endpoint.error(format!("it is the same as {same}"))),
                None => {}
            }
            endpoint.greet(self.timeout)?;
            connected().push((endpoint.clone(), address));
            watched(endpoint, self.timeout, || add.add(endpoint))?;
        }
        Ok(())
    }
}

/// Runs `connect`, in which ggml waits without an end for an answer: after `timeout` the process
/// ends with a sentence.
fn watched<T>(endpoint: &Endpoint, timeout: Duration, connect: impl FnOnce() -> T) -> T {
    let (done, waiting) = mpsc::channel::<()>();
    let said = endpoint.error(format!(
        "it no longer answers after {} s: it serves another process, or hangs",
        timeout.as_secs()
    ));
    std::thread::spawn(move || {
        if waiting.recv_timeout(timeout) == Err(mpsc::RecvTimeoutError::Timeout) {
            abort::end_with(&said.to_string());
        }
    });
    let result = connect();
    drop(done);
    result
}

/// `ggml_backend_rpc_add_server` of ggml-rpc.h.
type Add = unsafe extern "C" fn(*const c_char) -> sys::ggml_backend_reg_t;

/// That function, found.
struct AddServer(Add);

impl AddServer {
    fn find() -> Result<AddServer> {
        let found = function(c"ggml_backend_rpc_add_server")?;
        // SAFETY: ggml-rpc.h declares the function of that name with this signature.
        Ok(AddServer(unsafe { std::mem::transmute::<*mut c_void, Add>(found) }))
    }

    fn add(&self, endpoint: &Endpoint) -> Result<()> {
        let name = c_text(endpoint)?;
        // SAFETY: a NUL-terminated text, which ggml copies.
        let registry = unsafe { (self.0)(name.as_ptr()) };
        if registry.is_null() {
            return Err(endpoint.error("it has no device to compute on"));
        }
        // SAFETY: the registry is new, and lives as long as the process.
        unsafe { sys::ggml_backend_register(registry) };
        Ok(())
    }
}

/// A function of ggml's RPC backend.
pub(super) fn function(name: &CStr) -> Result<*mut c_void> {
    backend()?;
    // SAFETY: both take NUL-terminated texts; the registry is checked before it is asked.
    let found = unsafe {
        let registry = sys::ggml_backend_reg_by_name(c"RPC".as_ptr());
        match registry.is_null() {
            true => std::ptr::null_mut(),
            false => sys::ggml_backend_reg_get_proc_address(registry, name.as_ptr()),
        }
    };
    if found.is_null() { Err(Error::NoRpc) } else { Ok(found) }
}

fn c_text(endpoint: &Endpoint) -> Result<CString> {
    CString::new(endpoint.to_string()).map_err(|e| endpoint.error(e))
}
