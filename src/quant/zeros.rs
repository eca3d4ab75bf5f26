//! Zeros that stay zeros in blocks with a minimum: a pruned matrix needs this from its rounding.
//!
//! ```text
//! block_q4_1, block_q5_1:   w = q d + m
//! here                      m = -z d, z an integer: q = z stands for 0
//! ```
//! ggml puts the ends of the grid on a block's least and greatest weight, and zero falls between
//! two steps: half of a pruned matrix then gets noise that Q4_0, whose grid has a zero, does not
//! make. The significand of d is kept so short that `z d` is exact in f16. z and d are those of
//! the least weighted squared error among a few around the block's range, as in AWQ's asymmetric
//! grid (mit-han-lab/llm-awq, `pseudo_quantize_tensor`), block by block.

use half::f16;
use rayon::prelude::*;

use super::block::write_block;
use super::error::Result;
use super::rows::{decode_rows, encode_rows};
use crate::gguf::GgmlType;

/// Zeros in a block that show pruning: other weights are hardly ever zero, and of the blocks of
/// which half was pruned one in a million has fewer.
pub const PRUNED: usize = 4;
/// Part of a matrix that must be zero, beyond what rounding makes zero, for it to count as pruned.
pub const PRUNED_SHARE: f64 = 0.05;
/// Elements of a block of Q4_1 and Q5_1.
const BLOCK: usize = 32;
/// Bits of f16's significand.
const F16_BITS: u32 = 11;
/// Parts of the range that the grid is laid over: clipping the ends makes the steps finer.
const RANGES: [f32; 6] = [1.0, 0.95, 0.9, 0.85, 0.8, 0.75];

/// As [`encode_rows`], and blocks of which `least` numbers or more are zeros keep those, in Q4_1
/// and Q5_1 too. Types whose grid has a zero keep them anyhow; the other ones do not.
///
/// # Errors
/// As [`encode_rows`].
pub fn encode_pruned_rows(
    ty: GgmlType,
    rows: &[f32],
    n_cols: usize,
    importance: Option<&[f32]>,
    least: usize,
    out: &mut [u8],
) -> Result<()> {
    encode_rows(ty, rows, n_cols, importance, out)?;
    let Some(bits) = bits(ty) else { return Ok(()) };
    let block_bytes = ty.layout().block_bytes as usize;
    let rows = rows.par_chunks_exact(n_cols);
    rows.zip(out.par_chunks_exact_mut(n_cols / BLOCK * block_bytes)).for_each(|(row, out)| {
        let blocks = row.as_chunks::<BLOCK>().0.iter().zip(out.chunks_exact_mut(block_bytes));
        for (i, (weights, block)) in blocks.enumerate() {
            let n_zeros = weights.iter().filter(|w| **w == 0.0).count();
            if n_zeros >= least.max(1) {
                let matters = importance.map(|all| &all[i * BLOCK..(i + 1) * BLOCK]);
                encode_block(bits, weights, matters, block);
            }
        }
    });
    Ok(())
}

/// True if zeros among other values come back as zeros from `ty`, written by
/// [`encode_pruned_rows`]: not from k-quants whose blocks have a minimum, nor from types whose grid
/// has no zero.
pub fn keeps_zeros(ty: GgmlType) -> bool {
    const N: usize = 512;
    // Blocks of many shapes, half of each zero.
    let value = |i: usize| (i as f32 * 0.7).sin() * (1.0 + (i / 16) as f32) + 0.3;
    let row: Vec<f32> = (0..N).map(|i| if i % 2 == 0 { 0.0 } else { value(i) }).collect();
    let Some(n_bytes) = ty.bytes_for(N as u64) else { return false };
    let (mut bytes, mut back) = (vec![0; n_bytes as usize], vec![0.0; N]);
    let there = encode_pruned_rows(ty, &row, N, None, 1, &mut bytes);
    let and_back = there.and_then(|()| decode_rows(ty, &bytes, N, &mut back));
    and_back.is_ok() && back.iter().step_by(2).all(|x| *x == 0.0)
}

/// Bits of an integer, of the types that are written here.
fn bits(ty: GgmlType) -> Option<u32> {
    match ty {
        GgmlType::Q4_1 => Some(4),
        GgmlType::Q5_1 => Some(5),
        _ => None,
    }
}

#[derive(Debug, Clone, Copy)]
struct ZeroGrid {
    step: f32,
    zero: f32,
    most: f32,
}

impl ZeroGrid {
    fn integer(self, w: f32) -> f32 {
        ((w / self.step).round_ties_even() + self.zero).clamp(0.0, self.most)
    }

    fn error(self, weights: &[f32; BLOCK], importance: Option<&[f32]>) -> f32 {
        let missed = |w: f32| ((self.integer(w) - self.zero) * self.step - w).powi(2);
        match importance {
            Some(matters) => weights.iter().zip(matters).map(|(w, v)| v * missed(*w)).sum(),
            None => weights.iter().map(|w| missed(*w)).sum(),
        }
    }
}

/// Leaves `block` as it is if no grid fits: values that are NaN or infinite, or too large for f16.
fn encode_block(bits: u32, weights: &[f32; BLOCK], importance: Option<&[f32]>, block: &mut [u8]) {
    let least = weights.iter().copied().fold(0.0, f32::min);
    let greatest = weights.iter().copied().fold(0.0, f32::max);
    let (range, most) = (greatest - least, ((1u32 << bits) - 1) as f32);
    let mut best: Option<(f32, ZeroGrid)> = None;
    let about = (-least / range * most).round_ties_even();
    for zero in [about, about - 1.0, about + 1.0] {
        // NaN lies in no range. This is a block of zeros, which ggml keeps, or of NaN.
        if !(0.0..=most).contains(&zero) {
            continue;
        }
        // What the steps on either side must reach.
        let below = if zero > 0.0 { -least / zero } else { 0.0 };
        let above = if zero < most { greatest / (most - zero) } else { 0.0 };
        for part in RANGES {
            let step = shortened(below.max(above) * part, F16_BITS - bits);
            let grid = ZeroGrid { step, zero, most };
            let error = grid.error(weights, importance);
            if step > 0.0 && f16::from_f32(zero * step).is_finite() && error.is_finite() {
                let better = best.is_none_or(|(least, _)| error < least);
                best = if better { Some((error, grid)) } else { best };
            }
        }
    }
    if let Some((_, grid)) = best {
        // From 0, not negated: a z of 0 gives 0, not -0.
        let minimum = 0.0 - grid.zero * grid.step;
        write_block(grid.step, Some(minimum), &weights.map(|w| grid.integer(w) as u8), block);
    }
}

/// `x` in f16 with a significand of `bits`.
fn shortened(x: f32, bits: u32) -> f32 {
    let dropped = f32::MANTISSA_DIGITS - bits;
    let rounded = (x.to_bits() + (1 << (dropped - 1))) >> dropped << dropped;
    f16::from_f32(f32::from_bits(rounded)).to_f32()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TYPES: [GgmlType; 2] = [GgmlType::Q4_1, GgmlType::Q5_1];

    fn round_trip(ty: GgmlType, rows: &[f32], importance: Option<&[f32]>) -> Vec<f32> {
        let mut bytes = vec![0; ty.bytes_for(rows.len() as u64).unwrap() as usize];
        encode_pruned_rows(ty, rows, rows.len(), importance, 4, &mut bytes).unwrap();
        decoded(ty, &bytes, rows.len())
    }

    fn decoded(ty: GgmlType, bytes: &[u8], n: usize) -> Vec<f32> {
        let mut back = vec![0.0; n];
        decode_rows(ty, bytes, n, &mut back).unwrap();
        back
    }

    fn error(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
    }

    fn weight() -> impl Strategy<Value = f32> {
        prop_oneof![
            3 => -1f32..1.0,
            3 => Just(0.0),
            1 => (-30f32..4.0).prop_map(f32::exp2),
            1 => (-30f32..4.0).prop_map(|x| -x.exp2()),
        ]
    }

    proptest! {
        #[test]
        fn zeros_are_read_back_as_zeros(
            rows in prop::collection::vec(weight(), 64),
            importance in prop::collection::vec(0f32..10.0, 64),
        ) {
            for (ty, importance) in TYPES.into_iter().zip([None, Some(&importance[..])]) {
                let back = round_trip(ty, &rows, importance);
                let blocks = rows.chunks(BLOCK).zip(back.chunks(BLOCK));
                for (before, after) in blocks {
                    if before.iter().filter(|w| **w == 0.0).count() < 4 {
                        continue;
                    }
                    let reach = before.iter().map(|w| w.abs()).fold(0.0, f32::max);
                    for (w, x) in before.iter().zip(after) {
                        prop_assert!(*w != 0.0 || *x == 0.0, "{}: {} became {}", ty, w, x);
                        prop_assert!((w - x).abs() <= 0.3 * reach, "{}: {} became {}", ty, w, x);
                    }
                }
            }
        }
    }

    #[test]
    fn a_pruned_matrix_is_rounded_with_less_noise_than_by_ggml() {
        let value = |i: usize| (i as f32 * 0.7).sin() * (1.0 + (i / 16) as f32) + 0.1;
        let rows: Vec<f32> =
            (0..4096).map(|i| if i * 7 % 13 < 6 { value(i) } else { 0.0 }).collect();
        for ty in TYPES {
            let mut bytes = vec![0; ty.bytes_for(4096).unwrap() as usize];
            encode_rows(ty, &rows, 4096, None, &mut bytes).unwrap();
            let theirs = error(&decoded(ty, &bytes, 4096), &rows);
            let ours = error(&round_trip(ty, &rows, None), &rows);
            assert!(ours < 0.8 * theirs, "{ty}: {ours} against {theirs}");
        }
    }

    #[test]
    fn blocks_with_few_zeros_are_ggmls() {
        let mut rows: Vec<f32> = (0..256).map(|i| (i as f32 * 0.7).sin() + 0.1).collect();
        for i in (0..256).step_by(16) {
            rows[i] = 0.0;
        }
        for ty in [GgmlType::Q4_1, GgmlType::Q5_1, GgmlType::Q4_K, GgmlType::Q8_0] {
            let mut bytes = vec![0; ty.bytes_for(256).unwrap() as usize];
            let mut expected = bytes.clone();
            encode_rows(ty, &rows, 256, None, &mut expected).unwrap();
            encode_pruned_rows(ty, &rows, 256, None, 4, &mut bytes).unwrap();
            assert_eq!(bytes, expected, "{ty}");
        }
    }

    #[test]
    fn zeros_stay_but_in_k_quants_with_a_minimum() {
        use GgmlType as T;
        for ty in [T::F32, T::F16, T::BF16, T::Q8_0, T::Q5_0, T::Q4_0, T::Q6_K, T::Q4_1, T::Q5_1] {
            assert!(keeps_zeros(ty), "{ty}");
        }
        for ty in [T::Q4_K, T::Q5_K, T::Q2_K, T::IQ4_NL] {
            assert!(!keeps_zeros(ty), "{ty}");
        }
    }
}
