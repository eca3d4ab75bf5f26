//! How a model is loaded and run: threads, and where its blocks are.

use super::split::Split;
use super::workers::Workers;

/// How a model is loaded and run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// CPU threads; 0: as many as there are cores.
    pub threads: u32,
    /// Blocks to put on GPUs and workers; all with a large number.
    pub gpu_layers: u32,
    /// Other machines that compute.
    pub workers: Workers,
    /// Which devices take blocks, and how many each.
    pub split: Split,
}

impl Options {
    /// On this machine's CPU, with so many threads.
    pub const fn cpu(threads: u32) -> Options {
        Options { threads, gpu_layers: 0, workers: Workers::NONE, split: Split::ALL }
    }

    /// Where blocks run, as far as results depend on it: other devices round in other ways. `cpu`,
    /// `12 blocks on devices`, `9999 blocks on 2 workers on RPC0,RPC1 split 3,1`.
    pub fn placement(&self) -> String {
        let split = self.split.key();
        match (self.gpu_layers, self.workers.endpoints().len()) {
            (0, _) => "cpu".into(),
            (n, 0) => format!("{n} blocks on devices{split}"),
            (n, workers) => format!("{n} blocks on {workers} workers{split}"),
        }
    }

    /// The options of the command line that choose devices: a child is to run as this process does.
    pub fn device_words(&self) -> Vec<String> {
        let mut words = vec!["--gpu-layers".to_owned(), self.gpu_layers.to_string()];
        words.extend(self.split.devices().iter().flat_map(|d| ["--device".into(), d.clone()]));
        let parts = self.split.parts().iter();
        words.extend(parts.flat_map(|part| ["--tensor-split".into(), part.to_string()]));
        words
    }

    /// [`Options::threads`], with 0 resolved.
    pub fn n_threads(&self) -> i32 {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from) as u32;
        if self.threads == 0 { cores() as i32 } else { self.threads as i32 }
    }
}
