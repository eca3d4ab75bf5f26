//! Products of matrices, on views of slices.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

/// Rows per task: of products, and of other parallel work on a matrix.
pub const BAND: usize = 128;
/// Columns per task if there are too few rows.
pub(super) const COLUMNS: usize = 512;

/// Rows and columns of a matrix that lies in a slice with `stride` elements from row to row.
pub(super) fn view(values: &[f32], n_rows: usize, n_cols: usize, stride: usize) -> MatRef<'_, f32> {
    MatRef::from_row_major_slice_with_stride(values, n_rows, n_cols, stride)
}

/// As [`view`]. It builds the view column by column, because faer 0.24's own function for rows
/// swaps the strides (`from_row_major_slice_with_stride_mut` of `mat/matmut.rs`).
pub(super) fn view_mut(
    values: &mut [f32],
    n_rows: usize,
    n_cols: usize,
    stride: usize,
) -> MatMut<'_, f32> {
    MatMut::from_column_major_slice_with_stride_mut(values, n_cols, n_rows, stride).transpose_mut()
}

/// `out += alpha a b`, on this thread only.
pub(super) fn add_product(
    out: MatMut<'_, f32>,
    a: MatRef<'_, f32>,
    b: MatRef<'_, f32>,
    alpha: f32,
) {
    if a.ncols() > 0 {
        matmul(out, Accum::Add, a, b, alpha, Par::Seq);
    }
}

/// `x w^T`: the outputs of a matrix `w`, `[n_out, dim]`, for the rows of `x`, `[n_rows, dim]`;
/// `[n_rows, n_out]`.
///
/// # Panics
/// Lengths are not a multiple of `dim`.
pub fn products(x: &[f32], w: &[f32], dim: usize) -> Vec<f32> {
    let (n_rows, n_out) = (x.len() / dim, w.len() / dim);
    let mut out = vec![0.0; n_rows * n_out];
    out.par_chunks_mut(BAND * n_out).zip(x.par_chunks(BAND * dim)).for_each(|(out, x)| {
        let n = x.len() / dim;
        add_product(
            view_mut(out, n, n_out, n_out),
            view(x, n, dim, dim),
            view(w, n_out, dim, dim).transpose(),
            1.0,
        );
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_sums_over_inputs() {
        let x = [1.0, 2.0, 3.0, 4.0];
        let w = [1.0, 0.0, 0.0, 1.0, 1.0, -1.0];
        assert_eq!(products(&x, &w, 2), [1.0, 2.0, -1.0, 3.0, 4.0, -1.0]);
    }
}
