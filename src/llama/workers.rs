//! Other machines that hold a part of a model and compute it: llama.cpp's RPC workers, and how to be
//! one (`ggml/src/ggml-rpc` of llama.cpp).
//!
//! ggml aborts where a worker cannot be reached, so each is greeted first, over a connection of its
//! own. A worker serves one connection at a time.

use std::ffi::{CStr, CString, c_char, c_void};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use llama_cpp_sys_2 as sys;

use super::backend::backend;
use super::devices::computing;
use super::error::{Error, Result};

/// `RPC_CMD_HELLO`: the same in every version of the protocol.
const HELLO: u8 = 14;
/// `RPC_CONN_CAPS_SIZE`: bytes of a greeting.
const CAPABILITIES: usize = 24;
/// `RPC_PROTO_MAJOR_VERSION`, `RPC_PROTO_MINOR_VERSION` of the llama.cpp that is built in.
const PROTOCOL: [u8; 2] = [7, 0];
/// Time for looking which worker is gone.
const LOOK: Duration = Duration::from_secs(1);
/// Time between two looks at the interrupt.
const PAUSE: Duration = Duration::from_millis(50);

/// Workers that this process is connected to. Only ever added to: ggml forgets none.
static CONNECTED: Mutex<Vec<Endpoint>> = Mutex::new(Vec::new());

/// The address of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name, or its address in IPv4: llama.cpp takes no other.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Endpoint, String> {
        let form = || format!("'{text}' is no endpoint, expected HOST:PORT, e.g. 127.0.0.1:50052");
        let (host, port) = text.trim().split_once(':').ok_or_else(form)?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(form)?;
        let is_host = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c == '/');
        is_host.then(|| Endpoint { host: host.into(), port }).ok_or_else(form)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Endpoint {
    /// True if only this machine reaches it.
    pub fn is_local(&self) -> bool {
        self.host == "localhost" || self.host.starts_with("127.")
    }

    fn error(&self, why: impl fmt::Display) -> Error {
        Error::Worker { endpoint: self.to_string(), why: why.to_string() }
    }

    fn connect(&self, timeout: Duration) -> Result<TcpStream> {
        let addresses = (self.host.as_str(), self.port).to_socket_addrs();
        let mut addresses = addresses.map_err(|e| self.error(e))?.filter(|a| a.is_ipv4());
        let address = addresses.next().ok_or_else(|| self.error("it has no address in IPv4"))?;
        TcpStream::connect_timeout(&address, timeout).map_err(|e| {
            self.error(match e.kind() {
                io::ErrorKind::ConnectionRefused => "nothing listens there".into(),
                io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
                    format!("no answer within {} s", timeout.as_secs())
                }
                _ => e.to_string(),
            })
        })
    }

    /// Greets the worker as ggml does, and reads which protocol it speaks.
    fn greet(&self, timeout: Duration) -> Result<()> {
        let mut stream = self.connect(timeout)?;
        let mut greeting = vec![HELLO];
        greeting.extend((CAPABILITIES as u64).to_le_bytes());
        greeting.extend([0; CAPABILITIES]);
        let mut answer = [0; 8 + 4 + CAPABILITIES];
        let greeted = stream
            .set_read_timeout(Some(timeout))
            .and_then(|()| stream.set_write_timeout(Some(timeout)))
            .and_then(|()| stream.write_all(&greeting))
            .and_then(|()| stream.read_exact(&mut answer));
        greeted.map_err(|e| {
            self.error(match e.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => format!(
                    "connected, but no greeting within {} s: it serves another process, or hangs",
                    timeout.as_secs()
                ),
                _ => "it hung up: no llama.cpp worker, or one of another version".into(),
            })
        })?;
        let (size, [major, minor, patch]) = (&answer[..8], [answer[8], answer[9], answer[10]]);
        if size != ((4 + CAPABILITIES) as u64).to_le_bytes() {
            return Err(self.error("its greeting is none of llama.cpp's"));
        }
        match major == PROTOCOL[0] && minor <= PROTOCOL[1] {
            true => Ok(()),
            false => Err(self.error(format!(
                "it speaks version {major}.{minor}.{patch} of the protocol, expected {}.{}: both \
                 ends need the same llama.cpp",
                PROTOCOL[0], PROTOCOL[1]
            ))),
        }
    }
}

/// The workers of a run, and the time that each has to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workers {
    endpoints: &'static [Endpoint],
    timeout: Duration,
}

impl Default for Workers {
    fn default() -> Workers {
        Workers::NONE
    }
}

impl Workers {
    /// No workers.
    pub const NONE: Workers = Workers { endpoints: &[], timeout: Duration::from_secs(10) };

    /// These workers. They are remembered as long as the process lives, as ggml remembers them.
    pub fn new(endpoints: Vec<Endpoint>, timeout: Duration) -> Workers {
        match endpoints.is_empty() {
            true => Workers::NONE,
            false => Workers { endpoints: endpoints.leak(), timeout },
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

    /// The time that each has to answer.
    pub fn timeout(self) -> Duration {
        self.timeout
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
        let mut connected = CONNECTED.lock().unwrap_or_else(PoisonError::into_inner);
        for endpoint in self.endpoints {
            if !connected.contains(endpoint) {
                endpoint.greet(self.timeout)?;
                connected.push(endpoint.clone());
                add.add(endpoint)?;
            }
        }
        Ok(())
    }
}

/// Who broke the connection, in a sentence; None if this process has no workers. Called where ggml
/// aborts: it takes no lock that it would have to wait for.
pub(super) fn lost_worker() -> Option<String> {
    let connected = CONNECTED.try_lock().ok()?;
    let gone = connected.iter().find(|endpoint| endpoint.connect(LOOK).is_err());
    let all = || connected.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match (gone, connected.as_slice()) {
        (_, []) => None,
        (Some(gone), _) => Some(format!("worker {gone} is gone")),
        (None, [only]) => Some(format!("worker {only} broke the connection")),
        (None, _) => Some(format!("one of the workers {} broke the connection", all())),
    }
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
fn function(name: &CStr) -> Result<*mut c_void> {
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

/// Lends this machine's devices to others, until `interrupt` is set. `listening` is called when the
/// port is about to be opened.
///
/// # Errors
/// The build has no RPC, nobody can listen there, llama.cpp's server ends, or the interrupt.
pub fn serve(
    listen: &Endpoint,
    n_threads: usize,
    interrupt: &Arc<AtomicBool>,
    listening: impl FnOnce(),
) -> Result<()> {
    type Start = unsafe extern "C" fn(
        *const c_char,
        *const c_char,
        usize,
        usize,
        *mut sys::ggml_backend_dev_t,
    );
    let found = function(c"ggml_backend_rpc_start_server")?;
    // SAFETY: ggml-rpc.h declares the function of that name with this signature.
    let start = unsafe { std::mem::transmute::<*mut c_void, Start>(found) };
    // ggml only says that it failed, and to stderr.
    let free = TcpListener::bind((listen.host.as_str(), listen.port));
    drop(free.map_err(|e| Error::Listen { endpoint: listen.to_string(), why: e })?);
    let name = c_text(listen)?;
    listening();
    let server = std::thread::spawn(move || {
        let mut devices = computing();
        // SAFETY: the texts and the list of devices outlive the call, which does not return while
        // it serves; a null cache folder means none.
        unsafe {
            start(name.as_ptr(), std::ptr::null(), n_threads, devices.len(), devices.as_mut_ptr());
        }
    });
    while !server.is_finished() {
        if interrupt.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        std::thread::sleep(PAUSE);
    }
    let why = io::Error::other("llama.cpp's server ended");
    Err(Error::Listen { endpoint: listen.to_string(), why })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(300);

    #[test]
    fn an_endpoint_is_a_host_and_a_port() {
        let found: Endpoint = "gpu-1.local:50052".parse().unwrap();
        assert_eq!((found.host.as_str(), found.port), ("gpu-1.local", 50052));
        assert_eq!(found.to_string(), "gpu-1.local:50052");
        assert!(!found.is_local() && "127.0.0.1:1".parse::<Endpoint>().unwrap().is_local());
        for wrong in ["", "host", "host:", ":1", "host:0", "host:65536", "host:x", "::1:50052"] {
            let said = wrong.parse::<Endpoint>().unwrap_err();
            assert!(said.contains("expected HOST:PORT"), "{said}");
        }
    }

    /// A server that does `serve` with its first connection.
    fn server(serve: impl FnOnce(TcpStream) + Send + 'static) -> Endpoint {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || serve(listener.accept().unwrap().0));
        Endpoint { host: "127.0.0.1".into(), port }
    }

    fn said(endpoint: &Endpoint) -> String {
        endpoint.greet(SOON).unwrap_err().to_string()
    }

    fn answering(version: [u8; 3]) -> impl FnOnce(TcpStream) + Send {
        move |mut stream| {
            let mut greeting = [0; 1 + 8 + CAPABILITIES];
            stream.read_exact(&mut greeting).unwrap();
            assert_eq!((greeting[0], greeting[1]), (HELLO, CAPABILITIES as u8));
            let mut answer = ((4 + CAPABILITIES) as u64).to_le_bytes().to_vec();
            answer.extend(version);
            answer.extend([0; 1 + CAPABILITIES]);
            stream.write_all(&answer).unwrap();
        }
    }

    #[test]
    fn whoever_is_no_worker_is_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let nobody = Endpoint { host: "127.0.0.1".into(), port };
        let expected = format!("worker 127.0.0.1:{port}: nothing listens there");
        assert_eq!(said(&nobody), expected);
        let silent = server(|stream| {
            std::thread::sleep(4 * SOON);
            drop(stream);
        });
        assert!(said(&silent).contains("no greeting within"), "{}", said(&silent));
        let rude = said(&server(drop));
        assert!(rude.contains("it hung up"), "{rude}");
        let old = said(&server(answering([3, 1, 2])));
        assert!(old.contains("speaks version 3.1.2 of the protocol, expected 7.0"), "{old}");
        server(answering([7, 0, 9])).greet(SOON).unwrap();
    }
}
