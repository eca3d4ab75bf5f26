//! One of the two models on its way through its blocks: the original, or the one being restored.

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::block::{Replaced, write_block};
use super::error::Result;
use super::forward::{Forward, Wants};
use super::parts::Parts;
use super::rows::Rows;
use super::texts::Texts;
use super::working::Working;
use crate::gguf::Model;
use crate::llama::graph::Structure;
use crate::llama::{Engine, Error as LlamaError, Options, Prober, Trial};

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
pub(super) struct Means<'a> {
    options: Options,
    prober: &'a Prober,
    /// Finished blocks; beside them lie the files that are run meanwhile.
    parts: &'a Parts,
    /// Headers of single blocks that llama.cpp was seen to run.
    known: RefCell<HashSet<String>>,
}

impl<'a> Means<'a> {
    pub fn new(options: Options, prober: &'a Prober, parts: &'a Parts) -> Means<'a> {
        Means { options, prober, parts, known: RefCell::default() }
    }

    /// Where files are put.
    pub fn folder(&self) -> &'a Path {
        self.parts.folder()
    }

    /// Fails if llama.cpp does not run the block alone that lies at `path`: tried in a process of
    /// its own, as it aborts on some. What it aborts on is in the header, so that one block of
    /// each kind is tried.
    fn try_alone(&self, path: &Path) -> Result<()> {
        let alone = Model::open(path)?;
        let infos: Vec<_> =
            alone.tensors().map(|t| (&t.info.name, &t.info.shape, t.info.ty)).collect();
        let header = format!("{:?} {infos:?}", alone.kv());
        if !self.known.borrow().contains(&header) {
            self.prober.first_token(&Trial { model: path, lora: None, options: self.options })?;
            self.known.borrow_mut().insert(header);
        }
        Ok(())
    }

    /// Fails once the work is interrupted: decodes see it by themselves, algebra does not.
    pub fn check_interrupt(&self) -> Result<()> {
        match self.prober.interrupt.load(Ordering::Relaxed) {
            true => Err(LlamaError::Interrupted.into()),
            false => Ok(()),
        }
    }

    pub fn load(&self, path: &Path) -> Result<Engine> {
        Ok(Engine::load_interruptible(path, self.options, Arc::clone(&self.prober.interrupt))?)
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
    pub working: Working<'a>,
}

impl Lane<'_> {
    /// The model, or its block alone, with what is restored by now.
    pub fn open(&mut self, means: &Means<'_>, way: Way, block: u32) -> Result<Engine> {
        match way {
            Way::Whole => {
                self.working.put(self.model, means.parts, (block, &self.replaced))?;
                means.load(self.working.path())
            }
            Way::Alone => {
                let path = means.folder().join("block.gguf");
                write_block(self.model, block, &self.replaced, &path)?;
                let opened = means.try_alone(&path).and_then(|()| means.load(&path));
                // The structure is traced from the file, the weights are mapped: the name is
                // needed no more. Where it cannot be removed the next block takes its place.
                let traced = opened.and_then(|engine| {
                    engine.structure()?;
                    Ok(engine)
                });
                let _ = std::fs::remove_file(&path);
                traced
            }
        }
    }

    /// Lets all texts through the block, which `engine` runs: the rows are those that leave it
    /// then.
    pub fn advance(
        &mut self,
        engine: &Engine,
        (way, block): (Way, u32),
        texts: &Texts,
    ) -> Result<()> {
        let place = Place::new(engine.structure()?, way, block);
        let wants = Wants { points: vec![place.exit], last: place.after, ..Wants::default() };
        let mut forward = Forward::new(engine, place.entry)?;
        for batch in &texts.batches {
            let rows = self.rows.read(batch.rows.clone())?;
            let seen = forward.read(batch, &rows, &wants)?;
            self.rows.write(batch.rows.start, &seen.points[&place.exit])?;
        }
        Ok(())
    }
}
