//! Rounding to the grid that a block already has: its scales stay, only its integers are chosen
//! again (the parts `q` in the bit picture of [`super::levels`]).
//!
//! ggml searches the scales of a k-quant's block (`make_qkx2_quants` and `make_qx_quants` of
//! `ggml/src/ggml-quants.c`), which takes nearly all of an encoder's time. If a block changes
//! little, as under a rank-1 edit, its old scales are as good as new ones; they may also come from
//! an importance matrix, which aird does not have.

use super::levels::{BLOCK, Levels};
use crate::gguf::GgmlType;

/// Rounding to a grid of step s has a mean squared error of s^2 / 12 per value. A block whose error
/// is this many times as large, 1.35 times the noise, lies too far beyond its grid's ends.
const WITHIN: f32 = 1.35 * 1.35;
/// Added and subtracted again, it rounds values below 2^22 to the nearest integer.
const ROUNDS: f32 = 12_582_912.0;

/// Writes `wanted`, [256], into a block of `ty`, with the scales of `block`; `out` is as long as
/// `block`. False, with `out` undefined, if the type is not Q4_K, Q5_K or Q6_K, or if the values do
/// not fit the block's grid.
pub(super) fn round_to_grid(ty: GgmlType, block: &[u8], wanted: &[f32], out: &mut [u8]) -> bool {
    if !matches!(ty, GgmlType::Q4_K | GgmlType::Q5_K | GgmlType::Q6_K) {
        return false;
    }
    let Some(levels) = Levels::read(ty, block) else { return false };
    let Some(ends) = levels.ends() else { return false };
    let mut integers = [0u8; BLOCK];
    if !choose(&levels, ends, wanted, &mut integers) {
        return false;
    }
    out.copy_from_slice(block);
    Levels::write(ty, &integers, out);
    true
}

/// Nearest integers, less `ends.0`; false if the block's grid does not reach far enough.
fn choose(levels: &Levels, ends: (f32, f32), wanted: &[f32], integers: &mut [u8; BLOCK]) -> bool {
    debug_assert_eq!(wanted.len(), BLOCK, "a block");
    let (mut error, mut usual) = (0f32, 0f32);
    let (grid, sub) = levels.steps();
    let subs = wanted.chunks_exact(sub).zip(integers.chunks_exact_mut(sub));
    for ((wanted, integers), &(step, offset)) in subs.zip(grid) {
        let inverse = if step == 0.0 { 0.0 } else { 1.0 / step };
        let mut off = 0f32;
        for (x, q) in wanted.iter().zip(integers) {
            // A NaN stays NaN, and makes the error NaN.
            let nearest = ((x - offset) * inverse).clamp(ends.0, ends.1) + ROUNDS - ROUNDS;
            *q = (nearest - ends.0) as u8;
            let missed = step * nearest + offset - x;
            off += missed * missed;
        }
        error += off;
        usual += step * step * (sub as f32 / 12.0);
    }
    error <= WITHIN * usual
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llama::{decode, encode};
    use proptest::prelude::*;

    const TYPES: [GgmlType; 3] = [GgmlType::Q4_K, GgmlType::Q5_K, GgmlType::Q6_K];

    fn encoded(ty: GgmlType, numbers: &[f32]) -> Vec<u8> {
        let mut bytes = vec![0; ty.bytes_for(BLOCK as u64).unwrap() as usize];
        encode(ty, numbers, BLOCK, None, &mut bytes).unwrap();
        bytes
    }

    fn decoded(ty: GgmlType, block: &[u8]) -> Vec<f32> {
        let mut numbers = vec![0.0; BLOCK];
        decode(ty, block, &mut numbers).unwrap();
        numbers
    }

    /// Sub-blocks of many sizes, so that every scale and min differs.
    fn wave(phase: f32) -> Vec<f32> {
        let size = |i: usize| 1.0 + (i / 16) as f32;
        (0..BLOCK).map(|i| (i as f32 * 0.7 + phase).sin() * size(i) + 0.3).collect()
    }

    proptest! {
        /// What ggml decodes from a block's bytes lies on the block's grid, so it comes back as it
        /// was: scales, mins and every integer are read and written where ggml has them.
        #[test]
        fn a_block_rounded_to_its_own_numbers_keeps_its_bytes(phase in 0f32..100.0) {
            for ty in TYPES {
                let block = encoded(ty, &wave(phase));
                let mut out = vec![0; block.len()];
                prop_assert!(round_to_grid(ty, &block, &decoded(ty, &block), &mut out), "{}", ty);
                prop_assert_eq!(decoded(ty, &out), decoded(ty, &block), "{}", ty);
            }
        }

        /// A small change is rounded with not much more noise than ggml's search of scales would
        /// leave.
        #[test]
        fn a_changed_block_is_nearly_as_close_as_one_encoded_again(
            phase in 0f32..100.0,
            by in 0.0f32..0.05,
        ) {
            for ty in TYPES {
                let block = encoded(ty, &wave(phase));
                let other = |i: usize| 9.0 * (i as f32 * 1.3 + phase).cos();
                let moved = decoded(ty, &block);
                let wanted: Vec<f32> =
                    moved.iter().enumerate().map(|(i, x)| x + by * other(i)).collect();
                let error = |numbers: Vec<f32>| -> f32 {
                    numbers.iter().zip(&wanted).map(|(a, b)| (a - b) * (a - b)).sum()
                };
                let mut out = vec![0; block.len()];
                if round_to_grid(ty, &block, &wanted, &mut out) {
                    let again = error(decoded(ty, &encoded(ty, &wanted)));
                    let own = error(decoded(ty, &out));
                    prop_assert!(own <= 3.0 * again + 1e-9, "{}: {} against {}", ty, own, again);
                }
            }
        }
    }

    #[test]
    fn numbers_beyond_the_grid_are_left_to_the_encoder() {
        for ty in TYPES {
            let block = encoded(ty, &wave(1.0));
            let mut out = vec![0; block.len()];
            let far: Vec<f32> = decoded(ty, &block).iter().map(|x| 2.0 * x).collect();
            assert!(!round_to_grid(ty, &block, &far, &mut out), "{ty}");
            let mut broken = decoded(ty, &block);
            broken[77] = f32::NAN;
            assert!(!round_to_grid(ty, &block, &broken, &mut out), "{ty}");
            broken[77] = f32::INFINITY;
            assert!(!round_to_grid(ty, &block, &broken, &mut out), "{ty}");
        }
    }

    #[test]
    fn a_block_of_zeros_has_no_grid() {
        for ty in TYPES {
            let block = encoded(ty, &[0.0; BLOCK]);
            let mut out = vec![0; block.len()];
            assert!(!round_to_grid(ty, &block, &wave(0.0), &mut out), "{ty}");
            assert!(round_to_grid(ty, &block, &[0.0; BLOCK], &mut out), "{ty}");
        }
    }
}
