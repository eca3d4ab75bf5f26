//! `aird worker`: its arguments.

use anyhow::Result;
use clap::Args;

use super::args::threads;
use super::paths::Verb;
use super::ui::Ui;
use crate::llama::{Endpoint, Options};
use crate::verbs::worker::{Request, run};

/// Lend this machine's devices to other machines, which name it with --rpc
///
/// A worker computes the blocks that others give it, and holds their weights meanwhile: on its GPUs
/// if it has any in this build, else on its CPU. It needs no files. It serves one process at a
/// time, until it is interrupted.
///
/// llama.cpp's protocol has no authentication and no encryption. Let a worker listen on 127.0.0.1,
/// and reach it through a tunnel: ssh -L 50052:127.0.0.1:50052 MACHINE
#[derive(Debug, Args)]
pub(super) struct Worker {
    /// Where to listen: an address of this machine in IPv4, and a port.
    #[arg(long, default_value = "127.0.0.1:50052", value_name = "HOST:PORT")]
    listen: Endpoint,
    /// CPU threads; 0 for as many as there are cores.
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = threads())]
    threads: u32,
}

impl Verb for Worker {
    fn run(self, ui: &Ui) -> Result<()> {
        let engine = Options::cpu(self.threads);
        Ok(run(&Request { listen: self.listen, engine }, ui)?)
    }
}
