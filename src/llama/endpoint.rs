//! The address of an RPC worker, how one is greeted, and which this process is connected to.
//!
//! ggml aborts where a worker cannot be reached (`ggml/src/ggml-rpc` of llama.cpp), so each is
//! greeted first, over a connection of its own. A worker serves one connection at a time.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::connections;
use super::error::{Error, Result};

/// `RPC_CMD_HELLO`: the same in every version of the protocol.
const HELLO: u8 = 14;
/// `RPC_CONN_CAPS_SIZE`: bytes of a greeting.
const CAPABILITIES: usize = 24;
/// `RPC_PROTO_MAJOR_VERSION`, `_MINOR_` and `_PATCH_` of the llama.cpp that is built in. Graphs go
/// over the wire with the numbers of their operations, for which the last of the three stands.
const PROTOCOL: [u8; 3] = [7, 0, 0];
/// Time that each worker has to greet when one of them is lost, and how often it is greeted: it may
/// be at the end of a computation.
const GREETING: Duration = Duration::from_secs(1);
const MAX_GREETINGS: usize = 5;

/// Workers that this process is connected to. Only ever added to: ggml forgets none.
static CONNECTED: Mutex<Vec<(Endpoint, SocketAddr)>> = Mutex::new(Vec::new());

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

/// What a worker does with a greeting.
enum Answer {
    /// It greets back: it waits for work.
    Greeting,
    /// It says nothing: it serves somebody, or hangs.
    Silence,
    /// Nothing comes back from there at all: no such machine, no network, or too many wait there.
    Nothing,
}

impl Endpoint {
    /// What went wrong with it.
    pub(super) fn error(&self, why: impl fmt::Display) -> Error {
        Error::Worker { endpoint: self.to_string(), why: why.to_string() }
    }

    /// Its address in IPv4.
    pub(super) fn address(&self) -> Result<SocketAddr> {
        let addresses = (self.host.as_str(), self.port).to_socket_addrs();
        let mut addresses = addresses.map_err(|e| self.error(e))?.filter(|a| a.is_ipv4());
        addresses.next().ok_or_else(|| self.error("it has no address in IPv4"))
    }

    /// None if nothing comes back within `timeout`.
    fn connect(&self, to: SocketAddr, timeout: Duration) -> Result<Option<TcpStream>> {
        match TcpStream::connect_timeout(&to, timeout) {
            Ok(stream) => Ok(Some(stream)),
            Err(e) => match e.kind() {
                io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Ok(None),
                io::ErrorKind::ConnectionRefused => Err(self.error("nothing listens there")),
                _ => Err(self.error(e)),
            },
        }
    }

    /// Greets the worker as ggml does, and reads which protocol it speaks.
    pub(super) fn greet(&self, timeout: Duration) -> Result<()> {
        match self.answer_within(self.address()?, timeout)? {
            Answer::Greeting => Ok(()),
            Answer::Nothing => Err(self.error(format!("no answer within {} s", timeout.as_secs()))),
            Answer::Silence => Err(self.error(format!(
                "connected, but no greeting within {} s: it serves another process, or hangs",
                timeout.as_secs()
            ))),
        }
    }

    fn answer_within(&self, address: SocketAddr, timeout: Duration) -> Result<Answer> {
        let Some(mut stream) = self.connect(address, timeout)? else { return Ok(Answer::Nothing) };
        let mut greeting = vec![HELLO];
        greeting.extend((CAPABILITIES as u64).to_le_bytes());
        greeting.extend([0; CAPABILITIES]);
        let mut answer = [0; 8 + 4 + CAPABILITIES];
        let greeted = stream
            .set_read_timeout(Some(timeout))
            .and_then(|()| stream.set_write_timeout(Some(timeout)))
            .and_then(|()| stream.write_all(&greeting))
            .and_then(|()| stream.read_exact(&mut answer));
        if let Err(error) = greeted {
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Ok(Answer::Silence),
                _ => Err(self.error(
                    "it hung up: no worker of llama.cpp, one of another version, or nothing \
                     behind a tunnel",
                )),
            };
        }
        let (size, [major, minor, patch]) = (&answer[..8], [answer[8], answer[9], answer[10]]);
        if size != ((4 + CAPABILITIES) as u64).to_le_bytes() {
            return Err(self.error("it does not greet as llama.cpp's workers do"));
        }
        match [major, minor, patch] == PROTOCOL {
            true => Ok(Answer::Greeting),
            false => Err(self.error(format!(
                "it speaks version {major}.{minor}.{patch} of the protocol, expected {}.{}.{}: \
                 both ends need the same llama.cpp",
                PROTOCOL[0], PROTOCOL[1], PROTOCOL[2]
            ))),
        }
    }
}

/// The workers that this process is connected to, with their addresses.
pub(super) fn connected() -> MutexGuard<'static, Vec<(Endpoint, SocketAddr)>> {
    CONNECTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The worker at `address`, if this process is connected to it.
pub(super) fn find_connected(address: SocketAddr) -> Option<Endpoint> {
    let connected = connected();
    let found = connected.iter().find(|(_, other)| *other == address);
    found.map(|(endpoint, _)| endpoint.clone())
}

/// Who broke the connection, in a sentence; None if this process has no workers. All connections
/// are cut, so nothing can be computed afterwards. Called where ggml aborts: it takes no lock that
/// it would have to wait for.
pub(super) fn lost_worker() -> Option<String> {
    let connected = CONNECTED.try_lock().ok()?;
    // One that lives waits for work once its connection is cut, and greets back. Their addresses
    // are known: a name would be looked up, which may take long.
    let addresses: Vec<SocketAddr> = connected.iter().map(|(_, address)| *address).collect();
    let is_cut = connections::cut(&addresses);
    let mut silent: Vec<&(Endpoint, SocketAddr)> = connected.iter().collect();
    for _ in 0..MAX_GREETINGS {
        let mut still = Vec::new();
        for worker in silent {
            match worker.0.answer_within(worker.1, GREETING) {
                Err(_) => return Some(format!("worker {} is gone", worker.0)),
                Ok(Answer::Silence | Answer::Nothing) => still.push(worker),
                Ok(Answer::Greeting) => {}
            }
        }
        silent = still;
        if silent.is_empty() || !is_cut {
            break;
        }
    }
    let list = |workers: &[&(Endpoint, SocketAddr)]| {
        workers.iter().map(|(worker, _)| worker.to_string()).collect::<Vec<_>>().join(", ")
    };
    let all: Vec<&(Endpoint, SocketAddr)> = connected.iter().collect();
    // A connection that is not cut keeps its worker silent.
    match (if is_cut { silent.as_slice() } else { &[] }, all.as_slice()) {
        (_, []) => None,
        ([hung], _) => Some(format!("worker {} no longer answers", hung.0)),
        ([], [only]) => Some(format!("worker {} broke the connection", only.0)),
        ([], all) => Some(format!("one of the workers {} broke the connection", list(all))),
        (hung, _) => Some(format!("one of the workers {} no longer answers", list(hung))),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const SOON: Duration = Duration::from_millis(300);

    #[test]
    fn an_endpoint_is_a_host_and_a_port() {
        let found: Endpoint = "gpu-1.local:50052".parse().unwrap();
        assert_eq!((found.host.as_str(), found.port), ("gpu-1.local", 50052));
        assert_eq!(found.to_string(), "gpu-1.local:50052");
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
        assert!(old.contains("speaks version 3.1.2 of the protocol, expected 7.0.0"), "{old}");
        let near = said(&server(answering([7, 0, 9])));
        assert!(near.contains("both ends need the same llama.cpp"), "{near}");
        server(answering(PROTOCOL)).greet(SOON).unwrap();
    }
}
