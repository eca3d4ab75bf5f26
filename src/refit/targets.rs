//! The targets of a matrix: sums over the tokens that it is fitted to, and the held-out rows.

use std::ops::Range;

use rayon::prelude::*;

use crate::numeric::{BAND, Cross, products};

/// The targets of one matrix, `[n_out, dim]`.
pub(super) enum Targets<'a> {
    /// The original matrix's outputs for its own inputs.
    Reader {
        /// `X_o^T X_c`, `[dim, dim]`: T is the original's weights times this.
        inputs: &'a Cross,
        /// Held-out inputs of the original and of the model being restored, `[n, dim]`.
        held_out: (&'a [f32], &'a [f32]),
    },
    /// The original matrix's outputs, plus the drift of the residual stream.
    Writer {
        /// T, `[n_out, dim]`.
        products: &'a Cross,
        /// Held-out Y, `[n, n_out]`, and inputs of the model being restored, `[n, dim]`.
        held_out: (&'a [f32], &'a [f32]),
    },
}

impl Targets<'_> {
    /// Rows `at` of T, `[n, dim]`; `theirs`: those rows of the original's matrix.
    pub(super) fn times_inputs(&self, theirs: &[f32], at: Range<usize>, dim: usize) -> Vec<f32> {
        match self {
            Targets::Writer { products, .. } => {
                products.values()[at.start * dim..at.end * dim].to_vec()
            }
            Targets::Reader { inputs, .. } => {
                let mut out = vec![0.0; theirs.len()];
                let bands = out.par_chunks_mut(BAND * dim).zip(theirs.par_chunks(BAND * dim));
                bands.for_each(|(out, theirs)| inputs.add_applied(theirs, out));
                out
            }
        }
    }

    /// Columns `at` of the held-out Y, `[n, n_at]`; `theirs`: those rows of the original's matrix.
    pub(super) fn held_out(&self, theirs: &[f32], at: Range<usize>, dim: usize) -> Vec<f32> {
        match self {
            Targets::Reader { held_out, .. } => products(held_out.0, theirs, dim),
            Targets::Writer { products, held_out } => {
                let rows = held_out.0.chunks_exact(products.n_y());
                rows.flat_map(|row| &row[at.clone()]).copied().collect()
            }
        }
    }

    /// Held-out inputs of the model being restored, `[n, dim]`.
    pub(super) fn held_out_inputs(&self) -> &[f32] {
        match self {
            Targets::Reader { held_out, .. } | Targets::Writer { held_out, .. } => held_out.1,
        }
    }
}
