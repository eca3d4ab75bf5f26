//! One of the two models as it passes through its blocks: the original, or the one being restored.

use super::block::{NewTensors, write_block};
use super::engines::Engines;
use super::error::Result;
use super::forward::{Forward, ReadRequest};
use super::rows::Rows;
use super::texts::Texts;
use super::working::WorkingFile;
use crate::gguf::Model;
use crate::llama::Engine;
use crate::llama::graph::Structure;

/// How a block is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunMode {
    /// By itself, with the rows that enter it.
    BlockOnly,
    /// In the whole model, from the tokens up to the block.
    WholeModel,
}

/// The place of a block in the structure of the model that runs it.
#[derive(Debug, Clone)]
pub(super) struct BlockPosition {
    /// The block's number there.
    pub block: u32,
    /// The point where rows are put in.
    pub entry: Option<usize>,
    /// The point that it leaves.
    pub exit: usize,
    /// The matrix after whose input nothing more is needed.
    pub after: Option<String>,
}

impl BlockPosition {
    pub(super) fn new(structure: &Structure, mode: RunMode, block: u32) -> BlockPosition {
        let block = if mode == RunMode::BlockOnly { 0 } else { block };
        let next = structure.groups.iter().find(|group| group.block > block);
        BlockPosition {
            block,
            entry: (mode == RunMode::BlockOnly).then(|| structure.input_of(0)),
            exit: structure.input_of(block + 1),
            after: next.and_then(|group| Some(group.matrices.first()?.tensor.clone())),
        }
    }
}

/// A model and the residual rows that enter its next block.
pub(super) struct ModelPass<'a> {
    pub model: &'a Model,
    /// `[n_rows, n_embd]`.
    pub rows: Rows,
    /// New bytes of the current block.
    pub replaced: NewTensors,
    /// The model's file, or the copy that gets what is restored.
    pub working: WorkingFile<'a>,
}

impl ModelPass<'_> {
    /// The model, or only its block, with what is restored so far.
    pub(super) fn open(
        &mut self,
        engines: &Engines<'_>,
        mode: RunMode,
        block: u32,
    ) -> Result<Engine> {
        match mode {
            RunMode::WholeModel => {
                self.working.put(self.model, engines.parts(), (block, &self.replaced))?;
                engines.load(self.working.path())
            }
            RunMode::BlockOnly => {
                let path = engines.folder().join("block.gguf");
                write_block(self.model, block, &self.replaced, &path)?;
                let opened = engines.try_alone(&path).and_then(|()| engines.load(&path));
                // The structure is traced from the file and the weights are mapped, so that the
                // name is no longer needed. If it cannot be removed, the next block replaces it.
                let traced = opened.and_then(|engine| {
                    engine.structure()?;
                    Ok(engine)
                });
                let _ = std::fs::remove_file(&path);
                traced
            }
        }
    }

    /// Runs all texts through the block, which `engine` runs: `rows` then hold what leaves it.
    pub(super) fn advance(
        &mut self,
        engine: &Engine,
        (mode, block): (RunMode, u32),
        texts: &Texts,
    ) -> Result<()> {
        let position = BlockPosition::new(engine.structure()?, mode, block);
        let request = ReadRequest {
            points: vec![position.exit],
            last: position.after,
            ..ReadRequest::default()
        };
        let mut forward = Forward::new(engine, position.entry)?;
        for batch in &texts.batches {
            let rows = self.rows.read(batch.rows.clone())?;
            let seen = forward.read(batch, &rows, &request)?;
            self.rows.write(batch.rows.start, &seen.points[&position.exit])?;
        }
        Ok(())
    }
}
