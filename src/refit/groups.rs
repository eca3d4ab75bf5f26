//! One block: the original's activations recorded once, then its groups of matrices refitted in
//! order.

use super::bias::{FittedBias, fit_bias};
use super::block::{NewTensor, renamed};
use super::block_work::BlockWork;
use super::error::Result;
use super::fit::{FitTarget, Fitted, Matrix, fit};
use super::forward::{Forward, ReadRequest};
use super::job::{Job, Towards, job_of};
use super::model_pass::{BlockPosition, ModelPass};
use super::record::{BlockRecord, writer_of};
use super::report::{Outcome, TensorReport};
use super::sums::{Readers, Sums, Totals, WriterSums};
use super::targets::Targets;
use crate::gguf::{Model, TensorInfo};
use crate::llama::Engine;
use crate::llama::graph::{Group, Link, Structure};
use crate::numeric::{Cross, Gram};

impl BlockWork<'_> {
    /// Refits the block's matrices in `ours`, and runs the original's rows through it; `engine`
    /// runs the original's block.
    pub(super) fn run(
        &self,
        engine: Engine,
        original: &mut ModelPass<'_>,
        ours: &mut ModelPass<'_>,
    ) -> Result<Vec<TensorReport>> {
        let structure = &engine.structure()?.clone();
        let position = BlockPosition::new(structure, self.mode, self.block);
        let of_block = |group: &&Group| group.block == position.block;
        let groups: Vec<&Group> = structure.groups.iter().filter(of_block).collect();
        let (at, folder) = ((&position, &groups[..]), self.engines.folder());
        let rows = &mut original.rows;
        let to = (self.towards, folder);
        let mut record = BlockRecord::new((&engine, structure), at, self.texts, rows, to)?;
        // It may hold a whole model; from now on only engines of `ours` are needed.
        drop(engine);
        let mut reports = Vec::new();
        for group in groups {
            let (mut names, mut experts) = (Vec::new(), Vec::new());
            for matrix in &group.matrices {
                let own = renamed(&matrix.tensor, self.block);
                let Some(info) = ours.model.tensor(&own).map(|t| t.info) else { continue };
                let stacked = info.shape.iter().skip(2).any(|n| *n > 1);
                match job_of(info, self.job) {
                    Ok(_) if matrix.experts => experts.push(matrix.tensor.as_str()),
                    Ok(_) if stacked => reports.push(TensorReport::of(info, Outcome::Stacked)),
                    Ok(_) => names.push(matrix.tensor.as_str()),
                    Err(other) => reports.push(TensorReport::of(info, other)),
                }
            }
            if let Some(first) = names.first() {
                self.report(&renamed(first, self.block));
                let sums = self.sums(structure, &names, &mut record, ours, &position)?;
                self.refit(sums, &names, (original.model, ours), &mut reports)?;
            }
            if let Some(first) = experts.first() {
                self.report(&renamed(first, self.block));
                let (at, both) = ((structure, &position), (original.model, &mut *ours));
                reports.extend(self.refit_experts(at, &experts, &mut record, both)?);
            }
        }
        Ok(reports)
    }

    /// Runs all texts through `ours` up to a group, and adds up what it is fitted to.
    fn sums(
        &self,
        structure: &Structure,
        names: &[&str],
        record: &mut BlockRecord,
        ours: &mut ModelPass<'_>,
        position: &BlockPosition,
    ) -> Result<Sums> {
        let mut sums = self.no_sums(structure, names, record, ours.model);
        let leader = names[0].to_owned();
        let request = ReadRequest {
            points: sums.writers.iter().map(|w| w.writer.before).collect(),
            inputs: vec![leader.clone()],
            last: Some(leader.clone()),
            ..ReadRequest::default()
        };
        let engine = ours.open(self.engines, self.mode, self.block)?;
        let mut forward = Forward::new(&engine, position.entry)?;
        for batch in &self.texts.batches {
            let entering = ours.rows.read(batch.rows.clone())?;
            let mut seen = forward.read(batch, &entering, &request)?;
            let inputs = seen.inputs.remove(&leader).unwrap_or_default();
            sums.add(batch, inputs, &seen, record)?;
        }
        Ok(sums)
    }

    fn no_sums(
        &self,
        structure: &Structure,
        names: &[&str],
        record: &BlockRecord,
        model: &Model,
    ) -> Sums {
        let info = |name: &str| model.tensor(&renamed(name, self.block)).map(|t| t.info);
        let width = |info: Option<&TensorInfo>| info.map_or(0, |info| info.n_cols() as usize);
        let dim = width(info(names[0]));
        let writer = |name: &&str| {
            let n_out = info(name)?.n_rows() as usize;
            let writer = writer_of(structure, name)?;
            let bias = match structure.writer(name)?.links.first() {
                Some(Link::Bias(bias)) => Some(bias.clone()),
                _ => None,
            };
            let (products, held_out) = (Cross::new(n_out, dim), Vec::new());
            let (name, totals) = ((*name).into(), Totals::default());
            Some(WriterSums { name, writer, products, bias, totals, held_out })
        };
        // The original's inputs were recorded once for the whole group.
        let mut groups = structure.groups.iter();
        let group = groups.find(|group| group.matrices.iter().any(|m| m.tensor == names[0]));
        let all = || group.iter().flat_map(|group| &group.matrices);
        let leader = all().find(|m| record.inputs.contains_key(&m.tensor));
        let readers = leader.map(|leader| Readers {
            leader: leader.tensor.clone(),
            products: Cross::new(dim, dim),
            held_out: Vec::new(),
        });
        let towards_itself = matches!(self.towards, Towards::Itself { .. });
        let writers = names.iter().filter(|_| !towards_itself).filter_map(writer).collect();
        let weighted_at = writer_of(structure, names[0]);
        let (gram, held_out, weights) = (Gram::new(dim), Vec::new(), Vec::new());
        Sums { gram, readers, writers, weighted_at, held_out, weights }
    }

    /// Refits the matrices of one group.
    fn refit(
        &self,
        sums: Sums,
        names: &[&str],
        (original, ours): (&Model, &mut ModelPass<'_>),
        reports: &mut Vec<TensorReport>,
    ) -> Result<()> {
        let Sums { gram, readers, writers, held_out, weights, .. } = sums;
        let normal = self.normal_matrix(gram, (names[0], 1.0))?;
        for name in names {
            self.engines.check_interrupt()?;
            let own = renamed(name, self.block);
            let both = (ours.model.tensor(&own), original.tensor(&own));
            let (Some(compressed), Some(theirs)) = both else { continue };
            let writer = writers.iter().find(|w| w.name == *name);
            let Some(job) = (self.job)(compressed.info) else { continue };
            let towards = match (writer, &readers, self.towards) {
                (.., Towards::Itself { .. }) => FitTarget::Itself(&held_out),
                (Some(w), ..) => {
                    let held_out = (&w.held_out[..], &held_out[..]);
                    FitTarget::Original(theirs, Targets::Writer { products: &w.products, held_out })
                }
                (None, Some(readers), _) => {
                    let held_out = (&readers.held_out[..], &held_out[..]);
                    FitTarget::Original(
                        theirs,
                        Targets::Reader { inputs: &readers.products, held_out },
                    )
                }
                (None, None, _) => continue,
            };
            let matrix = Matrix { tensor: compressed, rows: 0..compressed.info.n_rows() };
            let fitted = fit(&matrix, &towards, &normal, &job)?;
            let is_taken = towards.accepts(&fitted.error);
            reports.push(report(compressed.info, &job, &fitted, is_taken));
            if is_taken {
                let Fitted { bytes, factors, .. } = fitted;
                ours.replaced.insert(own.clone(), NewTensor { ty: job.ty(), bytes, factors });
            }
            if let (Some(sums), Job::Swept { .. }) = (writer, job) {
                let held_out = (&held_out[..], &weights[..]);
                reports.extend(self.refit_bias(sums, &own, held_out, (original, ours))?);
            }
        }
        Ok(())
    }

    /// Refits the bias after a writer, if it has one.
    fn refit_bias(
        &self,
        sums: &WriterSums,
        matrix: &str,
        held_out: (&[f32], &[f32]),
        (original, ours): (&Model, &mut ModelPass<'_>),
    ) -> Result<Option<TensorReport>> {
        let Some(bias) = sums.bias.as_ref().map(|bias| renamed(bias, self.block)) else {
            return Ok(None);
        };
        let both = (ours.model.tensor(&bias), original.tensor(&bias), ours.model.tensor(matrix));
        let (Some(compressed), Some(theirs), Some(kept)) = both else { return Ok(None) };
        let now = match ours.replaced.get(matrix) {
            Some(new) => (new.bytes.as_slice(), new.ty),
            None => (kept.data(), kept.info.ty),
        };
        let fitted = fit_bias((compressed, theirs), now, sums, held_out)?;
        let report = |outcome, error| {
            Some(TensorReport { error, ..TensorReport::of(compressed.info, outcome) })
        };
        let Some(FittedBias { bytes, error }) = fitted else {
            return Ok(report(Outcome::NoBetter, None));
        };
        let new = NewTensor { ty: compressed.info.ty, bytes, factors: None };
        ours.replaced.insert(bias, new);
        Ok(report(Outcome::Refitted, Some(error)))
    }
}

fn report(info: &TensorInfo, job: &Job, fitted: &Fitted, is_taken: bool) -> TensorReport {
    let ty = match job {
        Job::Swept { ty, .. } if is_taken => *ty,
        _ => info.ty,
    };
    let outcome = if is_taken { Outcome::Refitted } else { Outcome::NoBetter };
    TensorReport {
        ty: ty.name().to_lowercase(),
        error: Some(fitted.error.relative()),
        zeros_kept: fitted.keeps_zeros && is_taken,
        ..TensorReport::of(info, outcome)
    }
}
