//! Arguments that several verbs share.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PathBufValueParser, TypedValueParser};

use crate::llama::Options;
pub(super) use crate::verbs::file_name;

/// ggml's own limit on the threads of a graph, `GGML_MAX_N_THREADS`; with more it crashes.
const MAX_THREADS: i64 = 512;

/// How llama.cpp runs.
#[derive(Debug, Clone, Args)]
pub(super) struct EngineArgs {
    /// CPU threads; 0 for as many as there are cores.
    #[arg(long, default_value_t = 0, value_name = "N",
        value_parser = clap::value_parser!(u32).range(..=MAX_THREADS))]
    pub threads: u32,
    /// Blocks to run on the GPU, in a build with one.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub gpu_layers: u32,
}

impl EngineArgs {
    /// As the engine wants them.
    pub(super) fn options(&self) -> Options {
        Options { threads: self.threads, gpu_layers: self.gpu_layers }
    }
}

/// Parses the path of a file to write. Elsewhere `-` stands for stdout, which no verb writes a
/// file to: a file of that name must not come of it.
pub(super) fn output_path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| match path.as_os_str() == "-" {
        false => Ok(path),
        true => Err("aird cannot write a file to stdout, expected a path (./- is a file)"),
    })
}
