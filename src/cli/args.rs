//! Arguments that several verbs share.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::{PathBufValueParser, TypedValueParser};

use crate::llama::{Endpoint, Options, Split, Workers};
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
    #[command(flatten)]
    devices: DeviceArgs,
}

/// Which devices run blocks of the model.
#[derive(Debug, Clone, Args)]
pub(super) struct DeviceArgs {
    /// Blocks to run on GPUs and workers, the last ones; the output counts as one. Default: all
    /// with --rpc, --device or --tensor-split, else none.
    #[arg(long, value_name = "N")]
    gpu_layers: Option<u32>,
    /// Devices that take blocks, by the names of aird devices. Default: all that there are.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    device: Vec<String>,
    /// Share of each device, e.g. 3,1. Default: as their free memory is.
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    tensor_split: Vec<u32>,
}

impl DeviceArgs {
    /// For the engine's options, with workers or without.
    fn blocks_and_split(&self, workers: Workers) -> (u32, Split) {
        let names_some =
            !workers.is_empty() || !self.device.is_empty() || !self.tensor_split.is_empty();
        let default = if names_some { ALL_BLOCKS } else { 0 };
        let split = Split::new(self.device.clone(), self.tensor_split.clone());
        (self.gpu_layers.unwrap_or(default), split)
    }
}

impl TrialArgs {
    /// As the engine wants them.
    pub(super) fn options(&self) -> Options {
        let (gpu_layers, split) = self.devices.blocks_and_split(Workers::NONE);
        Options { gpu_layers, split, ..Options::cpu(self.threads) }
    }
}

/// How llama.cpp runs.
#[derive(Debug, Clone, Args)]
pub(super) struct EngineArgs {
    /// CPU threads; 0 for as many as there are cores.
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = threads())]
    pub threads: u32,
    #[command(flatten)]
    devices: DeviceArgs,
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
    /// Seconds that workers may take for a batch, or for a piece of the weights, before they are
    /// given up.
    #[arg(long, default_value_t = 600, value_name = "SECONDS", requires = "rpc",
        value_parser = clap::value_parser!(u64).range(1..))]
    rpc_silence: u64,
}

impl EngineArgs {
    /// As the engine wants them.
    pub(super) fn options(&self) -> Options {
        let workers = self.workers.workers();
        let (gpu_layers, split) = self.devices.blocks_and_split(workers);
        Options { threads: self.threads, gpu_layers, workers, split }
    }
}

impl WorkerArgs {
    /// As the engine wants them.
    pub(super) fn workers(&self) -> Workers {
        let [timeout, silence] = [self.rpc_timeout, self.rpc_silence].map(Duration::from_secs);
        Workers::new(self.rpc.clone(), timeout, silence)
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
