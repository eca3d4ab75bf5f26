//! The connections that ggml holds to workers: how long one may be silent, and how all are cut.
//!
//! ggml opens them itself and waits on them without an end (`ggml/src/ggml-rpc/transport.cpp` of
//! llama.cpp). They are found among the open files of this process by the addresses that they lead
//! to. Where the system does not list open files (Windows), nothing is found: a worker that hangs
//! is then waited for.

use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// Time without traffic after which the other machine is asked whether it is still there, and
/// between two such questions.
const KEEPALIVE: [Duration; 2] = [Duration::from_secs(15), Duration::from_secs(5)];
/// Questions without an answer after which the connection is lost.
const MAX_UNANSWERED: u32 = 4;

/// From now on ggml gives up a worker among `addresses` that it has awaited for `silence`. A
/// machine that is gone is noticed within a minute.
pub(super) fn limit_silence(addresses: &[SocketAddr], silence: Duration) {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE[0]);
    #[cfg(unix)]
    let keepalive = keepalive.with_interval(KEEPALIVE[1]).with_retries(MAX_UNANSWERED);
    each(addresses, |socket| {
        // A connection that takes no limit stays as ggml made it.
        let _ = socket.set_read_timeout(Some(silence));
        let _ = socket.set_write_timeout(Some(silence));
        let _ = socket.set_tcp_keepalive(&keepalive);
    });
}

/// Cuts the connections to `addresses`: a worker that lives then waits for work again.
pub(super) fn cut(addresses: &[SocketAddr]) {
    each(addresses, |socket| drop(socket.shutdown(Shutdown::Both)));
}

/// Calls `act` with each open connection to one of `addresses`.
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
        let peer = socket.peer_addr().ok().and_then(|address| address.as_socket());
        if peer.is_some_and(|peer| addresses.contains(&peer)) {
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
    fn a_connection_is_found_by_its_address_limited_and_cut() {
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [mine, other] = listeners.each_ref().map(|l| l.local_addr().unwrap());
        let [mut to_mine, to_other] = [mine, other].map(|to| TcpStream::connect(to).unwrap());
        limit_silence(&[mine], Duration::from_millis(50));
        // The system rounds to its own ticks.
        assert!(to_mine.read_timeout().unwrap().is_some());
        assert!(to_mine.write_timeout().unwrap().is_some());
        assert!(SockRef::from(&to_mine).keepalive().unwrap());
        assert_eq!(to_other.read_timeout().unwrap(), None);
        assert!(to_mine.read(&mut [0]).is_err(), "it waits without an end");
        cut(&[mine]);
        assert_eq!(to_mine.read(&mut [0]).unwrap(), 0, "it is still open");
    }
}
