//! The best approximation of a matrix by one of low rank, by subspace iteration (Halko, Martinsson
//! and Tropp, arXiv 0909.4061, algorithm 4.4).

use faer::Side;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::dot::{dot, length};
use super::product::{add_product, products, view, view_mut};

/// Dimensions iterated in addition to those that are asked for.
const SPARE: usize = 8;
/// Rounds of the iteration. Each shrinks the error by the square of the ratio of the singular
/// values that are to be separated.
const ROUNDS: usize = 6;

/// Factors b, `[n_rows, rank]`, and a, `[rank, dim]`, of the matrix of that rank nearest to
/// `matrix`, `[n_rows, dim]`, by least squares. Columns of b are orthonormal, or zero where the
/// matrix has a lower rank; `rank` is at most the smaller of the matrix's sides.
///
/// # Panics
/// The length of `matrix` is not a multiple of `dim`.
pub fn low_rank(matrix: &[f32], dim: usize, rank: usize) -> (Vec<f32>, Vec<f32>) {
    let n_rows = matrix.len() / dim;
    let rank = rank.min(n_rows).min(dim);
    let width = (rank + SPARE).min(n_rows).min(dim);
    let mut right = start(width * dim);
    let mut left = Vec::new();
    for _ in 0..ROUNDS {
        orthonormalize(&mut right, dim);
        // [width, n_rows]: the matrix times what is on its right, its columns side by side.
        left = products(&right, matrix, dim);
        orthonormalize(&mut left, n_rows);
        right.fill(0.0);
        let out = view_mut(&mut right, width, dim, dim);
        add_product(out, view(&left, width, n_rows, n_rows), view(matrix, n_rows, dim, dim), 1.0);
    }
    // Of matrix ~ left^T right the leading part: eigenvectors of right right^T turn both.
    let turn = leading(&right, width, dim, rank);
    let (mut b, mut a) = (vec![0.0; n_rows * rank], vec![0.0; rank * dim]);
    let (turn, left) = (view(&turn, rank, width, width), view(&left, width, n_rows, n_rows));
    add_product(view_mut(&mut b, n_rows, rank, rank), left.transpose(), turn.transpose(), 1.0);
    add_product(view_mut(&mut a, rank, dim, dim), turn, view(&right, width, dim, dim), 1.0);
    (b, a)
}

/// A starting point, the same each time.
fn start(n: usize) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(0);
    (0..n).map(|_| (random.next_u32() >> 8) as f32 / (1u32 << 23) as f32 - 1.0).collect()
}

/// Rows of width `dim` become orthonormal, or zero where they depend on those before them.
fn orthonormalize(rows: &mut [f32], dim: usize) {
    for at in (0..rows.len()).step_by(dim) {
        let (before, rest) = rows.split_at_mut(at);
        let row = &mut rest[..dim];
        let whole = length(row);
        // Twice is enough (Giraud and others, 2005).
        for _ in 0..2 {
            for other in before.chunks_exact(dim) {
                let along = dot(row, other) as f32;
                row.iter_mut().zip(other).for_each(|(x, o)| *x -= along * o);
            }
        }
        let left = length(row);
        let scale = if left > 1e-6 * whole { 1.0 / left } else { 0.0 };
        row.iter_mut().for_each(|x| *x *= scale as f32);
    }
}

/// Eigenvectors of `rows rows^T` with the `rank` largest eigenvalues, `[rank, n]`.
fn leading(rows: &[f32], n: usize, dim: usize, rank: usize) -> Vec<f32> {
    let wide: Vec<f64> = rows.iter().map(|x| f64::from(*x)).collect();
    let wide = faer::MatRef::from_row_major_slice(&wide, n, dim);
    let squares = wide * wide.transpose();
    match squares.self_adjoint_eigen(Side::Lower) {
        // Eigenvalues rise.
        Ok(eigen) => (0..rank)
            .flat_map(|k| (0..n).map(move |i| (i, n - 1 - k)))
            .map(|(i, k)| eigen.U()[(i, k)] as f32)
            .collect(),
        // NaN and infinities give NaN.
        Err(_) => vec![f32::NAN; rank * n],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numeric::testing::random;

    fn missed(matrix: &[f32], dim: usize, (b, a): &(Vec<f32>, Vec<f32>)) -> f64 {
        let rank = a.len() / dim;
        let at = |i: usize, j: usize| -> f64 {
            (0..rank).map(|k| f64::from(b[i * rank + k]) * f64::from(a[k * dim + j])).sum()
        };
        let off = |(n, x): (usize, &f32)| (f64::from(*x) - at(n / dim, n % dim)).powi(2);
        matrix.iter().enumerate().map(off).sum::<f64>().sqrt()
    }

    #[test]
    fn a_matrix_of_low_rank_comes_back_whole() {
        for (n_rows, dim, rank) in [(40, 70, 5), (70, 40, 5), (6, 50, 6), (300, 4, 9)] {
            let inner = rank.min(n_rows).min(dim);
            let (b, a) = (random(1, n_rows * inner), random(2, inner * dim));
            let at = |i: usize, j: usize| -> f32 {
                (0..inner).map(|k| b[i * inner + k] * a[k * dim + j]).sum()
            };
            let matrix: Vec<f32> = (0..n_rows * dim).map(|n| at(n / dim, n % dim)).collect();
            let found = low_rank(&matrix, dim, rank);
            assert_eq!((found.0.len(), found.1.len()), (n_rows * inner, inner * dim));
            assert!(missed(&matrix, dim, &found) < 1e-3, "{n_rows} {dim} {rank}");
        }
    }

    #[test]
    fn no_matrix_of_that_rank_is_nearer() {
        // The least error is what the further singular values amount to (Eckart and Young).
        let (n_rows, dim, rank) = (60, 90, 7);
        let matrix = random(5, n_rows * dim);
        let wide: Vec<f64> = matrix.iter().map(|x| f64::from(*x)).collect();
        let wide = faer::MatRef::from_row_major_slice(&wide, n_rows, dim);
        let values = wide.singular_values().unwrap();
        let least = values[rank..].iter().map(|s| s * s).sum::<f64>().sqrt();
        let found = missed(&matrix, dim, &low_rank(&matrix, dim, rank));
        assert!(found >= least * 0.9999 && found < least * 1.005, "{found} {least}");
    }
}
