//! One matrix swept onto zeros and a grid: towards what the original says, by least squares first,
//! or from its own weights.
//!
//! ```text
//! G  = X_c^T X_c                 X_c: what enters the matrix in the model being restored
//! T  = Y^T X_c                   Y: what the original's matrix says, with drift for writers
//! W* = (T + p W_o) (G + p I)^-1  p = prior x mean diag(G): ridge towards the original's weights
//! W' = sweep(W*, G + p I)
//! ```
//! The same ridge p is the sweep's damping, so that one factor serves both. From its own weights
//! W* is W, and p the damping alone (GPTQ, SparseGPT). A matrix is worked on some rows at a time:
//! only G and T are held whole.

use super::error::{Error, Result};
use super::job::{Job, Zeros};
use super::targets::Targets;
use crate::gguf::Tensor;
use crate::llama::is_encodable;
use crate::numeric::{BAND, Factor, products};
use crate::quant::{Mask, Onto, PRUNED_SHARE, decode_rows, decoded, encode_rows, onto};

/// Elements of a matrix worked on at once.
const SLAB: usize = 8 << 20;
/// Zeros that rounding alone does not make.
const SURE_SHARE: f64 = 0.25;
/// Rows looked at to tell pruned zeros from those of rounding.
const SAMPLED: u64 = 64;

/// A refitted matrix.
#[derive(Debug)]
pub(super) struct Fitted {
    /// Its bytes, of the type that it had; None where they would not have been better.
    pub bytes: Option<Vec<u8>>,
    /// `|Y - X_c W^T| / |Y|` on held-out tokens, before and after.
    pub error: (f64, f64),
    /// True if its zeros were kept.
    pub keeps_zeros: bool,
}

/// What all matrices of a group share: the factor and what matters.
pub(super) struct Ground {
    pub factor: Factor,
    /// p.
    pub ridge: f32,
    /// diag(G + p I), [dim].
    pub importance: Vec<f32>,
}

/// What a matrix is swept towards.
pub(super) enum SweptTo<'a> {
    /// What its original says; it stays as it is where that would come no nearer.
    Original(Tensor<'a>, Targets<'a>),
    /// What it says itself, of these held-out inputs, [n, dim].
    Itself(&'a [f32]),
}

/// Sweeps `matrix` as `job` says.
///
/// # Errors
/// A type that ggml does not write; a NaN or an infinity.
pub(super) fn fit(
    matrix: Tensor<'_>,
    towards: &SweptTo<'_>,
    ground: &Ground,
    job: &Job,
) -> Result<Fitted> {
    let (ty, dim) = (job.ty, ground.factor.dim());
    let n_rows = matrix.info.n_rows();
    let keeps_zeros = match (job.zeros, towards) {
        (Zeros::Own, SweptTo::Original(original, _)) => is_pruned(matrix, Some(*original))?,
        (Zeros::Own, SweptTo::Itself(_)) => is_pruned(matrix, None)?,
        (Zeros::Least(_), _) => false,
    };
    let slab = ((SLAB / dim).max(BAND) / BAND * BAND) as u64;
    let mut bytes = Vec::new();
    let (mut before, mut after, mut all) = (0.0, 0.0, 0.0);
    for first in (0..n_rows).step_by(slab as usize) {
        let rows = first..n_rows.min(first + slab);
        let at = rows.start as usize..rows.end as usize;
        let ours = decoded(matrix, rows.clone())?;
        let (mut weights, wanted, inputs) = match towards {
            SweptTo::Original(original, targets) => {
                let theirs = decoded(*original, rows.clone())?;
                let mut weights = targets.times_inputs(&theirs, at.clone(), dim);
                weights.iter_mut().zip(&theirs).for_each(|(t, w)| *t += ground.ridge * w);
                solve(&mut weights, &ground.factor);
                (weights, targets.held_out(&theirs, at, dim), targets.held_out_inputs())
            }
            SweptTo::Itself(inputs) => (ours.clone(), products(inputs, &ours, dim), *inputs),
        };
        if let Some(i) = weights.iter().position(|w| !w.is_finite()) {
            let (name, row) = (matrix.info.name.clone(), first + (i / dim) as u64);
            return Err(Error::Astray { name, row });
        }
        let mask = match &job.zeros {
            Zeros::Own if keeps_zeros => Mask::Zeros(&ours),
            Zeros::Own => Mask::Free,
            Zeros::Least(pattern) => Mask::Least(pattern),
        };
        let constraint = Onto { ty, importance: &ground.importance, mask };
        let new = onto(&mut weights, &ground.factor, constraint)?;
        decode_rows(ty, &new, dim, &mut weights)?;
        let missed = |w: &[f32]| -> f64 {
            let found = products(inputs, w, dim);
            found.iter().zip(&wanted).map(|(a, b)| f64::from(a - b).powi(2)).sum()
        };
        before += missed(&ours);
        after += missed(&weights);
        all += wanted.iter().map(|y| f64::from(*y).powi(2)).sum::<f64>();
        bytes.extend_from_slice(&new);
    }
    let part = |missed: f64| if all > 0.0 { (missed / all).sqrt() } else { 0.0 };
    let is_taken = matches!(towards, SweptTo::Itself(_)) || after < before;
    Ok(Fitted { bytes: is_taken.then_some(bytes), error: (part(before), part(after)), keeps_zeros })
}

/// `B H^-1`, many rows in parallel.
fn solve(weights: &mut [f32], factor: &Factor) {
    use rayon::prelude::*;
    weights.par_chunks_mut(BAND * factor.dim()).for_each(|tile| factor.solve(tile));
}

/// True if more of the matrix is zero than rounding its original, where there is one, to its type
/// would make zero.
fn is_pruned(compressed: Tensor<'_>, original: Option<Tensor<'_>>) -> Result<bool> {
    let (n_rows, dim) = (compressed.info.n_rows(), compressed.info.n_cols() as usize);
    let ty = compressed.info.ty;
    let step = n_rows.div_ceil(SAMPLED).max(1);
    let (mut found, mut rounded, mut n) = (0usize, 0usize, 0usize);
    let zeros = |values: &[f32]| values.iter().filter(|x| **x == 0.0).count();
    for row in (0..n_rows).step_by(step as usize) {
        found += zeros(&decoded(compressed, row..row + 1)?);
        n += dim;
        let Some(original) = original else { continue };
        let mut theirs = decoded(original, row..row + 1)?;
        if is_encodable(ty) {
            let mut bytes = vec![0; compressed.info.row_bytes() as usize];
            encode_rows(ty, &theirs, dim, None, &mut bytes)?;
            decode_rows(ty, &bytes, dim, &mut theirs)?;
        }
        rounded += zeros(&theirs);
    }
    // Of a quantized matrix without an original nobody knows what rounding made zero.
    let share = match original {
        None if ty.is_quantized() => SURE_SHARE,
        _ => PRUNED_SHARE,
    };
    Ok(found as f64 - rounded as f64 > share * n as f64)
}
