//! Refit: every matrix of a model's blocks swept, in order, onto zeros and grids, or left as it is
//! with two factors beside it.
//!
//! Towards an original ([`Towards::Original`], `aird repair`) both models read the calibration
//! texts block by block. In each block, the matrices that share an input are refitted together
//! (`fit`). Then the model being refitted continues with the new ones, so that later matrices
//! compensate for what earlier ones could not. For writers into the residual stream, the stream's
//! drift so far is added to the target. From its own weights ([`Towards::Itself`], GPTQ and
//! SparseGPT) the same sweep uses the current inputs of the matrices.

mod bias;
mod block;
mod block_work;
mod engines;
mod error;
mod expert_inputs;
mod experts;
mod factors;
mod fit;
mod forward;
mod groups;
mod job;
mod model_pass;
mod parts;
mod record;
mod report;
mod rows;
mod sums;
mod targets;
mod texts;
mod whole;
mod working;

use std::path::Path;

use self::block::NewTensors;
use self::block_work::BlockWork;
use self::engines::Engines;
use self::model_pass::{ModelPass, RunMode};
use self::texts::Texts;
use self::whole::{Baseline, HeldOutStream, run_mode_of};
use self::working::WorkingFile;
use crate::gguf::{Model, Watch};
use crate::llama::{Options, Prober};
use crate::stats::Sample;

pub use error::{Error, Result};
pub use job::{Job, Jobs, Towards, Zeros};
pub use parts::Parts;
pub use report::{BlockReport, ExpertsReport, Outcome, Refitted, TensorReport};
pub use whole::Leaving;

/// What to refit, towards what, on which texts.
pub struct Refit<'a> {
    /// The model to refit.
    pub model: &'a Model,
    /// The reference of the errors: the original, or the model itself.
    pub reference: &'a Model,
    /// Calibration texts; the masks of samples are ignored.
    pub samples: &'a [Sample],
    /// The target of the fits.
    pub towards: Towards,
    /// What each matrix becomes.
    pub job: Jobs<'a>,
    /// Threads and GPU layers of llama.cpp.
    pub options: Options,
    /// Tries blocks that llama.cpp might abort on. Once its interrupt is set the work ends with an
    /// error; finished blocks are kept.
    pub prober: &'a Prober,
    /// Reports the current block.
    pub watch: &'a dyn Watch,
}

/// Refits block by block; new tensors go into `parts`, and blocks found there are not done again.
/// `each` gets the report of every block once it is done.
///
/// # Errors
/// llama.cpp cannot run a model, activations are NaN or infinite, the disk is full, the interrupt.
pub fn refit(
    asked: &Refit<'_>,
    parts: &Parts,
    each: &mut dyn FnMut(&BlockReport),
) -> Result<Refitted> {
    let n_block = asked.model.needed_hparam("block_count")? as u32;
    let engines = &Engines::new(asked.options, asked.prober, parts);
    let (mut original, mut ours, mut baseline, texts) = start(asked, engines, n_block)?;
    let mut refitted =
        Refitted { n_tokens: texts.n_fitted, n_held_out: texts.n_held_out, ..Refitted::default() };
    for block in 0..n_block {
        asked.watch.part("reading", block as usize, n_block as usize);
        let (mode, engine) = run_mode_of(&mut baseline, &mut original, engines, block, &texts)?;
        let part = parts.read(block, asked.model)?;
        let is_done = part.is_some();
        let mut report = match part {
            Some((replaced, report)) => {
                ours.replaced = replaced;
                original.advance(&engine, (mode, block), &texts)?;
                drop(engine);
                report
            }
            None => {
                let (towards, job, watch) = (asked.towards, asked.job, asked.watch);
                let work =
                    BlockWork { engines, mode, block, n_block, texts: &texts, towards, job, watch };
                let tensors = work.run(engine, &mut original, &mut ours)?;
                BlockReport {
                    block,
                    alone: mode == RunMode::BlockOnly,
                    tensors,
                    ..BlockReport::default()
                }
            }
        };
        let engine = ours.open(engines, mode, block)?;
        ours.advance(&engine, (mode, block), &texts)?;
        report.residual = baseline.errors(block, &mut original, &mut ours, &texts)?;
        let replaced = std::mem::take(&mut ours.replaced);
        if !is_done {
            parts.write(block, asked.model, &replaced, &report)?;
        }
        each(&report);
        refitted.blocks.push(report);
    }
    Ok(refitted)
}

/// Both models before their first block.
fn start<'a>(
    asked: &Refit<'a>,
    engines: &Engines<'_>,
    n_block: u32,
) -> Result<(ModelPass<'a>, ModelPass<'a>, Baseline, Texts)> {
    let engine = engines.load(path(asked.reference))?;
    let texts = Texts::new(asked.samples, engine.is_recurrent());
    if texts.n_held_out == 0 {
        return Err(Error::TooShort { n_tokens: texts.n_rows() });
    }
    let theirs = HeldOutStream::read(&engine, &texts, n_block, engines.folder())?;
    // One whole model at a time is in memory.
    drop(engine);
    let engine = engines.load(path(asked.model))?;
    let ours = HeldOutStream::read(&engine, &texts, n_block, engines.folder())?;
    drop(engine);
    let baseline = Baseline::new(theirs.1, ours.1, &texts)?;
    let copy = engines.folder().join("model.gguf");
    let pass = |model: &'a Model, rows, working| ModelPass {
        model,
        rows,
        replaced: NewTensors::new(),
        working,
    };
    let original = pass(asked.reference, theirs.0, WorkingFile::fixed(asked.reference));
    let ours = pass(asked.model, ours.0, WorkingFile::changing(asked.model, copy, asked.job));
    Ok((original, ours, baseline, texts))
}

fn path(model: &Model) -> &Path {
    &model.shards()[0].path
}
