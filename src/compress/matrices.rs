//! A tensor as the matrices it holds: one, or a stack with one per expert.

use std::ops::Range;

use rayon::prelude::*;

use super::error::{Error, Result};
use crate::gguf::{GgmlType, TensorInfo};
use crate::quant::first_non_finite;

/// Elements per task: small enough to share work and to stay in the cache.
const ELEMENTS_PER_TASK: u64 = 64 << 10;

/// Matrices in a tensor.
pub(super) fn n_matrices(info: &TensorInfo) -> usize {
    info.shape.iter().skip(2).product::<u64>() as usize
}

/// The rows of one of them.
pub(super) fn matrix_rows(info: &TensorInfo, matrix: usize) -> Range<u64> {
    let n_rows = info.n_rows() / n_matrices(info).max(1) as u64;
    matrix as u64 * n_rows..(matrix as u64 + 1) * n_rows
}

/// `rows` matrix by matrix, in order.
pub(super) fn by_matrix(
    info: &TensorInfo,
    rows: Range<u64>,
) -> impl Iterator<Item = (usize, Range<u64>)> {
    let per_matrix = (info.n_rows() / n_matrices(info).max(1) as u64).max(1);
    let matrices = rows.start / per_matrix..rows.end.div_ceil(per_matrix);
    matrices.map(move |matrix| {
        let (first, last) = (matrix * per_matrix, (matrix + 1) * per_matrix);
        (matrix as usize, first.max(rows.start)..last.min(rows.end))
    })
}

/// Makes `rows` of a matrix again as `ty`, a few at a time, in parallel: `make` gets the rows, a
/// buffer of any content for their values, and the place of their bytes. Its results are returned
/// in the rows' order.
///
/// # Errors
/// The first rows' error, for any number of threads: `make`'s, or a value that is not finite in
/// `ty`.
pub(super) fn make_rows<T: Send>(
    info: &TensorInfo,
    ty: GgmlType,
    rows: Range<u64>,
    out: &mut [u8],
    make: impl Fn(Range<u64>, &mut [f32], &mut [u8]) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let n_cols = info.n_cols() as usize;
    let per_task = (ELEMENTS_PER_TASK / info.n_cols().max(1)).max(1);
    let task_bytes = (per_task * info.row_bytes_as(ty).unwrap_or(0)).max(1) as usize;
    let task = |buffer: &mut Vec<f32>, (i, out): (usize, &mut [u8])| {
        let first = rows.start + i as u64 * per_task;
        let rows = first..rows.end.min(first + per_task);
        buffer.resize((rows.end - rows.start) as usize * n_cols, 0.0);
        let made = make(rows, buffer, out)?;
        match first_non_finite(ty, out, n_cols)? {
            None => Ok(made),
            Some(index) => {
                let (name, index) = (info.name.clone(), first * n_cols as u64 + index);
                Err(Error::NonFiniteWeight { name, index, ty })
            }
        }
    };
    let tasks = out.par_chunks_mut(task_bytes).enumerate();
    let made: Vec<Result<T>> = tasks.map_init(Vec::new, task).collect();
    made.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::GgmlType;

    #[test]
    fn rows_are_told_apart_by_expert() {
        let shape = vec![32, 10, 3];
        let info = TensorInfo { name: "x".into(), shape, ty: GgmlType::F32, offset: 0 };
        assert_eq!(n_matrices(&info), 3);
        assert_eq!(matrix_rows(&info, 1), 10..20);
        let parts: Vec<_> = by_matrix(&info, 5..25).collect();
        assert_eq!(parts, [(0, 5..10), (1, 10..20), (2, 20..25)]);
        assert_eq!(by_matrix(&info, 10..20).collect::<Vec<_>>(), [(1, 10..20)]);
    }
}
