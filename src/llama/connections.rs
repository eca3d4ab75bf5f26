//! The connections that ggml holds to workers, and those of a worker: they notice a machine that is
//! gone, and can be cut.
//!
//! ggml opens them itself (`ggml/src/ggml-rpc/transport.cpp` of llama.cpp). They are found among
//! the open files of this process by their addresses. Where the system does not list open files
//! (Windows), none is found.

use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// Time without traffic after which the other machine is asked whether it is still there, and
/// between two such questions.
const KEEPALIVE: [Duration; 2] = [Duration::from_secs(15), Duration::from_secs(5)];
/// Questions without an answer after which the connection is lost.
const MAX_UNANSWERED: u32 = 4;

/// Connections to one of `addresses`, or accepted at one, end within a minute if the other machine
/// is gone; not while bytes are on their way, for then the system waits for those.
pub(super) fn keep_alive(addresses: &[SocketAddr]) {
    let [time, interval] = KEEPALIVE;
    let keepalive = TcpKeepalive::new().with_time(time).with_interval(interval);
    let keepalive = keepalive.with_retries(MAX_UNANSWERED);
    // A connection that takes no such setting stays as ggml made it.
    each(addresses, |socket| drop(socket.set_tcp_keepalive(&keepalive)));
}

/// Cuts the connections to `addresses`: a worker that lives then waits for work again. False where
/// they cannot be found.
pub(super) fn cut(addresses: &[SocketAddr]) -> bool {
    each(addresses, |socket| drop(socket.shutdown(Shutdown::Both)));
    cfg!(unix)
}

/// Calls `act` with each open connection whose one end is among `addresses`.
#[cfg(unix)]
fn each(addresses: &[SocketAddr], act: impl Fn(SockRef<'_>)) {
    use std::os::fd::{BorrowedFd, RawFd};
    let Ok(files) = std::fs::read_dir("/dev/fd") else { return };
    for file in files.flatten() {
        let number = file.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok());
        let Some(number) = number.filter(|number| *number >= 0) else { continue };
        // SAFETY: it was open when the folder was read. If another thread closes it meanwhile, the
        // calls below fail, and connections to workers are closed by no one while they are used.
        let file = unsafe { BorrowedFd::borrow_raw(number) };
        let socket = SockRef::from(&file);
        let Some(peer) = socket.peer_addr().ok().and_then(|a| a.as_socket()) else { continue };
        let own = socket.local_addr().ok().and_then(|a| a.as_socket());
        let is_own = |address: &SocketAddr| {
            let own = own.filter(|own| own.port() == address.port());
            own.is_some_and(|own| own == *address || address.ip().is_unspecified())
        };
        if addresses.contains(&peer) || addresses.iter().any(is_own) {
            act(socket);
        }
    }
}

#[cfg(not(unix))]
fn each(_: &[SocketAddr], _: impl Fn(SockRef<'_>)) {}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_connection_is_found_by_either_address_and_cut() {
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [mine, other] = listeners.each_ref().map(|l| l.local_addr().unwrap());
        let [mut to_mine, to_other] = [mine, other].map(|to| TcpStream::connect(to).unwrap());
        let (accepted, _) = listeners[0].accept().unwrap();
        keep_alive(&[mine]);
        let is_kept = |stream: &TcpStream| SockRef::from(stream).keepalive().unwrap();
        assert!(is_kept(&to_mine) && is_kept(&accepted) && !is_kept(&to_other));
        assert!(cut(&[mine]));
        assert_eq!(to_mine.read(&mut [0]).unwrap(), 0, "it is still open");
        to_other.set_nonblocking(true).unwrap();
        assert!((&to_other).read(&mut [0]).is_err(), "the other one was cut as well");
    }
}
