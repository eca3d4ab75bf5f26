//! `aird prune --sequential N`: blocks are judged by what reaches them once those before them are
//! pruned. Every N blocks the model as pruned so far is written to a temp file, and read anew.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::args::EngineArgs;
use super::given::{Given, collected};
use super::text::counted;
use super::ui::Ui;
use crate::compress::{Method, Target, prune};
use crate::gguf::{Layout, Model, Rewrite};
use crate::stats::{self, Stats};

/// What is pruned, and in which steps.
pub struct Sequence<'a> {
    pub model: &'a Model,
    pub method: Method,
    pub targets: &'a [Target],
    /// Blocks pruned between two collections.
    pub n_blocks: usize,
    pub engine: &'a EngineArgs,
}

/// `given`, collected on the model as it is, with those of every later step in place: to prune by
/// them at once is to prune step by step. They replace its file, too.
pub fn recollected(ui: &Ui, sequence: &Sequence<'_>, mut given: Given) -> Result<Given> {
    let mut blocks: Vec<u32> =
        sequence.targets.iter().filter_map(|t| sequence.block_of(&t.name)).collect();
    blocks.sort_unstable();
    blocks.dedup();
    let later: Vec<u32> = blocks.into_iter().step_by(sequence.n_blocks).skip(1).collect();
    if later.is_empty() {
        return Ok(given);
    }
    for &first in &later {
        ui.detail(format_args!("statistics from block {first} on, of the model as pruned so far"));
        let new = sequence.collect(ui, &given, first)?;
        let from_here = |name: &str| sequence.block_of(name).is_some_and(|b| b >= first);
        given.stats.inputs.extend(new.inputs.into_iter().filter(|(name, _)| from_here(name)));
    }
    let data = given.stats.about.iter_mut().map(|about| &mut about.data);
    for name in given.stats.datasets.iter_mut().chain(data) {
        name.push_str(&format!(" (pruned every {})", counted(sequence.n_blocks, "block")));
    }
    stats::write(&given.path, &given.stats)?;
    Given::read(sequence.model, given.path, given.calibration)
}

impl Sequence<'_> {
    fn block_of(&self, name: &str) -> Option<u32> {
        self.model.tensor(name)?.info.block()
    }

    /// Statistics of the model pruned up to block `first`, as a file holds them.
    fn collect(&self, ui: &Ui, given: &Given, first: u32) -> Result<Stats> {
        let Some(calibration) = &given.calibration else {
            bail!("--sequential needs --data FILE: statistics of a file cannot be collected anew");
        };
        let before = |t: &&Target| self.block_of(&t.name).is_some_and(|b| b < first);
        let targets: Vec<Target> = self.targets.iter().filter(before).cloned().collect();
        let mut rewrite = Rewrite::new(self.model, Layout::Single);
        let stats = Some(&given.stats);
        prune(&mut rewrite, self.model, stats, self.method, &targets, &Arc::default())?;
        let folder = folder_beside(&given.path)?;
        let path = folder.path().join("so-far.gguf");
        rewrite.write(&path, false, ui)?;
        let engine = self.engine.load(ui, &Model::open(&path)?)?;
        let kept = folder.path().join("stats.gguf");
        stats::write(&kept, &collected(ui, &engine, calibration)?)?;
        Ok(stats::read(&kept)?.0.fitted_to(self.model)?)
    }
}

/// A folder for temp files beside `path`, gone when it is dropped.
fn folder_beside(path: &Path) -> Result<TempDir> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let made = tempfile::Builder::new().prefix(".aird.").suffix(".part").tempdir_in(folder);
    made.with_context(|| format!("cannot write in {}", folder.display()))
}
