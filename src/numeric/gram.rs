//! Sums of products of rows: `G = X^T X` and `T = Y^T X`, added up a batch at a time.

use rayon::prelude::*;

use super::product::{BAND, add_product, view, view_mut};

/// `X^T X` of the rows seen so far: its lower triangle, `[dim, dim]`.
#[derive(Debug, Clone)]
pub struct Gram {
    dim: usize,
    n_rows: usize,
    /// Values above the diagonal are not used.
    values: Vec<f32>,
}

impl Gram {
    /// Sums over no rows yet.
    pub fn new(dim: usize) -> Gram {
        Gram { dim, n_rows: 0, values: vec![0.0; dim * dim] }
    }

    /// Adds rows, `[n, dim]`.
    pub fn add(&mut self, rows: &[f32]) {
        let (dim, n) = (self.dim, rows.len() / self.dim);
        self.n_rows += n;
        let x = view(rows, n, dim, dim);
        self.values.par_chunks_mut(BAND * dim).enumerate().for_each(|(i, band)| {
            let (first, n_here) = (i * BAND, band.len() / dim);
            let end = first + n_here;
            let left = x.subcols(first, n_here).transpose();
            add_product(view_mut(band, n_here, end, dim), left, x.subcols(0, end), 1.0);
        });
    }

    /// Number of rows added so far.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Width of a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The sums of squares, `[dim]`.
    pub fn diagonal(&self) -> Vec<f32> {
        (0..self.dim).map(|i| self.values[i * self.dim + i]).collect()
    }

    /// Adds `ridge` to the diagonal and returns the triangle.
    pub(super) fn with_ridge(mut self, ridge: f32) -> Vec<f32> {
        (0..self.dim).for_each(|i| self.values[i * self.dim + i] += ridge);
        self.values
    }
}

/// `Y^T X` of the rows seen so far, `[n_y, n_x]`.
#[derive(Debug, Clone)]
pub struct Cross {
    n_y: usize,
    n_x: usize,
    values: Vec<f32>,
}

impl Cross {
    /// Sums over no rows yet.
    pub fn new(n_y: usize, n_x: usize) -> Cross {
        Cross { n_y, n_x, values: vec![0.0; n_y * n_x] }
    }

    /// Adds rows of `y`, `[n, n_y]`, and as many of `x`, `[n, n_x]`.
    pub fn add(&mut self, y: &[f32], x: &[f32]) {
        let (n_x, n) = (self.n_x, x.len() / self.n_x);
        let (y, x) = (view(y, n, self.n_y, self.n_y), view(x, n, n_x, n_x));
        self.values.par_chunks_mut(BAND * n_x).enumerate().for_each(|(i, band)| {
            let n_here = band.len() / n_x;
            let left = y.subcols(i * BAND, n_here).transpose();
            add_product(view_mut(band, n_here, n_x, n_x), left, x, 1.0);
        });
    }

    /// The sums, `[n_y, n_x]`.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Rows of y: n_y.
    pub fn n_y(&self) -> usize {
        self.n_y
    }

    /// `out += w` times the sums: `w` is `[n, n_y]`, `out` `[n, n_x]`; on this thread only.
    pub fn add_applied(&self, w: &[f32], out: &mut [f32]) {
        let (n_y, n_x) = (self.n_y, self.n_x);
        let n = w.len() / n_y;
        let sums = view(&self.values, n_y, n_x, n_x);
        add_product(view_mut(out, n, n_x, n_x), view(w, n, n_y, n_y), sums, 1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numeric::testing::{close, random};

    #[test]
    fn sums_of_products_are_those_of_all_rows() {
        let (n, n_y, n_x) = (301, 150, 270);
        let (x, y) = (random(1, n * n_x), random(2, n * n_y));
        let (mut gram, mut cross) = (Gram::new(n_x), Cross::new(n_y, n_x));
        for at in [0..100, 100..n] {
            gram.add(&x[at.start * n_x..at.end * n_x]);
            cross.add(&y[at.start * n_y..at.end * n_y], &x[at.start * n_x..at.end * n_x]);
        }
        assert_eq!(gram.n_rows(), n);
        let sum = |a: &[f32], wa: usize, i: usize, j: usize| -> f64 {
            (0..n).map(|t| f64::from(a[t * wa + i]) * f64::from(x[t * n_x + j])).sum()
        };
        for i in 0..n_x {
            for j in 0..=i {
                assert!(close(gram.values[i * n_x + j], sum(&x, n_x, i, j)), "{i} {j}");
            }
        }
        for i in 0..n_y {
            for j in 0..n_x {
                assert!(close(cross.values()[i * n_x + j], sum(&y, n_y, i, j)), "{i} {j}");
            }
        }
    }
}
