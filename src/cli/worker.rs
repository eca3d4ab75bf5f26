//! `aird worker`: its arguments.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::Result;
use clap::Args;

use super::args::threads;
use super::paths::Verb;
use super::signals::leave;
use super::ui::Ui;
use crate::llama::Options;
use crate::verbs::Stopped;
use crate::verbs::worker::{Request, run};

/// Lend this machine's devices to other machines, which name it with --rpc
///
/// A worker computes the blocks that others give it, and holds their weights meanwhile: on its GPUs
/// if it has any in this build, else on its CPU. It needs no files. It serves one process at a
/// time, until it is interrupted.
///
/// llama.cpp's protocol has no authentication and no encryption: whoever can connect can use the
/// worker, every user of this machine included. Let it listen on 127.0.0.1, and reach it through a
/// tunnel: ssh -L 50052:127.0.0.1:50052 MACHINE
#[derive(Debug, Args)]
pub(super) struct Worker {
    /// Where to listen: an address of this machine in IPv4 and a port; 0.0.0.0 for all addresses.
    #[arg(long, default_value = "127.0.0.1:50052", value_name = "ADDRESS:PORT",
        value_parser = address)]
    listen: SocketAddrV4,
    /// CPU threads; 0 for as many as there are cores.
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = threads())]
    threads: u32,
}

impl Verb for Worker {
    fn run(self, ui: &Ui) -> Result<()> {
        match run(&Request { listen: self.listen, engine: Options::cpu(self.threads) }, ui) {
            Err(Stopped::Interrupted) => leave(),
            other => Ok(other?),
        }
    }
}

fn address(text: &str) -> Result<SocketAddrV4, String> {
    let form = || "expected an address in IPv4 and a port, e.g. 127.0.0.1:50052".to_owned();
    let (host, port) = text.split_once(':').ok_or_else(form)?;
    let host = match host {
        "localhost" => Ipv4Addr::LOCALHOST,
        host => host.parse().map_err(|_| form())?,
    };
    let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(form)?;
    Ok(SocketAddrV4::new(host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_listens_at_an_address_and_a_port() {
        assert_eq!(address("localhost:7").unwrap(), SocketAddrV4::new(Ipv4Addr::LOCALHOST, 7));
        assert_eq!(address("0.0.0.0:50052").unwrap().to_string(), "0.0.0.0:50052");
        for wrong in ["", "50052", "host:1", "127.0.0.1:0", "[::1]:50052"] {
            assert!(address(wrong).unwrap_err().contains("expected an address"), "{wrong}");
        }
    }
}
