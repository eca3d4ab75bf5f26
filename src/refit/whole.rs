//! Both models are read as a whole before anything is restored: the rows that enter their first
//! block, and the residual stream, block by block, on the held-out texts.

use std::path::Path;

use super::engines::Engines;
use super::error::{Error, Result};
use super::forward::{Forward, ReadRequest};
use super::model_pass::{BlockPosition, ModelPass, RunMode};
use super::rows::Rows;
use super::texts::{Batch, Texts};
use crate::llama::Engine;
use crate::numeric::relative_error;
use crate::stats::Sample;

/// A single block that differs by more than this, relative, is not the block in the model. On the
/// CPU equal blocks agree within 1e-5, in all architectures of the tests.
const SAME: f64 = 1e-4;

/// The residual stream of a whole model on the held-out texts, before each block and after the
/// last.
pub(super) struct HeldOutStream {
    /// [n_block + 1][n_held_out, n_embd], one after the other.
    rows: Rows,
    n_block: u32,
    width: usize,
}

impl HeldOutStream {
    /// Reads all texts up to the first block, and the held-out ones to their end. Also returns the
    /// rows that enter the first block.
    pub(super) fn read(
        engine: &Engine,
        texts: &Texts,
        n_block: u32,
        folder: &Path,
    ) -> Result<(Rows, HeldOutStream)> {
        let entering = entering(engine, texts, folder)?;
        let (n, width) = (texts.n_held_out * (n_block as usize + 1), engine.n_embd());
        let mut rows = Rows::new(n, width, folder)?;
        read_points(engine, texts, n_block, &mut rows)?;
        Ok((entering, HeldOutStream { rows, n_block, width }))
    }
}

/// The residual stream of whole models on held-out texts.
pub(super) struct Baseline {
    /// Of the original, [n_block + 1][n_held_out, n_embd] one after the other.
    original: Rows,
    /// `|compressed - original| / |original|` after each block.
    errors: Vec<f64>,
    n_held_out: usize,
}

impl Baseline {
    /// From the original's and the compressed model's stream.
    pub(super) fn new(
        mut original: HeldOutStream,
        mut compressed: HeldOutStream,
        texts: &Texts,
    ) -> Result<Baseline> {
        let (n, width) = (texts.n_held_out, original.width);
        let error = |block: usize| -> Result<f64> {
            let rows = block * n..(block + 1) * n;
            let ours = compressed.rows.read(rows.clone())?;
            Ok(by_row(&ours, &original.rows.read(rows)?, width))
        };
        let errors = (1..=original.n_block as usize).map(error).collect::<Result<Vec<f64>>>()?;
        Ok(Baseline { original: original.rows, errors, n_held_out: n })
    }

    /// The relative error of the residual stream after `block`: of the compressed model as it
    /// was, and as far as it is restored.
    pub(super) fn errors(
        &self,
        block: u32,
        original: &mut ModelPass<'_>,
        ours: &mut ModelPass<'_>,
        texts: &Texts,
    ) -> Result<(f64, f64)> {
        let rows = texts.n_fitted..texts.n_rows();
        let (ours, theirs) = (ours.rows.read(rows.clone())?, original.rows.read(rows)?);
        let after = by_row(&ours, &theirs, theirs.len() / self.n_held_out.max(1));
        Ok((self.errors[block as usize], after))
    }

    /// The original's rows of a held-out batch before `block`.
    fn rows_of(&mut self, block: u32, batch: &Batch, texts: &Texts) -> Result<Vec<f32>> {
        let first = block as usize * self.n_held_out + batch.rows.start - texts.n_fitted;
        self.original.read(first..first + batch.rows.len())
    }
}

/// What leaves the last block of a model on the held-out part of samples.
pub struct Leaving {
    /// Rows of the residual stream, `[n, width]`.
    rows: Vec<f32>,
    width: usize,
}

impl Leaving {
    /// Runs the samples that a refit holds out through `engine`.
    ///
    /// # Errors
    /// llama.cpp cannot run the model, or the samples are too few to hold some out.
    pub fn read(engine: &Engine, samples: &[Sample]) -> Result<Leaving> {
        let texts = Texts::new(samples, engine.is_recurrent());
        if texts.n_held_out == 0 {
            return Err(Error::TooShort { n_tokens: texts.n_rows() });
        }
        let point = engine.structure()?.input_of(u32::MAX);
        let request = ReadRequest { points: vec![point], ..ReadRequest::default() };
        let (mut forward, mut rows) = (Forward::new(engine, None)?, Vec::new());
        for batch in texts.batches.iter().filter(|batch| batch.held_out) {
            let mut seen = forward.read(batch, &[], &request)?;
            rows.extend(seen.points.remove(&point).unwrap_or_default());
        }
        let width = rows.len() / texts.n_held_out;
        Ok(Leaving { rows, width })
    }

    /// Its relative error against the original's, as in a refit's report on the last block.
    pub fn error(&self, original: &Leaving) -> f64 {
        by_row(&self.rows, &original.rows, self.width)
    }
}

/// By itself, if the block then computes the same as in the model. Tried on the original; also
/// returns its engine for the block.
pub(super) fn run_mode_of(
    baseline: &mut Baseline,
    original: &mut ModelPass<'_>,
    engines: &Engines<'_>,
    block: u32,
    texts: &Texts,
) -> Result<(RunMode, Engine)> {
    let Some(batch) = texts.batches.iter().find(|batch| batch.held_out) else {
        return Ok((RunMode::WholeModel, original.open(engines, RunMode::WholeModel, block)?));
    };
    let entering = baseline.rows_of(block, batch, texts)?;
    let leaving = baseline.rows_of(block + 1, batch, texts)?;
    let mut alone = || -> Result<(Vec<f32>, Engine)> {
        let engine = original.open(engines, RunMode::BlockOnly, block)?;
        let position = BlockPosition::new(engine.structure()?, RunMode::BlockOnly, block);
        let request = ReadRequest { points: vec![position.exit], ..ReadRequest::default() };
        let mut seen = Forward::new(&engine, position.entry)?.read(batch, &entering, &request)?;
        Ok((seen.points.remove(&position.exit).unwrap_or_default(), engine))
    };
    // If llama.cpp cannot run the block by itself, that is not an error: it runs in the model.
    let same = |rows: &[f32]| rows.len() == leaving.len() && relative_error(rows, &leaving) <= SAME;
    match alone() {
        Ok((rows, engine)) if same(&rows) => Ok((RunMode::BlockOnly, engine)),
        _ => Ok((RunMode::WholeModel, original.open(engines, RunMode::WholeModel, block)?)),
    }
}

/// The mean over rows of [`relative_error`].
fn by_row(a: &[f32], b: &[f32], width: usize) -> f64 {
    let rows = a.chunks_exact(width).zip(b.chunks_exact(width));
    let n = rows.len().max(1) as f64;
    rows.map(|(a, b)| relative_error(a, b)).sum::<f64>() / n
}

/// The rows of all texts that enter the first block.
fn entering(engine: &Engine, texts: &Texts, folder: &Path) -> Result<Rows> {
    let structure = engine.structure()?;
    structure.check_stream()?;
    structure.check_memory()?;
    let point = structure.input_of(0);
    let first = structure.groups.first().and_then(|group| group.matrices.first());
    let last = first.map(|matrix| matrix.tensor.clone());
    let request = ReadRequest { points: vec![point], last, ..ReadRequest::default() };
    let mut rows = Rows::new(texts.n_rows(), engine.n_embd(), folder)?;
    let mut forward = Forward::new(engine, None)?;
    for batch in &texts.batches {
        let seen = forward.read(batch, &[], &request)?;
        rows.write(batch.rows.start, &seen.points[&point])?;
    }
    Ok(rows)
}

/// The residual stream of held-out texts before each block and after the last.
fn read_points(engine: &Engine, texts: &Texts, n_block: u32, rows: &mut Rows) -> Result<()> {
    let structure = engine.structure()?;
    let points: Vec<usize> = (0..=n_block).map(|block| structure.input_of(block)).collect();
    let request = ReadRequest { points: points.clone(), ..ReadRequest::default() };
    let mut forward = Forward::new(engine, None)?;
    for batch in texts.batches.iter().filter(|batch| batch.held_out) {
        let seen = forward.read(batch, &[], &request)?;
        for (block, point) in points.iter().enumerate() {
            let first = block * texts.n_held_out + batch.rows.start - texts.n_fitted;
            rows.write(first, &seen.points[point])?;
        }
    }
    Ok(())
}
