//! Experts: each matrix of a stack is fitted to the tokens that reach it.
//!
//! The same token may reach one expert in the original and another in the model being restored.
//! Their outputs cannot be compared, so only tokens count that reach the same expert in both. If
//! these are fewer than [`ENOUGH`] times the inputs, the ridge is larger by the same factor.

use super::block::{NewTensor, renamed};
use super::block_work::BlockWork;
use super::error::Result;
use super::expert_inputs::ExpertInputs;
use super::factors::Factors;
use super::fit::{FitTarget, Fitted, HeldOutError, Matrix, NormalMatrix, fit, unchanged};
use super::forward::{Forward, ReadRequest};
use super::job::{Job, Towards, job_of};
use super::model_pass::{BlockPosition, ModelPass};
use super::record::{BlockRecord, writer_of};
use super::report::{ExpertsReport, Outcome, TensorReport};
use super::targets::Targets;
use crate::gguf::{Model, Tensor};
use crate::llama::graph::Structure;
use crate::numeric::{Cross, Gram};

/// Tokens per input of an expert from which on the ridge is the usual one.
const ENOUGH: f64 = 2.0;
/// Rows gathered at once.
const CHUNK: usize = 512;

/// A token that reaches the same expert in both models: the rows there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pair {
    token: usize,
    theirs: usize,
    ours: usize,
}

/// Tokens in both lists, which are ascending.
fn pairs(theirs: &[(usize, usize)], ours: &[(usize, usize)]) -> Vec<Pair> {
    let mut theirs = theirs.iter().peekable();
    let with = |(token, ours): &(usize, usize)| {
        while theirs.next_if(|(other, _)| other < token).is_some() {}
        let (_, row) = theirs.next_if(|(other, _)| other == token)?;
        Some(Pair { token: *token, theirs: *row, ours: *ours })
    };
    ours.iter().filter_map(with).collect()
}

/// Sums that an expert is fitted to, besides `X_c^T X_c`.
struct ExpertSums {
    /// Tokens that it is fitted to.
    n: usize,
    /// `X_o^T X_c`.
    products: Cross,
    /// Held-out rows of X_o and X_c.
    held_out: (Vec<f32>, Vec<f32>),
}

/// The matrices of one stack, fitted one after the other.
struct Stack<'a> {
    name: String,
    job: Job,
    ours: Tensor<'a>,
    theirs: Tensor<'a>,
    bytes: Vec<u8>,
    factors: Factors,
    error: HeldOutError,
    keeps_zeros: bool,
    refitted: usize,
    unreached: Vec<usize>,
}

impl BlockWork<'_> {
    /// Refits stacks that multiply the same rows.
    pub(super) fn refit_experts(
        &self,
        (structure, position): (&Structure, &BlockPosition),
        names: &[&str],
        record: &mut BlockRecord,
        (original, ours): (&Model, &mut ModelPass<'_>),
    ) -> Result<Vec<TensorReport>> {
        let Some(mut routed) = self.expert_inputs(names[0], ours, position)? else {
            return Ok(self.unread(names, ours.model));
        };
        let weights = self.weights(writer_of(structure, names[0]), record)?;
        let mut group = structure.groups.iter().flat_map(|group| {
            let has = group.matrices.iter().any(|m| m.tensor == names[0]);
            group.matrices.iter().filter(move |_| has)
        });
        let mut theirs = group.find_map(|matrix| record.routed.remove(&matrix.tensor));
        if theirs.is_none() && matches!(self.towards, Towards::Original { .. }) {
            return Ok(self.unread(names, ours.model));
        }
        let model = ours.model;
        let mut stacks: Vec<Stack<'_>> = names
            .iter()
            .filter_map(|name| Stack::new(renamed(name, self.block), (model, original), self.job))
            .collect();
        let Some(first) = stacks.first() else { return Ok(Vec::new()) };
        let (n_expert, dim) = (n_matrices(first.ours), first.ours.info.n_cols() as usize);
        for expert in 0..n_expert {
            self.engines.check_interrupt()?;
            let name = renamed(names[0], self.block);
            self.report(&format!("{name}, expert {expert} of {n_expert}"));
            let ours = routed.reached(expert);
            let pairs = match &theirs {
                Some(theirs) => pairs(theirs.reached(expert), ours),
                None => pairs(ours, ours),
            };
            let both = (theirs.as_mut(), &mut routed);
            let (gram, reached) = self.expert_sums(&pairs, both, weights.as_deref(), dim)?;
            let towards_original = matches!(self.towards, Towards::Original { .. });
            if towards_original && (reached.n == 0 || reached.held_out.1.is_empty()) {
                stacks.iter_mut().try_for_each(|stack| stack.keep(expert))?;
                continue;
            }
            let more = (ENOUGH * dim as f64 / reached.n.max(1) as f64).max(1.0);
            let normal = self.normal_matrix(gram, (names[0], more))?;
            for stack in &mut stacks {
                stack.fit(expert, &reached, &normal, self.towards)?;
            }
        }
        let mut reports = Vec::new();
        for stack in stacks {
            reports.push(stack.report());
            if stack.refitted > 0 {
                let ty = stack.job.ty();
                let factors = matches!(stack.job, Job::Beside { .. }).then_some(stack.factors);
                ours.replaced.insert(stack.name, NewTensor { ty, bytes: stack.bytes, factors });
            }
        }
        Ok(reports)
    }

    /// Stacks whose inputs llama.cpp does not show.
    fn unread(&self, names: &[&str], model: &Model) -> Vec<TensorReport> {
        let own = names.iter().filter_map(|name| model.tensor(&renamed(name, self.block)));
        own.map(|tensor| TensorReport::of(tensor.info, Outcome::Stacked)).collect()
    }

    /// Runs all texts through `ours` up to these experts.
    fn expert_inputs(
        &self,
        leader: &str,
        ours: &mut ModelPass<'_>,
        position: &BlockPosition,
    ) -> Result<Option<ExpertInputs>> {
        let request = ReadRequest {
            routed: vec![leader.to_owned()],
            last: Some(leader.to_owned()),
            ..ReadRequest::default()
        };
        let engine = ours.open(self.engines, self.mode, self.block)?;
        let mut forward = Forward::new(&engine, position.entry)?;
        let mut routed = None;
        for batch in &self.texts.batches {
            let entering = ours.rows.read(batch.rows.clone())?;
            let mut seen = forward.read(batch, &entering, &request)?;
            if let Some(seen) = seen.routed.remove(leader) {
                let all = (batch, self.texts.n_rows());
                ExpertInputs::add(&mut routed, seen, all, self.engines.folder())?;
            }
        }
        Ok(routed)
    }

    /// The weight of each token for matrices that write into the residual stream.
    fn weights(
        &self,
        writer: Option<super::record::WriterSite>,
        record: &mut BlockRecord,
    ) -> Result<Option<Vec<f32>>> {
        let Some(writer) = writer else { return Ok(None) };
        let mut weights = Vec::new();
        for batch in &self.texts.batches {
            weights.extend(record.weights(writer, batch)?);
        }
        Ok(Some(weights))
    }

    fn expert_sums(
        &self,
        pairs: &[Pair],
        (mut theirs, ours): (Option<&mut ExpertInputs>, &mut ExpertInputs),
        weights: Option<&[f32]>,
        dim: usize,
    ) -> Result<(Gram, ExpertSums)> {
        let (n_y, mut gram) = (if theirs.is_some() { dim } else { 0 }, Gram::new(dim));
        let products = Cross::new(n_y, dim);
        let mut reached = ExpertSums { n: 0, products, held_out: Default::default() };
        let (fitted, held_out): (Vec<Pair>, Vec<Pair>) =
            pairs.iter().partition(|pair| pair.token < self.texts.n_fitted);
        for (pairs, is_held_out) in [(fitted, false), (held_out, true)] {
            for pairs in pairs.chunks(CHUNK) {
                let weighted = |row: usize, pair: &Pair| {
                    (row, weights.map_or(1.0, |weights| weights[pair.token]))
                };
                let of_ours: Vec<_> = pairs.iter().map(|p| weighted(p.ours, p)).collect();
                let of_theirs: Vec<_> = pairs.iter().map(|p| weighted(p.theirs, p)).collect();
                let x_c = ours.gather(&of_ours)?;
                let x_o = theirs.as_mut().map(|theirs| theirs.gather(&of_theirs)).transpose()?;
                if is_held_out {
                    reached.held_out.0.extend(x_o.unwrap_or_default());
                    reached.held_out.1.extend(x_c);
                    continue;
                }
                gram.add(&x_c);
                if let Some(x_o) = x_o {
                    reached.products.add(&x_o, &x_c);
                }
            }
        }
        reached.n = gram.n_rows();
        Ok((gram, reached))
    }
}

impl<'a> Stack<'a> {
    fn new(
        name: String,
        (ours, theirs): (&'a Model, &'a Model),
        job: super::job::Jobs<'_>,
    ) -> Option<Stack<'a>> {
        let (ours, theirs) = (ours.tensor(&name)?, theirs.tensor(&name)?);
        let job = job_of(ours.info, job).ok()?;
        Some(Stack {
            name,
            job,
            ours,
            theirs,
            bytes: Vec::new(),
            factors: Factors::default(),
            error: HeldOutError::default(),
            keeps_zeros: false,
            refitted: 0,
            unreached: Vec::new(),
        })
    }

    fn matrix(&self, expert: usize) -> (Matrix<'a>, usize) {
        let n_out = self.ours.info.shape.get(1).copied().unwrap_or(1);
        let rows = expert as u64 * n_out..(expert as u64 + 1) * n_out;
        (Matrix { tensor: self.ours, rows }, n_out as usize)
    }

    /// Keeps the next expert unchanged.
    fn keep(&mut self, expert: usize) -> Result<()> {
        self.unreached.push(expert);
        let (matrix, n_out) = self.matrix(expert);
        self.bytes.extend(unchanged(&matrix, self.job.ty())?);
        if let Job::Beside { rank } = self.job {
            let dim = self.ours.info.n_cols() as usize;
            self.factors.append(&Factors::none(rank.min(n_out).min(dim), n_out, dim)?);
        }
        Ok(())
    }

    /// Fits the next expert.
    fn fit(
        &mut self,
        expert: usize,
        reached: &ExpertSums,
        normal: &NormalMatrix,
        towards: Towards,
    ) -> Result<()> {
        let (matrix, n_out) = self.matrix(expert);
        let held_out = (&reached.held_out.0[..], &reached.held_out.1[..]);
        let to = match towards {
            Towards::Itself { .. } => FitTarget::Itself(held_out.1),
            Towards::Original { .. } => FitTarget::Original(
                self.theirs,
                Targets::Reader { inputs: &reached.products, held_out },
            ),
        };
        if reached.n == 0 {
            self.unreached.push(expert);
        }
        let Fitted { bytes, factors, error, keeps_zeros } = fit(&matrix, &to, normal, &self.job)?;
        let is_taken = to.accepts(&error);
        self.error.add(&if is_taken { error } else { error.unfitted() });
        self.refitted += usize::from(is_taken);
        self.keeps_zeros |= keeps_zeros && is_taken;
        match is_taken {
            true => self.bytes.extend(bytes),
            false => self.bytes.extend(unchanged(&matrix, self.job.ty())?),
        }
        if let Some(fitted) = factors {
            let dim = self.ours.info.n_cols() as usize;
            let none = || Factors::none(fitted.rank, n_out, dim);
            self.factors.append(&if is_taken { fitted } else { none()? });
        }
        Ok(())
    }

    fn report(&self) -> TensorReport {
        let refitted = self.refitted > 0;
        let swept = matches!(self.job, Job::Swept { .. }) && refitted;
        let ty = if swept { self.job.ty() } else { self.ours.info.ty };
        let outcome = if refitted { Outcome::Refitted } else { Outcome::NoBetter };
        TensorReport {
            ty: ty.name().to_lowercase(),
            error: Some(self.error.relative()),
            zeros_kept: self.keeps_zeros,
            experts: Some(ExpertsReport {
                n: n_matrices(self.ours),
                refitted: self.refitted,
                without_tokens: self.unreached.clone(),
            }),
            ..TensorReport::of(self.ours.info, outcome)
        }
    }
}

/// Matrices of a stack.
fn n_matrices(tensor: Tensor<'_>) -> usize {
    tensor.info.shape.get(2).map_or(1, |n| *n as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_pair_where_both_models_send_them_to_the_expert() {
        let theirs = [(0, 5), (2, 6), (3, 7), (9, 8)];
        let ours = [(1, 0), (2, 1), (3, 2), (8, 3), (9, 4)];
        let pair = |token, theirs, ours| Pair { token, theirs, ours };
        assert_eq!(pairs(&theirs, &ours), [pair(2, 6, 1), pair(3, 7, 2), pair(9, 8, 4)]);
        assert_eq!(pairs(&[], &ours), []);
    }
}
