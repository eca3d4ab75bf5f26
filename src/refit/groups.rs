//! One block: the original's activations recorded once, then its groups of matrices refitted in
//! order.

use super::block::renamed;
use super::error::{Error, Result};
use super::fit::{Fitted, Ground, SweptTo, fit};
use super::forward::{Forward, Wants};
use super::job::{Job, Jobs, Towards};
use super::lane::{Lane, Means, Place, Way};
use super::record::{Record, writer_of};
use super::report::{Outcome, TensorReport};
use super::sums::{Readers, Sums, WriterSums};
use super::targets::Targets;
use super::texts::Texts;
use crate::gguf::{Model, TensorInfo};
use crate::llama::graph::{Group, Structure};
use crate::llama::{Engine, is_encodable};
use crate::numeric::{Cross, Factor, Gram};
use crate::quant::is_block_matrix;

/// A block to be refitted.
pub(super) struct BlockWork<'a> {
    pub means: &'a Means<'a>,
    pub way: Way,
    pub block: u32,
    pub texts: &'a Texts,
    pub towards: Towards,
    pub job: Jobs<'a>,
}

impl BlockWork<'_> {
    /// Refits the block's matrices in `ours`, and lets the original's rows through it; `engine`
    /// runs the original's block.
    pub fn run(
        &self,
        engine: &Engine,
        original: &mut Lane<'_>,
        ours: &mut Lane<'_>,
        told: &mut dyn FnMut(&str),
    ) -> Result<Vec<TensorReport>> {
        let structure = engine.structure()?;
        let place = Place::new(structure, self.way, self.block);
        let of_block = |group: &&Group| group.block == place.block;
        let groups: Vec<&Group> = structure.groups.iter().filter(of_block).collect();
        let (at, folder) = ((&place, &groups[..]), self.means.folder());
        let rows = &mut original.rows;
        let to = (self.towards, folder);
        let mut record = Record::new((engine, structure), at, self.texts, rows, to)?;
        let mut reports = Vec::new();
        for group in groups {
            let mut names = Vec::new();
            for matrix in &group.matrices {
                let own = renamed(&matrix.tensor, self.block);
                match self.outcome(ours.model, &own) {
                    Some(Outcome::Refitted) => names.push(matrix.tensor.as_str()),
                    Some(other) => reports.extend(left_alone(ours.model, &own, other)),
                    None => {}
                }
            }
            if let Some(first) = names.first() {
                told(&renamed(first, self.block));
                let sums = self.sums(structure, &names, &mut record, ours, &place)?;
                self.refit(sums, &names, (original.model, ours), &mut reports)?;
            }
        }
        Ok(reports)
    }

    /// Lets all texts through `ours` up to a group, and adds up what it is fitted to.
    fn sums(
        &self,
        structure: &Structure,
        names: &[&str],
        record: &mut Record,
        ours: &mut Lane<'_>,
        place: &Place,
    ) -> Result<Sums> {
        let mut sums = self.no_sums(structure, names, record, ours.model);
        let leader = names[0].to_owned();
        let wants = Wants {
            points: sums.writers.iter().map(|w| w.writer.before).collect(),
            inputs: vec![leader.clone()],
            last: Some(leader.clone()),
            ..Wants::default()
        };
        let engine = ours.open(self.means, self.way, self.block)?;
        let mut forward = Forward::new(&engine, place.entry)?;
        for batch in &self.texts.batches {
            let entering = ours.rows.read(batch.rows.clone())?;
            let mut seen = forward.read(batch, &entering, &wants)?;
            let inputs = seen.inputs.remove(&leader).unwrap_or_default();
            sums.add(batch, inputs, &seen, record)?;
        }
        Ok(sums)
    }

    fn no_sums(
        &self,
        structure: &Structure,
        names: &[&str],
        record: &Record,
        model: &Model,
    ) -> Sums {
        let info = |name: &str| model.tensor(&renamed(name, self.block)).map(|t| t.info);
        let width = |info: Option<&TensorInfo>| info.map_or(0, |info| info.n_cols() as usize);
        let dim = width(info(names[0]));
        let writer = |name: &&str| {
            let n_out = info(name)?.n_rows() as usize;
            let writer = writer_of(structure, name)?;
            let (products, held_out) = (Cross::new(n_out, dim), Vec::new());
            Some(WriterSums { name: (*name).into(), writer, products, held_out })
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
        Sums { gram: Gram::new(dim), readers, writers, weighted_at, held_out: Vec::new() }
    }

    /// Refits the matrices of one group.
    fn refit(
        &self,
        sums: Sums,
        names: &[&str],
        (original, ours): (&Model, &mut Lane<'_>),
        reports: &mut Vec<TensorReport>,
    ) -> Result<()> {
        let Sums { gram, readers, writers, held_out, .. } = sums;
        let ground = self.ground(gram, names[0])?;
        for name in names {
            let own = renamed(name, self.block);
            let both = (ours.model.tensor(&own), original.tensor(&own));
            let (Some(compressed), Some(theirs)) = both else { continue };
            let writer = writers.iter().find(|w| w.name == *name);
            let Some(job) = (self.job)(compressed.info) else { continue };
            let towards = match (writer, &readers, self.towards) {
                (.., Towards::Itself { .. }) => SweptTo::Itself(&held_out),
                (Some(w), ..) => {
                    let held_out = (&w.held_out[..], &held_out[..]);
                    SweptTo::Original(theirs, Targets::Writer { products: &w.products, held_out })
                }
                (None, Some(readers), _) => {
                    let held_out = (&readers.held_out[..], &held_out[..]);
                    SweptTo::Original(
                        theirs,
                        Targets::Reader { inputs: &readers.products, held_out },
                    )
                }
                (None, None, _) => continue,
            };
            let fitted = fit(compressed, &towards, &ground, &job)?;
            reports.push(report(compressed.info, &job, &fitted));
            if let Some(bytes) = fitted.bytes {
                ours.replaced.insert(own, (job.ty, bytes));
            }
        }
        Ok(())
    }

    /// What can be done with a tensor; None if it is not there.
    fn outcome(&self, model: &Model, name: &str) -> Option<Outcome> {
        let info = model.tensor(name)?.info;
        let stacked = info.shape.iter().skip(2).any(|n| *n > 1);
        let can = |job: Job| is_block_matrix(info) && is_encodable(job.ty);
        Some(match (self.job)(info).is_some_and(can) {
            true if stacked => Outcome::Stacked,
            true => Outcome::Refitted,
            false => Outcome::LeftAlone,
        })
    }

    fn ground(&self, gram: Gram, first: &str) -> Result<Ground> {
        let diagonal = gram.diagonal();
        let failed = |channel| Error::NotFiniteInput { name: renamed(first, self.block), channel };
        if let Some(channel) = diagonal.iter().position(|x| !x.is_finite()) {
            return Err(failed(channel));
        }
        let mean = diagonal.iter().map(|x| f64::from(*x)).sum::<f64>() / diagonal.len() as f64;
        let (Towards::Original { prior: part } | Towards::Itself { damping: part }) = self.towards;
        let ridge = (f64::from(part) * mean).max(f64::from(f32::MIN_POSITIVE)) as f32;
        let importance = diagonal.iter().map(|x| x + ridge).collect();
        let factor = Factor::new(gram, ridge).map_err(|e| failed(e.row))?;
        Ok(Ground { factor, ridge, importance })
    }
}

fn left_alone(model: &Model, name: &str, outcome: Outcome) -> Option<TensorReport> {
    let ty = model.tensor(name)?.info.ty.name().to_lowercase();
    Some(TensorReport { name: name.into(), ty, outcome, error: None, zeros_kept: false })
}

fn report(info: &TensorInfo, job: &Job, fitted: &Fitted) -> TensorReport {
    let restored = fitted.bytes.is_some();
    let ty = if restored { job.ty } else { info.ty };
    TensorReport {
        name: info.name.clone(),
        ty: ty.name().to_lowercase(),
        outcome: if restored { Outcome::Refitted } else { Outcome::NoBetter },
        error: Some(fitted.error),
        zeros_kept: fitted.keeps_zeros && restored,
    }
}
