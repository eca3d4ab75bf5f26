//! Fits one matrix to the original's outputs by least squares, and puts it onto zeros and a grid;
//! or sweeps it from its own weights.
//!
//! ```text
//! G  = X_c^T X_c                 X_c: the matrix's inputs in the model being restored
//! T  = Y^T X_c                   Y: the original matrix's outputs, with drift for writers
//! W* = (T + p W_o) (G + p I)^-1  p = prior x mean diag(G): ridge towards the original's weights
//! W' = sweep(W*, G + p I)
//! ```
//! The same ridge p is the sweep's damping, so that one factor serves both. From its own weights W*
//! is W, and p only the damping (GPTQ, SparseGPT). A matrix is swept some rows at a time: only G
//! and T are held whole. Factors beside a matrix need all of W* - W.

use std::ops::Range;

use super::block::NewTensor;
use super::error::{Error, Result};
use super::factors::{self, Factors};
use super::job::{Job, Zeros};
use super::targets::Targets;
use crate::gguf::{GgmlType, Tensor};
use crate::llama::is_encodable;
use crate::numeric::{BAND, Factor, products};
use crate::quant::{Mask, Onto, PRUNED_SHARE, decode_rows, decoded, encoded, onto};

/// Elements of a matrix that are in work at once.
const SLAB: usize = 8 << 20;
/// Share of zeros that rounding by itself does not make.
const SURE_SHARE: f64 = 0.25;
/// Rows sampled to tell pruned zeros from those of rounding.
const SAMPLED: u64 = 64;

/// A tensor, or one matrix of the stack that it is.
#[derive(Debug, Clone)]
pub(super) struct Matrix<'a> {
    pub tensor: Tensor<'a>,
    /// Its rows there.
    pub rows: Range<u64>,
}

/// A fitted matrix.
#[derive(Debug)]
pub(super) struct Fitted {
    /// Its replacement, in the job's type.
    pub bytes: Vec<u8>,
    /// The factors beside it, if the job asks for them.
    pub factors: Option<Factors>,
    pub error: HeldOutError,
    /// True if its zeros were kept.
    pub keeps_zeros: bool,
}

/// Squared errors over held-out tokens.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct HeldOutError {
    /// `|Y - X_c W^T|^2` of the matrix as it was.
    before: f64,
    /// The same of the fitted matrix.
    after: f64,
    /// `|Y|^2`, the reference of relative errors.
    all: f64,
}

impl HeldOutError {
    /// The error if the matrix is not fitted.
    pub(super) fn unfitted(&self) -> HeldOutError {
        HeldOutError { after: self.before, ..*self }
    }

    pub(super) fn add(&mut self, other: &HeldOutError) {
        self.before += other.before;
        self.after += other.after;
        self.all += other.all;
    }

    /// `|Y - X_c W^T| / |Y|`, before and after.
    pub(super) fn relative(&self) -> (f64, f64) {
        let part = |missed: f64| if self.all > 0.0 { (missed / self.all).sqrt() } else { 0.0 };
        (part(self.before), part(self.after))
    }
}

/// What all matrices of a group share: the factor, the ridge and the importance.
pub(super) struct NormalMatrix {
    pub factor: Factor,
    /// p, the ridge of the formulas above.
    pub ridge: f32,
    /// diag(G + p I), `[dim]`.
    pub importance: Vec<f32>,
}

/// The target of a fit.
pub(super) enum FitTarget<'a> {
    /// The original matrix's outputs.
    Original(Tensor<'a>, Targets<'a>),
    /// Its own outputs for these held-out inputs, `[n, dim]`.
    Itself(&'a [f32]),
}

impl FitTarget<'_> {
    /// True if a matrix with this error replaces the old one: towards an original, it must be
    /// closer to it.
    pub(super) fn accepts(&self, error: &HeldOutError) -> bool {
        matches!(self, FitTarget::Itself(_)) || error.after < error.before
    }

    /// Held-out inputs, `[n, dim]`.
    fn inputs(&self) -> &[f32] {
        match self {
            FitTarget::Original(_, targets) => targets.held_out_inputs(),
            FitTarget::Itself(inputs) => inputs,
        }
    }
}

/// Some rows of a matrix at a time.
struct Slab<'a> {
    matrix: &'a Matrix<'a>,
    /// Counted from the matrix's first row.
    rows: Range<usize>,
    /// The current weights.
    ours: Vec<f32>,
    /// The original's weights, if there is an original.
    theirs: Vec<f32>,
}

impl<'a> Slab<'a> {
    fn all(
        matrix: &'a Matrix<'a>,
        towards: &'a FitTarget<'_>,
    ) -> impl Iterator<Item = Result<Slab<'a>>> {
        let dim = matrix.tensor.info.n_cols() as usize;
        let n = (SLAB / dim).max(BAND) / BAND * BAND;
        let (first, n_rows) = (matrix.rows.start, (matrix.rows.end - matrix.rows.start) as usize);
        (0..n_rows).step_by(n).map(move |start| {
            let rows = start..n_rows.min(start + n);
            let at = first + rows.start as u64..first + rows.end as u64;
            let ours = decoded(matrix.tensor, at.clone())?;
            let theirs = match towards {
                FitTarget::Original(original, _) => decoded(*original, at)?,
                FitTarget::Itself(_) => Vec::new(),
            };
            Ok(Slab { matrix, rows, ours, theirs })
        })
    }

    fn dim(&self) -> usize {
        self.matrix.tensor.info.n_cols() as usize
    }

    /// W*, `[n, dim]`.
    fn wished(&self, towards: &FitTarget<'_>, normal: &NormalMatrix) -> Result<Vec<f32>> {
        let FitTarget::Original(_, targets) = towards else { return Ok(self.ours.clone()) };
        let mut weights = targets.times_inputs(&self.theirs, self.rows.clone(), self.dim());
        weights.iter_mut().zip(&self.theirs).for_each(|(t, w)| *t += normal.ridge * w);
        solve(&mut weights, &normal.factor);
        match weights.iter().position(|w| !w.is_finite()) {
            None => Ok(weights),
            Some(i) => {
                let row = self.matrix.rows.start + (self.rows.start + i / self.dim()) as u64;
                Err(Error::NotFinite { name: self.matrix.tensor.info.name.clone(), row })
            }
        }
    }

    /// The error on held-out tokens with `new` as the rows.
    fn error(&self, new: &[f32], towards: &FitTarget<'_>) -> HeldOutError {
        let (dim, inputs) = (self.dim(), towards.inputs());
        let wanted = match towards {
            FitTarget::Original(_, targets) => {
                targets.held_out(&self.theirs, self.rows.clone(), dim)
            }
            FitTarget::Itself(inputs) => products(inputs, &self.ours, dim),
        };
        let missed = |weights: &[f32]| -> f64 {
            let found = products(inputs, weights, dim);
            found.iter().zip(&wanted).map(|(a, b)| f64::from(a - b).powi(2)).sum()
        };
        let all = wanted.iter().map(|y| f64::from(*y).powi(2)).sum();
        HeldOutError { before: missed(&self.ours), after: missed(new), all }
    }
}

/// Fits `matrix` by `job`.
///
/// # Errors
/// A type that ggml cannot write; a NaN or an infinity.
pub(super) fn fit(
    matrix: &Matrix<'_>,
    towards: &FitTarget<'_>,
    normal: &NormalMatrix,
    job: &Job,
) -> Result<Fitted> {
    let (ty, dim) = (job.ty(), normal.factor.dim());
    let original = match towards {
        FitTarget::Original(original, _) => Some(*original),
        FitTarget::Itself(_) => None,
    };
    let keeps_zeros = match job {
        Job::Swept { zeros: Zeros::Own, .. } => is_pruned(matrix, original)?,
        Job::Swept { .. } | Job::Beside { .. } => false,
    };
    let factors = match job {
        Job::Beside { rank } => Some(lacking(matrix, towards, normal, *rank)?),
        Job::Swept { .. } => None,
    };
    let (mut bytes, mut error) = (Vec::new(), HeldOutError::default());
    for slab in Slab::all(matrix, towards) {
        let slab = slab?;
        let mask = match job {
            Job::Swept { zeros: Zeros::Least(pattern), .. } => Mask::Least(pattern),
            _ if keeps_zeros => Mask::Zeros(&slab.ours),
            _ => Mask::Free,
        };
        let new = match &factors {
            None => swept(&slab, towards, normal, (ty, mask))?,
            Some(factors) => {
                let mut weights = slab.ours.clone();
                factors.add(slab.rows.clone(), &mut weights)?;
                encoded(ty, &weights, dim)?
            }
        };
        let mut weights = vec![0.0; slab.ours.len()];
        decode_rows(ty, &new, dim, &mut weights)?;
        error.add(&slab.error(&weights, towards));
        bytes.extend_from_slice(&new);
    }
    Ok(Fitted { bytes, factors, error, keeps_zeros })
}

fn swept(
    slab: &Slab<'_>,
    towards: &FitTarget<'_>,
    normal: &NormalMatrix,
    (ty, mask): (GgmlType, Mask<'_>),
) -> Result<Vec<u8>> {
    let mut weights = slab.wished(towards, normal)?;
    let constraint = Onto { ty, importance: &normal.importance, mask };
    Ok(onto(&mut weights, &normal.factor, constraint)?)
}

/// The factors that compensate for the matrix's error.
fn lacking(
    matrix: &Matrix<'_>,
    towards: &FitTarget<'_>,
    normal: &NormalMatrix,
    rank: usize,
) -> Result<Factors> {
    let mut lacking = Vec::new();
    for slab in Slab::all(matrix, towards) {
        let slab = slab?;
        let wished = slab.wished(towards, normal)?;
        lacking.extend(wished.iter().zip(&slab.ours).map(|(w, ours)| w - ours));
    }
    Factors::of(lacking, &normal.factor, rank)
}

/// `tensor` plus the product of the factors beside it.
pub(super) fn with_factors(tensor: Tensor<'_>, factors: Factors) -> Result<NewTensor> {
    let (dim, ty) = (tensor.info.n_cols() as usize, factors::TYPE);
    let n_out = tensor.info.shape.get(1).map_or(1, |n| *n as usize);
    let n_matrices = tensor.info.n_rows() as usize / n_out.max(1);
    let mut bytes = Vec::new();
    for i in 0..n_matrices {
        let rows = (i * n_out) as u64..((i + 1) * n_out) as u64;
        let mut weights = decoded(tensor, rows)?;
        factors.of_stack(i, n_out, dim).add(0..n_out, &mut weights)?;
        bytes.extend(encoded(ty, &weights, dim)?);
    }
    Ok(NewTensor { ty, bytes, factors: Some(factors) })
}

/// The matrix unchanged, converted to `ty` if that is not its own type.
pub(super) fn unchanged(matrix: &Matrix<'_>, ty: GgmlType) -> Result<Vec<u8>> {
    let tensor = matrix.tensor;
    match tensor.info.ty == ty {
        true => Ok(tensor.rows(matrix.rows.clone()).to_vec()),
        false => {
            let weights = decoded(tensor, matrix.rows.clone())?;
            Ok(encoded(ty, &weights, tensor.info.n_cols() as usize)?)
        }
    }
}

/// `B H^-1`, many rows in parallel.
fn solve(weights: &mut [f32], factor: &Factor) {
    use rayon::prelude::*;
    weights.par_chunks_mut(BAND * factor.dim()).for_each(|tile| factor.solve(tile));
}

/// True if more of the matrix is zero than rounding its original, if there is one, to its type
/// would make zero.
fn is_pruned(matrix: &Matrix<'_>, original: Option<Tensor<'_>>) -> Result<bool> {
    let info = matrix.tensor.info;
    let (n_rows, dim) = (matrix.rows.end - matrix.rows.start, info.n_cols() as usize);
    let step = n_rows.div_ceil(SAMPLED).max(1);
    let (mut found, mut rounded, mut n) = (0usize, 0usize, 0usize);
    let zeros = |values: &[f32]| values.iter().filter(|x| **x == 0.0).count();
    for row in matrix.rows.clone().step_by(step as usize) {
        found += zeros(&decoded(matrix.tensor, row..row + 1)?);
        n += dim;
        let Some(original) = original else { continue };
        let mut theirs = decoded(original, row..row + 1)?;
        if is_encodable(info.ty) {
            let bytes = encoded(info.ty, &theirs, dim)?;
            decode_rows(info.ty, &bytes, dim, &mut theirs)?;
        }
        rounded += zeros(&theirs);
    }
    // For a quantized matrix without an original, nobody knows which zeros came from rounding.
    let share = match original {
        None if info.ty.is_quantized() => SURE_SHARE,
        _ => PRUNED_SHARE,
    };
    Ok(found as f64 - rounded as f64 > share * n as f64)
}
