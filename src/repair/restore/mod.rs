//! Restore: every matrix of a compressed model's blocks refitted, in order, to the activations of
//! its original, on the zeros and in the types that its file has.
//!
//! Both models read the calibration texts block by block. In each block, the matrices that share an
//! input are refitted together ([`fit`]), then the model being restored goes on with the new ones,
//! so that later matrices make up for what earlier ones could not. Writers into the residual stream
//! are given what the stream has drifted off by then as well.

mod block;
mod fit;
mod forward;
mod groups;
mod lane;
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

use self::block::Replaced;
use self::groups::BlockWork;
use self::lane::{Lane, Means, Way};
use self::texts::Texts;
use self::whole::{Baseline, way_of};
use self::working::Working;
use super::error::{Error, Result};
use crate::gguf::Model;
use crate::llama::{Options, Prober};
use crate::stats::Sample;

pub use parts::Parts;
pub use report::{BlockReport, Outcome, Restored, TensorReport};

/// What is to be restored, towards what, on which texts.
pub struct Restore<'a> {
    /// The compressed model.
    pub model: &'a Model,
    /// Its original.
    pub reference: &'a Model,
    /// Calibration texts; the masks of samples are not looked at.
    pub samples: &'a [Sample],
    /// Ridge towards the original's weights, in means of the inputs' squares.
    pub prior: f32,
    /// How llama.cpp runs.
    pub options: Options,
    /// How blocks are tried that llama.cpp might abort on. Once its interrupt is set the work ends
    /// with an error; blocks that are done are kept.
    pub prober: &'a Prober,
}

/// Told how far the work is.
pub trait Told {
    /// Block `block` of `n_block` is at this part of itself.
    fn at(&mut self, block: u32, n_block: u32, part: &str);
    /// A block is done.
    fn done(&mut self, report: &BlockReport);
}

/// Restores block by block; new tensors go into `parts`, and blocks found there are not done again.
///
/// # Errors
/// llama.cpp cannot run a model, activations are no numbers, the disk is full, the interrupt.
pub fn restore(asked: &Restore<'_>, parts: &Parts, told: &mut dyn Told) -> Result<Restored> {
    let n_block = asked.model.needed_hparam("block_count")? as u32;
    let means = &Means::new(asked.options, asked.prober, parts);
    let (mut original, mut ours, mut baseline, texts) = start(asked, means, n_block)?;
    let mut restored =
        Restored { n_tokens: texts.n_fitted, n_held_out: texts.n_held_out, ..Restored::default() };
    for block in 0..n_block {
        told.at(block, n_block, "reading");
        let (way, engine) = way_of(&mut baseline, &mut original, means, block, &texts)?;
        let part = parts.read(block)?;
        let is_done = part.is_some();
        let mut report = match part {
            Some((replaced, report)) => {
                ours.replaced = replaced;
                original.advance(&engine, (way, block), &texts)?;
                report
            }
            None => {
                let mut told = |part: &str| told.at(block, n_block, part);
                let work = BlockWork { means, way, block, texts: &texts, prior: asked.prior };
                let tensors = work.run(&engine, &mut original, &mut ours, &mut told)?;
                BlockReport { block, alone: way == Way::Alone, tensors, ..BlockReport::default() }
            }
        };
        drop(engine);
        let engine = ours.open(means, way, block)?;
        ours.advance(&engine, (way, block), &texts)?;
        report.residual = baseline.errors(block, &mut original, &mut ours, &texts)?;
        let replaced = std::mem::take(&mut ours.replaced);
        if !is_done {
            parts.write(block, asked.model, &replaced, &report)?;
        }
        told.done(&report);
        restored.blocks.push(report);
    }
    Ok(restored)
}

/// Both models in front of their first block.
fn start<'a>(
    asked: &Restore<'a>,
    means: &Means<'_>,
    n_block: u32,
) -> Result<(Lane<'a>, Lane<'a>, Baseline, Texts)> {
    let engines = (means.load(path(asked.reference))?, means.load(path(asked.model))?);
    let alone = engines.0.is_recurrent();
    let texts = Texts::new(asked.samples, alone);
    if texts.n_held_out == 0 {
        return Err(Error::TooShort { n_tokens: texts.n_rows() });
    }
    let (entering, baseline) = Baseline::new(&engines, &texts, n_block, means.folder())?;
    let copy = means.folder().join("model.gguf");
    let lane =
        |model: &'a Model, rows, working| Lane { model, rows, replaced: Replaced::new(), working };
    let original = lane(asked.reference, entering.0, Working::fixed(asked.reference));
    let ours = lane(asked.model, entering.1, Working::changing(asked.model, copy));
    Ok((original, ours, baseline, texts))
}

fn path(model: &Model) -> &Path {
    &model.shards()[0].path
}
