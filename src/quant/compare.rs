//! How far two tensors of the same shape lie apart, and how many of their elements are zero.

use std::ops::{AddAssign, Range};

use super::error::Result;
use super::rows::{decode_rows, decoded};
use super::stream::fold_rows;
use crate::gguf::{GgmlType, Tensor, Watch};

/// Sums over the elements of A and B, in f64.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Comparison {
    /// Number of elements, the same in A and B.
    pub n: u64,
    /// Exact zeros in A.
    pub zeros_a: u64,
    /// Exact zeros in B.
    pub zeros_b: u64,
    aa: f64,
    bb: f64,
    ab: f64,
    dd: f64,
}

impl Comparison {
    /// Frobenius `|B - A| / |A|`; None where A is all zeros.
    pub fn relative_change(&self) -> Option<f64> {
        (self.aa > 0.0).then(|| (self.dd / self.aa).sqrt())
    }

    /// Cosine of A and B as vectors; None where either is all zeros.
    pub fn cosine(&self) -> Option<f64> {
        (self.aa > 0.0 && self.bb > 0.0).then(|| self.ab / (self.aa * self.bb).sqrt())
    }

    fn add(&mut self, a: f32, b: f32) {
        let (x, y) = (f64::from(a), f64::from(b));
        self.n += 1;
        self.zeros_a += u64::from(a == 0.0);
        self.zeros_b += u64::from(b == 0.0);
        self.aa += x * x;
        self.bb += y * y;
        self.ab += x * y;
        self.dd += (y - x) * (y - x);
    }
}

impl AddAssign for Comparison {
    fn add_assign(&mut self, other: Comparison) {
        self.n += other.n;
        self.zeros_a += other.zeros_a;
        self.zeros_b += other.zeros_b;
        self.aa += other.aa;
        self.bb += other.bb;
        self.ab += other.ab;
        self.dd += other.dd;
    }
}

/// Compares two tensors of equal shape, whatever their types.
///
/// # Errors
/// A type that ggml cannot decode, or an interrupt.
pub fn compare(a: Tensor<'_>, b: Tensor<'_>, watch: &dyn Watch) -> Result<Comparison> {
    let mut sum = Comparison::default();
    let part = |rows: Range<u64>| {
        let (x, y) = (decoded(a, rows.clone())?, decoded(b, rows)?);
        let mut part = Comparison::default();
        x.iter().zip(&y).for_each(|(&x, &y)| part.add(x, y));
        Ok(part)
    };
    let row_bytes = a.info.row_bytes() + b.info.row_bytes();
    fold_rows(a.info, row_bytes, watch, part, |part| sum += part)?;
    Ok(sum)
}

/// Elements of `tensor` that are exactly zero.
///
/// # Errors
/// As [`compare`].
pub fn count_zeros(tensor: Tensor<'_>, watch: &dyn Watch) -> Result<u64> {
    let mut zeros = 0;
    let part =
        |rows: Range<u64>| Ok(decoded(tensor, rows)?.iter().filter(|x| **x == 0.0).count() as u64);
    fold_rows(tensor.info, tensor.info.row_bytes(), watch, part, |part| zeros += part)?;
    Ok(zeros)
}

/// Elements of encoded rows that are exactly zero.
///
/// # Errors
/// Lengths disagree: see [`crate::llama::decode`].
pub fn zeros_in(ty: GgmlType, bytes: &[u8], n_cols: usize) -> Result<u64> {
    let count = |zeros: usize| Ok(zeros as u64);
    match ty {
        // Both zeros have all bits clear except the sign.
        GgmlType::F32 => {
            count(words::<4>(bytes).filter(|b| u32::from_le_bytes(*b) << 1 == 0).count())
        }
        GgmlType::F16 | GgmlType::BF16 => {
            count(words::<2>(bytes).filter(|b| u16::from_le_bytes(*b) << 1 == 0).count())
        }
        _ => {
            let n = bytes.len() as u64 / ty.layout().block_bytes * ty.layout().block_len;
            let mut values = vec![0.0; n as usize];
            decode_rows(ty, bytes, n_cols, &mut values)?;
            count(values.iter().filter(|x| **x == 0.0).count())
        }
    }
}

fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes.as_chunks::<N>().0.iter().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn change_and_cosine_follow_their_definitions() {
        let mut sum = Comparison::default();
        for (a, b) in [(3.0, 3.0), (0.0, 0.0), (4.0, 0.0)] {
            sum.add(a, b);
        }
        assert_eq!((sum.n, sum.zeros_a, sum.zeros_b), (3, 1, 2));
        assert_eq!(sum.relative_change(), Some(0.8));
        assert_eq!(sum.cosine(), Some(0.6));
        assert_eq!(Comparison::default().cosine(), None);
    }
}
