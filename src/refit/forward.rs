//! Activations inside a model, or inside one block of it that gets the rows of the residual stream.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::ControlFlow;

use super::error::Result;
use super::texts::{Batch, MAX_PARALLEL, N_BATCH};
use crate::llama::{Engine, Error as LlamaError, Hooks, LinearInput, RowUse, Session, Site, Size};

/// What to read in a pass.
#[derive(Debug, Clone, Default)]
pub(super) struct ReadRequest {
    /// Matrices whose inputs are read.
    pub inputs: Vec<String>,
    /// Stacks of experts whose inputs and routing are read.
    pub routed: Vec<String>,
    /// Writers whose outputs are read: their places in the structure.
    pub outputs: Vec<usize>,
    /// Points at which the residual stream is read.
    pub points: Vec<usize>,
    /// The matrix whose input is needed last; None: the decode runs to its end.
    pub last: Option<String>,
}

/// What was read: rows of the batch, one after the other.
#[derive(Debug, Default)]
pub(super) struct Activations {
    /// By matrix.
    pub inputs: HashMap<String, Vec<f32>>,
    /// By stack of experts.
    pub routed: HashMap<String, ExpertRows>,
    /// By writer.
    pub outputs: HashMap<usize, Vec<f32>>,
    /// By point.
    pub points: HashMap<usize, Vec<f32>>,
}

/// The inputs of experts in one batch.
#[derive(Debug)]
pub(super) struct ExpertRows {
    pub rows: Vec<f32>,
    pub uses: Vec<RowUse>,
}

/// A model that reads batches.
pub(super) struct Forward<'e> {
    session: Session<'e>,
    /// The point where rows are put in; None: the model reads the tokens.
    entry: Option<usize>,
}

impl<'e> Forward<'e> {
    /// A context of `engine`; rows enter at the point `entry`, where there is one.
    pub(super) fn new(engine: &'e Engine, entry: Option<usize>) -> Result<Forward<'e>> {
        let (n_ctx, n_seq) = (N_BATCH as u32, MAX_PARALLEL as u32);
        let n_seq = if engine.is_recurrent() { 1 } else { n_seq };
        let size = Size { n_ctx, n_batch: n_ctx, n_seq, unified: true };
        Ok(Forward { session: Session::new(engine, size)?, entry })
    }

    /// Reads one batch. `rows`, `[n, n_embd]`, enter at the entry, if there is one.
    ///
    /// # Errors
    /// llama.cpp cannot, or what was asked for is not there.
    pub(super) fn read(
        &mut self,
        batch: &Batch,
        rows: &[f32],
        request: &ReadRequest,
    ) -> Result<Activations> {
        self.session.clear();
        let mut inputs = batch.inputs.clone();
        if self.entry.is_some() {
            // Any token works: its embedding is overwritten.
            inputs.iter_mut().for_each(|input| input.token = 0);
        }
        let (seen, mut next) = (RefCell::new(Activations::default()), 0);
        let entry = self.entry;
        let enter = |_: Site, row: &mut [f32]| {
            row.copy_from_slice(&rows[next..next + row.len()]);
            next += row.len();
        };
        let at = |site: Site| match site {
            Site::Point(point) => request.points.contains(&point),
            Site::Output(writer) => request.outputs.contains(&writer),
        };
        let read = |site: Site, _: usize, row: &[f32]| {
            let mut seen = seen.borrow_mut();
            let rows = match site {
                Site::Point(point) => seen.points.entry(point).or_default(),
                Site::Output(writer) => seen.outputs.entry(writer).or_default(),
            };
            rows.extend_from_slice(row);
            Ok(())
        };
        let take = |input: &LinearInput<'_>| {
            let mut seen = seen.borrow_mut();
            let rows = input.rows.to_vec();
            if request.routed.iter().any(|n| n == input.weight) {
                let uses = input.uses.to_vec();
                seen.routed.insert(input.weight.into(), ExpertRows { rows, uses });
            } else {
                seen.inputs.insert(input.weight.into(), rows);
            }
            Ok(match request.last.as_deref() == Some(input.weight) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            })
        };
        let of = |name: &str| {
            let all = request.inputs.iter().chain(&request.routed).chain(&request.last);
            all.clone().any(|n| n == name)
        };
        let mut hooks = Hooks::new().inputs(of, take);
        if !request.points.is_empty() || !request.outputs.is_empty() {
            hooks = hooks.read(at, read);
        }
        if entry.is_some() {
            hooks = hooks.change(move |site| Some(site) == entry.map(Site::Point), enter);
        }
        self.session.decode(&inputs, Some(&mut hooks))?;
        drop(hooks);
        let seen = seen.into_inner();
        let n = inputs.len();
        let all = seen.points.values().chain(seen.outputs.values()).chain(seen.inputs.values());
        match all.clone().all(|rows| !rows.is_empty() && rows.len().is_multiple_of(n)) {
            true => Ok(seen),
            false => {
                let n_rows = all.map(Vec::len).min().unwrap_or(0);
                Err(LlamaError::CutBatch { n_rows, n_tokens: n }.into())
            }
        }
    }
}
