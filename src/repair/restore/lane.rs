//! One of the two models on its way through its blocks: the original, or the one being restored.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::block::{Replaced, write_block};
use super::forward::{Forward, Wants};
use super::rows::Rows;
use super::texts::Texts;
use super::working::Working;
use crate::gguf::Model;
use crate::llama::graph::Structure;
use crate::llama::{Engine, Options};
use crate::repair::error::{Error, Result};

/// How a block is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// By itself, fed with the rows that enter it.
    Alone,
    /// In the whole model, up to it.
    Whole,
}

/// Where a block is in the structure of the model that runs it.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Its number there.
    pub block: u32,
    /// The point where rows are put in.
    pub entry: Option<usize>,
    /// The point that it leaves.
    pub exit: usize,
    /// What is needed no more comes from this matrix on.
    pub after: Option<String>,
}

impl Place {
    pub fn new(structure: &Structure, way: Way, block: u32) -> Place {
        let block = if way == Way::Alone { 0 } else { block };
        let next = structure.groups.iter().find(|group| group.block > block);
        Place {
            block,
            entry: (way == Way::Alone).then(|| structure.input_of(0)),
            exit: structure.input_of(block + 1),
            after: next.and_then(|group| Some(group.matrices.first()?.tensor.clone())),
        }
    }
}

/// How engines are started.
#[derive(Debug, Clone)]
pub(super) struct Means<'a> {
    pub options: Options,
    pub interrupt: Arc<AtomicBool>,
    /// Where files of single blocks are put.
    pub folder: &'a Path,
}

impl Means<'_> {
    pub fn load(&self, path: &Path) -> Result<Engine> {
        Ok(Engine::load_interruptible(path, self.options, Arc::clone(&self.interrupt))?)
    }
}

/// A model and the residual rows that enter its next block.
pub(super) struct Lane<'a> {
    pub model: &'a Model,
    /// [n_rows, n_embd].
    pub rows: Rows,
    /// New bytes of the block under way.
    pub replaced: Replaced,
    /// The model's file, or the copy that takes what is restored.
    pub working: Working,
}

impl Lane<'_> {
    /// The model, or its block alone, with what is restored by now.
    pub fn open(&mut self, means: &Means<'_>, way: Way, block: u32) -> Result<Engine> {
        match way {
            Way::Whole => {
                self.working.put(self.model, &self.replaced)?;
                means.load(self.working.path())
            }
            Way::Alone => {
                let path = block_path(means.folder);
                write_block(self.model, block, &self.replaced, &path)?;
                let engine = means.load(&path);
                // Mapped by now; a name would only be left lying about. Where that is not allowed
                // the next block takes its place.
                let traced = engine.and_then(|engine| {
                    engine.structure().map(|_| ()).map(|()| engine).map_err(Error::from)
                });
                let _ = std::fs::remove_file(&path);
                traced
            }
        }
    }

    /// Lets all texts through the block: its rows are those that leave it then.
    pub fn advance(
        &mut self,
        means: &Means<'_>,
        way: Way,
        block: u32,
        texts: &Texts,
    ) -> Result<()> {
        let engine = self.open(means, way, block)?;
        let place = Place::new(engine.structure()?, way, block);
        let wants = Wants { points: vec![place.exit], last: place.after, ..Wants::default() };
        let mut forward = Forward::new(&engine, place.entry)?;
        for batch in &texts.batches {
            let rows = self.rows.read(batch.rows.clone())?;
            let seen = forward.read(batch, &rows, &wants)?;
            self.rows.write(batch.rows.start, &seen.points[&place.exit])?;
        }
        Ok(())
    }
}

fn block_path(folder: &Path) -> PathBuf {
    folder.join("block.gguf")
}
