//! Linear algebra on large matrices: Gram matrices, their factors, least squares, optimal brain
//! surgeon's sweep, and approximations of low rank.
//!
//! Products are faer's. Parallel work is always cut into the same pieces, so that results do not
//! depend on the number of threads. Matrices are slices, row by row, in f32.

mod dot;
mod factor;
mod gram;
mod low_rank;
mod product;
mod sweep;

pub use dot::{dot, length, relative_error};
pub use factor::{Factor, NotPositive};
pub use gram::{Cross, Gram};
pub use low_rank::low_rank;
pub use product::{BAND, products};
pub use sweep::{Projection, sweep};

#[cfg(test)]
pub(crate) mod testing {
    //! Small dense algebra in f64 to compare with.

    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    /// Uniform in -1..1.
    pub(crate) fn random(seed: u64, n: usize) -> Vec<f32> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        (0..n).map(|_| (random.next_u32() >> 8) as f32 / (1u32 << 23) as f32 - 1.0).collect()
    }

    /// The Gram matrix of rows `x`, and the same in f64, whole and with `ridge` on its diagonal.
    pub(crate) fn gram(x: &[f32], dim: usize, ridge: f32) -> (super::Gram, Vec<f64>) {
        let mut gram = super::Gram::new(dim);
        gram.add(x);
        let mut whole = vec![0f64; dim * dim];
        for i in 0..dim {
            for j in 0..dim {
                let product = |row: &[f32]| f64::from(row[i]) * f64::from(row[j]);
                whole[i * dim + j] = x.chunks_exact(dim).map(product).sum();
            }
            whole[i * dim + i] += f64::from(ridge);
        }
        (gram, whole)
    }

    /// Equal to f32's accuracy after sums over hundreds.
    pub(crate) fn close(found: f32, expected: f64) -> bool {
        (f64::from(found) - expected).abs() <= 2e-4 * (1.0 + expected.abs())
    }

    /// `B A^-1` for a symmetric A, by Gauss elimination with pivots.
    pub(crate) fn dense_solve(a: &[f64], b: &[f64], dim: usize) -> Vec<f64> {
        let inverse = inverse(a, dim);
        let row =
            |r: &[f64], j: usize| -> f64 { (0..dim).map(|k| r[k] * inverse[k * dim + j]).sum() };
        b.chunks(dim).flat_map(|r| (0..dim).map(move |j| (r, j))).map(|(r, j)| row(r, j)).collect()
    }

    /// A^-1, `[dim, dim]`.
    pub(crate) fn inverse(a: &[f64], dim: usize) -> Vec<f64> {
        let mut a: Vec<Vec<f64>> = a.chunks(dim).map(<[f64]>::to_vec).collect();
        let unit = |i: usize| (0..dim).map(move |j| f64::from(u8::from(i == j)));
        a.iter_mut().enumerate().for_each(|(i, row)| row.extend(unit(i)));
        for i in 0..dim {
            let pivot = (i..dim).max_by(|&p, &q| a[p][i].abs().total_cmp(&a[q][i].abs())).unwrap();
            a.swap(i, pivot);
            let top = a[i].clone();
            for (r, row) in a.iter_mut().enumerate() {
                let factor = row[i] / top[i];
                let by = if r == i { 1.0 - 1.0 / top[i] } else { factor };
                row.iter_mut().zip(&top).for_each(|(x, t)| *x -= by * t);
            }
        }
        a.into_iter().flat_map(|row| row[dim..].to_vec()).collect()
    }
}
