//! What a matrix writes along a direction, and the alpha that an edit left in it: measured only
//! from bytes, however they were made.

use std::ops::Range;

use super::error::Result;
use super::rows::decoded;
use super::stream::fold_range;
use crate::gguf::{Tensor, Watch};

/// `g = r^T W`, `[n_cols]`, of the rows `rows` of a tensor: one matrix W, `[n_rows, n_cols]`, of
/// which r, `direction`, `[n_rows]`, is a vector on the outputs' side. A NaN or an infinity
/// anywhere in W makes an element of g non-finite: if all sums are finite, so are all weights.
///
/// # Errors
/// The type cannot be decoded, or an interrupt.
///
/// # Panics
/// `direction` has another length than `rows`.
pub fn written_along(
    tensor: Tensor<'_>,
    rows: Range<u64>,
    direction: &[f32],
    watch: &dyn Watch,
) -> Result<Vec<f64>> {
    assert_eq!(direction.len() as u64, rows.end - rows.start, "an element of r for every row");
    let n_cols = tensor.info.n_cols() as usize;
    let mut g = vec![0f64; n_cols];
    let part = |part: Range<u64>| {
        let first = (part.start - rows.start) as usize;
        let mut g = vec![0f64; n_cols];
        let weights = decoded(tensor, part)?;
        for (row, r) in weights.chunks_exact(n_cols.max(1)).zip(&direction[first..]) {
            g.iter_mut().zip(row).for_each(|(g, w)| *g += f64::from(*r) * f64::from(*w));
        }
        Ok(g)
    };
    let add = |part: Vec<f64>| g.iter_mut().zip(part).for_each(|(g, x)| *g += x);
    fold_range(tensor.info, rows.clone(), tensor.info.row_bytes(), watch, part, add)?;
    Ok(g)
}

/// `<W' - W, r g> / |g|^2`, the alpha that matrices W' hold, from `g = r^T W` of each and
/// `g' = r^T W'`: `<W, r g> = |g|^2` and `<W', r g> = g' . g`. All matrices together; NaN where
/// they write nothing along r.
pub fn realised_alpha(before: &[Vec<f64>], after: &[Vec<f64>]) -> f64 {
    let (mut along, mut square) = (0.0, 0.0);
    for (g, new) in before.iter().flatten().zip(after.iter().flatten()) {
        along += g * (new - g);
        square += g * g;
    }
    along / square
}
