//! Arguments that several verbs share.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::{PathBufValueParser, TypedValueParser};

use crate::llama::{Endpoint, Options, Workers};
pub(super) use crate::verbs::file_name;

/// ggml's own limit on the threads of a graph, `GGML_MAX_N_THREADS`; with more it crashes.
const MAX_THREADS: i64 = 512;

/// More blocks than any model has.
const ALL_BLOCKS: u32 = 9_999;

/// How llama.cpp runs where a model is only tried, on this machine.
#[derive(Debug, Clone, Args)]
pub(super) struct TrialArgs {
    /// CPU threads; 0 for as many as there are cores.
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = threads())]
    threads: u32,
    /// Blocks to run on the GPU, in a build with one.
    #[arg(long, default_value_t = 0, value_name = "N")]
    gpu_layers: u32,
}

impl TrialArgs {
    /// As the engine wants them.
    pub(super) fn options(&self) -> Options {
        Options { gpu_layers: self.gpu_layers, ..Options::cpu(self.threads) }
    }
}

/// How llama.cpp runs.
#[derive(Debug, Clone, Args)]
pub(super) struct EngineArgs {
    /// CPU threads; 0 for as many as there are cores.
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = threads())]
    pub threads: u32,
    /// Blocks to run on GPUs and workers. Default: all with --rpc, else none.
    #[arg(long, value_name = "N")]
    pub gpu_layers: Option<u32>,
    #[command(flatten)]
    workers: WorkerArgs,
}

/// Other machines that compute.
#[derive(Debug, Clone, Args)]
pub(super) struct WorkerArgs {
    /// Machines that hold and compute blocks of the model: where aird worker listens there.
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',')]
    rpc: Vec<Endpoint>,
    /// Seconds that a worker has to answer when it is connected.
    #[arg(long, default_value_t = 10, value_name = "SECONDS", requires = "rpc",
        value_parser = clap::value_parser!(u64).range(1..))]
    rpc_timeout: u64,
}

impl EngineArgs {
    /// As the engine wants them.
    pub(super) fn options(&self) -> Options {
        let workers = self.workers.workers();
        let default = if workers.is_empty() { 0 } else { ALL_BLOCKS };
        let gpu_layers = self.gpu_layers.unwrap_or(default);
        Options { threads: self.threads, gpu_layers, workers }
    }
}

impl WorkerArgs {
    /// As the engine wants them.
    pub(super) fn workers(&self) -> Workers {
        Workers::new(self.rpc.clone(), Duration::from_secs(self.rpc_timeout))
    }
}

/// Parses a number of threads.
pub(super) fn threads() -> impl TypedValueParser<Value = u32> {
    clap::value_parser!(u32).range(..=MAX_THREADS)
}

/// Parses the path of a file to write. Elsewhere `-` stands for stdout, which no verb writes a
/// file to: a file of that name must not come of it.
pub(super) fn output_path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| match path.as_os_str() == "-" {
        false => Ok(path),
        true => Err("aird cannot write a file to stdout, expected a path (./- is a file)"),
    })
}
