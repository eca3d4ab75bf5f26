//! A tensor as the matrices it holds: one, or a stack with one an expert.

use std::ops::Range;

use crate::gguf::TensorInfo;

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
