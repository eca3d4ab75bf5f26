//! The factor of a Gram matrix that least squares and the sweep need.
//!
//! ```text
//! H = G + ridge I = L L^T,   M = L^-1,   H^-1 = M^T M
//! ```
//! L and M are lower triangular and take G's own place, band by band: a matrix of 14336 columns
//! is 822 MB, and a second one would not fit beside it. Diagonal blocks are worked out in f64.

use faer::Par;
use faer::linalg::triangular_solve::solve_upper_triangular_in_place;
use rayon::prelude::*;

use super::gram::Gram;
use super::product::{BAND, COLUMNS, add_product, view, view_mut};

/// The matrix has no factor: at this row, the rest of the matrix is not positive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotPositive {
    /// Number of the row, from 0.
    pub row: usize,
}

/// M, with `(G + ridge I)^-1 = M^T M`, lower triangular, `[dim, dim]`.
#[derive(Debug)]
pub struct Factor {
    dim: usize,
    values: Vec<f32>,
}

impl Factor {
    /// The factor of `gram` with `ridge` added to its diagonal.
    ///
    /// # Errors
    /// The sum is not positive definite: a NaN, an infinity, or too small a ridge.
    pub fn new(gram: Gram, ridge: f32) -> Result<Factor, NotPositive> {
        let dim = gram.dim();
        let mut values = gram.with_ridge(ridge);
        factorize(&mut values, dim)?;
        invert(&mut values, dim);
        Ok(Factor { dim, values })
    }

    /// Number of rows and of columns.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Row `i` up to its diagonal, [i + 1].
    pub fn row(&self, i: usize) -> &[f32] {
        &self.values[i * self.dim..i * self.dim + i + 1]
    }

    /// Rows `first..first + n`, from column 0 up to `n_cols`.
    pub(super) fn rows(&self, first: usize, n: usize, n_cols: usize) -> faer::MatRef<'_, f32> {
        view(&self.values[first * self.dim..], n, n_cols, self.dim)
    }

    /// `B L` in place of `b`, `[n, dim]`: its rows' lengths are then those in the metric of H.
    pub fn into_metric(&self, b: &mut [f32]) {
        let dim = self.dim;
        // X M = B, or M^T X^T = B^T.
        let upper = self.rows(0, dim, dim).transpose();
        b.par_chunks_mut(BAND * dim).for_each(|band| {
            let n = band.len() / dim;
            let band = view_mut(band, n, dim, dim).transpose_mut();
            solve_upper_triangular_in_place(upper, band, Par::Seq);
        });
    }

    /// `B L^-1` in place of `b`, `[n, dim]`: back from the metric.
    pub fn out_of_metric(&self, b: &mut [f32]) {
        let dim = self.dim;
        b.par_chunks_mut(BAND * dim).for_each(|band| {
            let old = band.to_vec();
            self.times_m(&old, band);
        });
    }

    /// `B M` into `out`, both `[n, dim]`, on this thread only.
    fn times_m(&self, b: &[f32], out: &mut [f32]) {
        let (dim, n) = (self.dim, b.len() / self.dim);
        out.fill(0.0);
        for (at, len) in (0..dim).step_by(COLUMNS).map(|at| (at, COLUMNS.min(dim - at))) {
            let m = view(&self.values[at * dim + at..], dim - at, len, dim);
            let left = view(&b[at..], n, dim - at, dim);
            add_product(view_mut(&mut out[at..], n, len, dim), left, m, 1.0);
        }
    }

    /// `B H^-1` in place of `b`, `[n, dim]`, on this thread only.
    pub fn solve(&self, b: &mut [f32]) {
        let (dim, n) = (self.dim, b.len() / self.dim);
        let mut half = vec![0f32; b.len()];
        for (at, len) in (0..dim).step_by(COLUMNS).map(|at| (at, COLUMNS.min(dim - at))) {
            let m = self.rows(at, len, at + len).transpose();
            let left = view(b, n, at + len, dim);
            add_product(view_mut(&mut half[at..], n, len, dim), left, m, 1.0);
        }
        self.times_m(&half, b);
    }
}

/// The lower triangle of A becomes that of L, A = L L^T.
fn factorize(a: &mut [f32], dim: usize) -> Result<(), NotPositive> {
    for first in (0..dim).step_by(BAND) {
        let n = BAND.min(dim - first);
        let (head, tail) = a.split_at_mut((first + n) * dim);
        let diagonal = &mut head[first * dim + first..];
        let inverse = factorize_block(diagonal, n, dim)
            .map_err(|NotPositive { row }| NotPositive { row: first + row })?;
        let inverse = view(&inverse, n, n, n).transpose();
        // L21 = A21 L11^-T, kept separately: every band below needs all of it.
        let mut panel = vec![0f32; tail.len() / dim * n];
        panel.par_chunks_mut(BAND * n).zip(tail.par_chunks_mut(BAND * dim)).for_each(
            |(panel, band)| {
                let n_here = band.len() / dim;
                let left = view(&band[first..], n_here, n, dim);
                add_product(view_mut(panel, n_here, n, n), left, inverse, 1.0);
                let rows = band.chunks_exact_mut(dim).zip(panel.chunks_exact(n));
                rows.for_each(|(row, new)| row[first..first + n].copy_from_slice(new));
            },
        );
        tail.par_chunks_mut(BAND * dim).enumerate().for_each(|(i, band)| {
            let (above, n_here) = (i * BAND, band.len() / dim);
            let left = view(&panel[above * n..], n_here, n, n);
            let right = view(&panel, above + n_here, n, n).transpose();
            let out = view_mut(&mut band[first + n..], n_here, above + n_here, dim);
            add_product(out, left, right, -1.0);
        });
    }
    Ok(())
}

/// Turns a diagonal block, `n` rows that lie `stride` apart, into its L; returns L^-1, `[n, n]`.
fn factorize_block(block: &mut [f32], n: usize, stride: usize) -> Result<Vec<f32>, NotPositive> {
    let mut l = vec![0f64; n * n];
    for i in 0..n {
        for j in 0..=i {
            let dot: f64 = (0..j).map(|k| l[i * n + k] * l[j * n + k]).sum();
            let left = f64::from(block[i * stride + j]) - dot;
            l[i * n + j] = match i == j {
                true if left > 0.0 && left.is_finite() => left.sqrt(),
                true => return Err(NotPositive { row: i }),
                false => left / l[j * n + j],
            };
            block[i * stride + j] = l[i * n + j] as f32;
        }
    }
    Ok(invert_block(&l, n))
}

/// The inverse of a lower triangular block, `[n, n]`.
fn invert_block(l: &[f64], n: usize) -> Vec<f32> {
    let mut inverse = vec![0f64; n * n];
    for i in 0..n {
        inverse[i * n + i] = 1.0 / l[i * n + i];
        for j in 0..i {
            let dot: f64 = (j..i).map(|k| l[i * n + k] * inverse[k * n + j]).sum();
            inverse[i * n + j] = -dot / l[i * n + i];
        }
    }
    inverse.into_iter().map(|x| x as f32).collect()
}

/// L becomes M = L^-1, with zeros above its diagonal.
///
/// ```text
/// M_ii = L_ii^-1,   M[i, ..i] = -M_ii L[i, ..i] M[..i, ..i]
/// ```
fn invert(l: &mut [f32], dim: usize) {
    for first in (0..dim).step_by(BAND) {
        let n = BAND.min(dim - first);
        let (above, rest) = l.split_at_mut(first * dim);
        let band = &mut rest[..n * dim];
        let block: Vec<f64> = (0..n * n)
            .map(|at| (at / n, at % n))
            .map(|(i, j)| if j <= i { f64::from(band[i * dim + first + j]) } else { 0.0 })
            .collect();
        let inverse = invert_block(&block, n);
        let starts: Vec<usize> = (0..first).step_by(BAND).collect();
        let parts: Vec<Vec<f32>> = starts
            .par_iter()
            .map(|&at| {
                let len = BAND.min(first - at);
                let mut product = vec![0f32; n * len];
                let left = view(&band[at..], n, first - at, dim);
                let m = view(&above[at * dim + at..], first - at, len, dim);
                add_product(view_mut(&mut product, n, len, len), left, m, 1.0);
                let mut out = vec![0f32; n * len];
                let inverse = view(&inverse, n, n, n);
                add_product(
                    view_mut(&mut out, n, len, len),
                    inverse,
                    view(&product, n, len, len),
                    -1.0,
                );
                out
            })
            .collect();
        for (at, part) in starts.into_iter().zip(parts) {
            let len = part.len() / n;
            let rows = band.chunks_exact_mut(dim).zip(part.chunks_exact(len));
            rows.for_each(|(row, new)| row[at..at + len].copy_from_slice(new));
        }
        for (row, new) in band.chunks_exact_mut(dim).zip(inverse.chunks_exact(n)) {
            row[first..first + n].copy_from_slice(new);
            row[first + n..].fill(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numeric::testing::{close, dense_solve, random};

    /// A Gram matrix of `n` random rows, whole and in f64 besides.
    fn gram(dim: usize, n: usize) -> (Gram, Vec<f64>) {
        crate::numeric::testing::gram(&random(3, n * dim), dim, 0.0)
    }

    #[test]
    fn a_solution_equals_a_dense_solve_in_f64() {
        for dim in [5, 128, 129, 300, 700] {
            let (gram, mut whole) = gram(dim, 2 * dim);
            let ridge = 0.3;
            (0..dim).for_each(|i| whole[i * dim + i] += ridge);
            let factor = Factor::new(gram, ridge as f32).unwrap();
            let b = random(4, 3 * dim);
            let mut found = b.clone();
            factor.solve(&mut found);
            let wide: Vec<f64> = b.iter().map(|x| f64::from(*x)).collect();
            let expected = dense_solve(&whole, &wide, dim);
            for (a, b) in found.iter().zip(expected) {
                assert!(close(*a, b), "{dim}: {a} {b}");
            }
        }
    }

    #[test]
    fn lengths_in_the_metric_are_those_that_the_inputs_give() {
        for dim in [5, 129, 600] {
            let (gram, mut whole) = gram(dim, 2 * dim);
            (0..dim).for_each(|i| whole[i * dim + i] += 0.3);
            let factor = Factor::new(gram, 0.3).unwrap();
            let b = random(4, 3 * dim);
            let mut found = b.clone();
            factor.into_metric(&mut found);
            for (row, found) in b.chunks(dim).zip(found.chunks(dim)) {
                let times = |i: usize| -> f64 {
                    row.iter().zip(&whole[i * dim..]).map(|(x, g)| f64::from(*x) * g).sum()
                };
                let expected: f64 = (0..dim).map(|i| f64::from(row[i]) * times(i)).sum();
                let square: f64 = found.iter().map(|x| f64::from(*x).powi(2)).sum();
                assert!((square / expected - 1.0).abs() < 1e-3, "{dim}: {square} {expected}");
            }
            factor.out_of_metric(&mut found);
            for (a, b) in found.iter().zip(&b) {
                assert!(close(*a, f64::from(*b)), "{dim}: {a} {b}");
            }
        }
    }

    #[test]
    fn factors_do_not_depend_on_the_number_of_threads() {
        let pool = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
        let run = || Factor::new(gram(400, 500).0, 0.1).unwrap().values;
        assert!(pool(1).install(run) == pool(3).install(run));
    }

    #[test]
    fn what_is_not_positive_is_named_by_its_row() {
        let mut gram = Gram::new(200);
        gram.add(&random(1, 200 * 400));
        let mut bad = gram.clone().with_ridge(0.0);
        bad[150 * 200 + 150] = -1.0;
        assert_eq!(factorize(&mut bad, 200), Err(NotPositive { row: 150 }));
        let mut bad = gram.with_ridge(0.0);
        bad[7 * 200 + 7] = f32::NAN;
        assert_eq!(factorize(&mut bad, 200), Err(NotPositive { row: 7 }));
    }
}
