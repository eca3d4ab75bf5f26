//! Lend this machine to others: a worker of llama.cpp's RPC.

use std::net::SocketAddrV4;

use super::host::Host;
use super::stopped::Stopped;
use crate::llama::{Options, serve};

/// Where to listen.
#[derive(Debug, Clone)]
pub struct Request {
    /// The address. Whoever reaches it can use this machine, or crash the worker: the protocol has
    /// no authentication.
    pub listen: SocketAddrV4,
    /// How llama.cpp runs: its threads.
    pub engine: Options,
}

/// Serves until it is interrupted. The process should then end at once, without exit handlers:
/// llama.cpp's server is still at work in its thread.
///
/// # Errors
/// The build has no RPC, or nobody can listen there; at last the interrupt.
pub fn run(request: &Request, host: &dyn Host) -> Result<(), Stopped> {
    let Request { listen, engine } = request;
    if !listen.ip().is_loopback() {
        host.warn(format_args!(
            "whoever reaches {listen} can use this machine and read what is computed: llama.cpp's \
             protocol has no authentication and no encryption"
        ));
    }
    let n_threads = usize::try_from(engine.n_threads()).unwrap_or(1);
    let listening = || host.say(format_args!("lending this machine at {listen}"));
    Ok(serve(*listen, n_threads, &host.prober().interrupt, listening)?)
}
