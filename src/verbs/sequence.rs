//! Pruning in sequence: blocks are judged by what reaches them once those before them are pruned.
//! Every few blocks the model as pruned so far is written to a temp file, and read again.

use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::error::{Error, Result};
use super::host::Host;
use super::model::load;
use super::statistics::Given;
use super::words::counted;
use crate::compress::{Method, Target, prune};
use crate::gguf::{Layout, Model, Rewrite, TempPath};
use crate::llama::Options;
use crate::stats::{self, Stats};

/// What is pruned, and in which steps.
pub(super) struct Sequence<'a> {
    pub model: &'a Model,
    pub method: Method,
    pub targets: &'a [Target],
    /// Blocks pruned between two collections.
    pub n_blocks: usize,
    pub engine: Options,
}

impl Sequence<'_> {
    /// `given`, collected on the model as it is, with those of every later step in place: to prune
    /// by them at once is to prune step by step. They replace its file, too.
    pub(super) fn recollected(&self, host: &dyn Host, mut given: Given) -> Result<Given> {
        let mut blocks: Vec<u32> =
            self.targets.iter().filter_map(|t| self.block_of(&t.name)).collect();
        blocks.sort_unstable();
        blocks.dedup();
        let later: Vec<u32> = blocks.into_iter().step_by(self.n_blocks).skip(1).collect();
        if later.is_empty() {
            return Ok(given);
        }
        for &first in &later {
            host.detail(format_args!(
                "statistics from block {first} on, of the model as pruned so far"
            ));
            let new = self.collect(host, &given, first)?;
            let from_here = |name: &str| self.block_of(name).is_some_and(|b| b >= first);
            given.stats.inputs.extend(new.inputs.into_iter().filter(|(name, _)| from_here(name)));
        }
        let data = given.stats.about.iter_mut().map(|about| &mut about.data);
        for name in given.stats.datasets.iter_mut().chain(data) {
            name.push_str(&format!(" (pruned every {})", counted(self.n_blocks, "block")));
        }
        stats::write(&given.path, &given.stats)?;
        Given::read(self.model, given.path, given.calibration)
    }

    fn block_of(&self, name: &str) -> Option<u32> {
        self.model.tensor(name)?.info.block()
    }

    /// Statistics of the model pruned up to block `first`, as a file holds them.
    fn collect(&self, host: &dyn Host, given: &Given, first: u32) -> Result<Stats> {
        let Some(calibration) = &given.calibration else {
            return Err(Error::sentence(
                "statistics of a file cannot be collected again: pruning in sequence needs data",
            ));
        };
        let before = |t: &&Target| self.block_of(&t.name).is_some_and(|b| b < first);
        let targets: Vec<Target> = self.targets.iter().filter(before).cloned().collect();
        let mut rewrite = Rewrite::new(self.model, Layout::Single);
        let stats = Some(&given.stats);
        prune(&mut rewrite, self.model, stats, self.method, &targets, &Arc::default())?;
        let folder = folder_beside(&given.path)?;
        let _remembered = TempPath::remember(folder.path());
        let path = folder.path().join("so-far.gguf");
        rewrite.write(&path, false, host)?;
        let engine = load(host, &Model::open(&path)?, self.engine)?;
        // Through a file, so that they have its precision.
        let kept = folder.path().join("stats.gguf");
        stats::write(&kept, &calibration.collect_all(host, &engine)?)?;
        Ok(stats::read(&kept)?.0.fitted_to(self.model)?)
    }
}

/// A folder for temp files beside `path`, gone when it is dropped.
fn folder_beside(path: &Path) -> Result<TempDir> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let made = tempfile::Builder::new().prefix(".aird.").suffix(".part").tempdir_in(folder);
    let what = || format!("cannot write in {}", folder.display());
    made.map_err(|source| Error::Io { what: what(), source })
}
