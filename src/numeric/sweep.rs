//! Optimal brain surgeon's sweep: rows are brought onto a constraint one column at a time, and the
//! columns still to come compensate for what each one lost.
//!
//! ```text
//! q   = project(w_j)            where the constraint lets column j be
//! e   = (w_j - q) / M_jj
//! w_k -= e M_jk   for k < j     (G + ridge I)^-1 = M^T M
//! ```
//! Columns go from the last to the first, because M is lower triangular; the papers (GPTQ, arXiv
//! 2210.17323, algorithm 1; SparseGPT, 2301.00774) go the other way with an upper one. The columns
//! of a run of [`RUN`] are updated one by one, the columns before the run only once per run.

use super::factor::Factor;
use super::product::{add_product, view, view_mut};

/// Columns of a run: a multiple of every type's block that is shorter.
const RUN: usize = 128;

/// The constraint of one row.
pub trait Projection {
    /// Returns what column `j` of the row becomes. `weights`, `[dim]`, are the current values; the
    /// columns after `j` are done.
    fn project(&mut self, j: usize, weights: &[f32]) -> f32;
}

/// Sweeps `weights`, `[n, dim]`, a projection for each row, on this thread only.
///
/// # Panics
/// There are not as many projections as rows.
pub fn sweep<P: Projection>(weights: &mut [f32], factor: &Factor, projections: &mut [P]) {
    let dim = factor.dim();
    let n = weights.len() / dim;
    assert_eq!(n, projections.len(), "a projection for every row");
    let mut errors = vec![0f32; n * RUN];
    for first in (0..dim).step_by(RUN).rev() {
        let len = RUN.min(dim - first);
        let rows = weights.chunks_exact_mut(dim).zip(errors.chunks_exact_mut(RUN));
        for ((row, errors), projection) in rows.zip(&mut *projections) {
            for j in (first..first + len).rev() {
                let m = factor.row(j);
                let at = projection.project(j, row);
                let error = (row[j] - at) / m[j];
                row[j] = at;
                errors[j - first] = error;
                let before = row[first..j].iter_mut().zip(&m[first..j]);
                before.for_each(|(w, m)| *w -= error * m);
            }
        }
        let m = factor.rows(first, len, first);
        add_product(view_mut(weights, n, first, dim), view(&errors, n, len, RUN), m, -1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numeric::testing::{gram, inverse, random};

    /// Zeros where a mask is set, else the nearest multiple of a step.
    struct Rounds<'a> {
        mask: &'a [bool],
        step: f32,
    }

    impl Projection for Rounds<'_> {
        fn project(&mut self, j: usize, weights: &[f32]) -> f32 {
            match (self.mask[j], self.step) {
                (true, _) => 0.0,
                (false, 0.0) => weights[j],
                (false, step) => (weights[j] / step).round_ties_even() * step,
            }
        }
    }

    /// SparseGPT's and GPTQ's loop as the papers have it, in f64 and from the last column: the
    /// inverse of what is left of H after each column, no factor.
    fn reference(w: &[f32], h: &[f64], dim: usize, mask: &[bool], step: f64) -> Vec<f64> {
        let mut w: Vec<f64> = w.iter().map(|x| f64::from(*x)).collect();
        let mut inv = inverse(h, dim);
        for j in (0..dim).rev() {
            let q = match (mask[j], step > 0.0) {
                (true, _) => 0.0,
                (false, false) => w[j],
                (false, true) => (w[j] / step).round_ties_even() * step,
            };
            let error = (w[j] - q) / inv[j * dim + j];
            (0..j).for_each(|k| w[k] -= error * inv[j * dim + k]);
            w[j] = q;
            // Column j leaves: Gauss elimination of the inverse (SparseGPT, equation 5).
            let row: Vec<f64> = (0..dim).map(|k| inv[j * dim + k]).collect();
            for a in 0..j {
                for b in 0..j {
                    inv[a * dim + b] -= row[a] * row[b] / row[j];
                }
            }
        }
        w
    }

    #[test]
    fn the_sweep_equals_the_papers_loop_in_f64() {
        let (dim, n) = (300, 700);
        let ridge = 20.0;
        let (gram, h) = gram(&random(5, n * dim), dim, ridge);
        let factor = Factor::new(gram, ridge).unwrap();
        let w = random(6, dim);
        let mask: Vec<bool> = random(7, dim).iter().map(|x| *x > 0.0).collect();
        let none = vec![false; dim];
        for (mask, step) in [(&mask, 0.0f32), (&none, 0.11), (&mask, 0.11)] {
            let mut found = w.clone();
            sweep(&mut found, &factor, &mut [Rounds { mask, step }]);
            let expected = reference(&w, &h, dim, mask, f64::from(step));
            // A weight that lies between two steps may go either way, and others after it.
            let far =
                found.iter().zip(&expected).filter(|(a, b)| (f64::from(**a) - **b).abs() > 1e-4);
            let allowed = if step == 0.0 { 0 } else { 3 };
            assert!(far.clone().count() <= allowed, "{step}: {:?}", far.collect::<Vec<_>>());
            assert!(found.iter().zip(mask).all(|(w, zero)| !zero || *w == 0.0));
        }
    }
}
