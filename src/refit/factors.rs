//! The error of a matrix, approximated by two factors beside it: EoRA (arXiv 2410.21271, algorithm
//! 1).
//!
//! ```text
//! H = G + p I = L L^T      the matrix's inputs, with the ridge
//! K = (W* - W) L           the error of W, `[n_out, dim]`, in the metric of the inputs
//! K ~ B K'                 the nearest of that rank
//! A = K' L^-1
//! ```
//! No other B A of that rank brings W + B A nearer to W* on these inputs. EoRA takes W_o for W*.

use std::ops::Range;

use super::error::Result;
use crate::gguf::GgmlType;
use crate::numeric::{Factor, length, low_rank, products};
use crate::quant::{decode_rows, encoded};

/// The type of factors, and of a matrix with them while the model is run.
pub(super) const TYPE: GgmlType = GgmlType::F16;

/// The factors of a matrix, or of all matrices of a stack one after the other: rows of [`TYPE`].
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Factors {
    pub rank: usize,
    /// A, `[rank, dim]`.
    pub a: Vec<u8>,
    /// B, `[n_out, rank]`.
    pub b: Vec<u8>,
}

impl Factors {
    /// The factors of `lacking`, W* - W, `[n_out, dim]`.
    pub(super) fn of(mut lacking: Vec<f32>, factor: &Factor, rank: usize) -> Result<Factors> {
        let dim = factor.dim();
        factor.into_metric(&mut lacking);
        let (mut b, mut a) = low_rank(&lacking, dim, rank);
        let rank = a.len() / dim;
        // Columns of b have length 1: each side takes half of the magnitude, for F16's range.
        for k in 0..rank {
            let by = length(&a[k * dim..][..dim]).sqrt().max(f64::from(f32::MIN_POSITIVE)) as f32;
            a[k * dim..][..dim].iter_mut().for_each(|x| *x /= by);
            b.iter_mut().skip(k).step_by(rank).for_each(|x| *x *= by);
        }
        factor.out_of_metric(&mut a);
        Ok(Factors { rank, a: encoded(TYPE, &a, dim)?, b: encoded(TYPE, &b, rank)? })
    }

    /// Factors that change nothing in a matrix of `[n_out, dim]`.
    pub(super) fn none(rank: usize, n_out: usize, dim: usize) -> Result<Factors> {
        let zeros = |n, width| encoded(TYPE, &vec![0.0; n * width], width);
        Ok(Factors { rank, a: zeros(rank, dim)?, b: zeros(n_out, rank)? })
    }

    /// Appends the factors of the next matrix of the stack.
    pub(super) fn append(&mut self, next: &Factors) {
        self.rank = next.rank;
        self.a.extend_from_slice(&next.a);
        self.b.extend_from_slice(&next.b);
    }

    /// `weights += B A`: rows `rows` of the matrix, `[n, dim]`.
    pub(super) fn add(&self, rows: Range<usize>, weights: &mut [f32]) -> Result<()> {
        let (rank, n) = (self.rank, rows.len());
        let dim = weights.len() / n.max(1);
        let of_row = TYPE.bytes_for(rank as u64).unwrap_or(0) as usize;
        let (mut a, mut b) = (vec![0.0; rank * dim], vec![0.0; n * rank]);
        decode_rows(TYPE, &self.a, dim, &mut a)?;
        decode_rows(TYPE, &self.b[rows.start * of_row..rows.end * of_row], rank, &mut b)?;
        // A's columns as rows.
        let columns: Vec<f32> = (0..dim * rank).map(|i| a[i % rank * dim + i / rank]).collect();
        let added = products(&b, &columns, rank);
        weights.iter_mut().zip(added).for_each(|(w, x)| *w += x);
        Ok(())
    }

    /// The factors of matrix `i` of a stack of matrices of `[n_out, dim]`.
    pub(super) fn of_stack(&self, i: usize, n_out: usize, dim: usize) -> Factors {
        let bytes = |width: usize| TYPE.bytes_for(width as u64).unwrap_or(0) as usize;
        let (a, b) = (self.rank * bytes(dim), n_out * bytes(self.rank));
        Factors {
            rank: self.rank,
            a: self.a[i * a..(i + 1) * a].to_vec(),
            b: self.b[i * b..(i + 1) * b].to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numeric::testing::{gram, random};

    /// `|(lacking - B A) X^T|`, B A by the factors.
    fn missed(lacking: &[f32], found: &Factors, x: &[f32], dim: usize) -> f64 {
        let mut left = vec![0.0; lacking.len()];
        found.add(0..lacking.len() / dim, &mut left).unwrap();
        left.iter_mut().zip(lacking).for_each(|(l, w)| *l = w - *l);
        let out = products(x, &left, dim);
        length(&out)
    }

    #[test]
    fn factors_go_by_what_enters_the_matrix() {
        let (n_out, dim, rank, n) = (48, 64, 6, 500);
        let lacking = random(1, n_out * dim);
        // Channels of sizes from 1 to 50.
        let mut x = random(2, n * dim);
        x.iter_mut().enumerate().for_each(|(i, x)| *x *= 1.0 + (i % dim) as f32 / 64.0 * 49.0);
        let factor = |x: &[f32]| Factor::new(gram(x, dim, 0.0).0, 0.01).unwrap();
        let found = Factors::of(lacking.clone(), &factor(&x), rank).unwrap();
        // The same rank by the weights' own lengths.
        let flat: Vec<f32> = (0..dim * dim).map(|i| f32::from(i / dim == i % dim)).collect();
        let by_weights = Factors::of(lacking.clone(), &factor(&flat), rank).unwrap();
        let all = missed(&lacking, &Factors::none(rank, n_out, dim).unwrap(), &x, dim);
        let (ours, theirs) =
            (missed(&lacking, &found, &x, dim), missed(&lacking, &by_weights, &x, dim));
        assert!(ours < 0.95 * theirs && theirs < all, "{ours} {theirs} {all}");
    }

    #[test]
    fn factors_of_full_rank_bring_the_whole_back() {
        let (n_out, dim, n) = (8, 40, 200);
        let (lacking, x) = (random(1, n_out * dim), random(2, n * dim));
        let factor = Factor::new(gram(&x, dim, 0.0).0, 0.1).unwrap();
        let found = Factors::of(lacking.clone(), &factor, 32).unwrap();
        assert_eq!(found.rank, n_out);
        let all = missed(&lacking, &Factors::none(8, n_out, dim).unwrap(), &x, dim);
        assert!(missed(&lacking, &found, &x, dim) < 2e-3 * all);
    }

    #[test]
    fn a_stack_is_taken_apart_as_it_was_put_together() {
        let (n_out, dim) = (6, 32);
        let factor = Factor::new(gram(&random(2, 99 * dim), dim, 0.0).0, 0.1).unwrap();
        let one = |seed| Factors::of(random(seed, n_out * dim), &factor, 3).unwrap();
        let mut stack = Factors::default();
        let both = [one(1), one(2)];
        both.iter().for_each(|one| stack.append(one));
        assert_eq!([0, 1].map(|i| stack.of_stack(i, n_out, dim)), both);
    }
}
