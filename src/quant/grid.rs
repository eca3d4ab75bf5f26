//! Rounding to the grid that a block has: its scales stay, its integers are chosen anew.
//!
//! ggml searches the scales of a k-quant's block (`make_qkx2_quants` and `make_qx_quants` of
//! `ggml/src/ggml-quants.c`), which takes nearly all of an encoder's time. A block that changes
//! little, as under a rank-1 edit, is served as well by the scales it has: those of whoever
//! quantized the file, with an importance matrix or without. The blocks' layout is that of
//! `ggml/src/ggml-common.h`.

use half::f16;

use crate::gguf::GgmlType;

/// Elements of a k-quant's block.
const BLOCK: usize = 256;
/// Of each of Q4_K's and Q5_K's sub-blocks, and of each of Q6_K's.
const SUB: usize = 32;
const SUB_Q6: usize = 16;
/// Bytes of the integers' low four bits.
const LOW: usize = BLOCK / 2;
/// Rounding to a grid of step s has an error of s^2 / 12 a number, on the mean of many. A block
/// with this times as much, 1.35 times the noise, lies too far beyond its grid's ends.
const WITHIN: f32 = 1.35 * 1.35;
/// Added and taken off again, it rounds numbers of less than 2^22 to the nearest integer.
const ROUNDS: f32 = 12_582_912.0;

/// Writes `wanted`, [256], into a block of `ty`, with the scales of `block`; `out` is as long as
/// `block`. False, and `out` is of no use, if the type is none of Q4_K, Q5_K and Q6_K or the
/// numbers do not fit the block's grid.
pub(super) fn round_to_grid(ty: GgmlType, block: &[u8], wanted: &[f32], out: &mut [u8]) -> bool {
    let mut integers = [0u8; BLOCK];
    let fits = match ty {
        GgmlType::Q4_K => choose(&scales_and_mins(block), SUB, (0.0, 15.0), wanted, &mut integers),
        GgmlType::Q5_K => choose(&scales_and_mins(block), SUB, (0.0, 31.0), wanted, &mut integers),
        GgmlType::Q6_K => choose(&scales(block), SUB_Q6, (-32.0, 31.0), wanted, &mut integers),
        _ => return false,
    };
    if !fits {
        return false;
    }
    out.copy_from_slice(block);
    match ty {
        GgmlType::Q4_K => pack_halves(&integers, &mut out[16..]),
        GgmlType::Q5_K => {
            let (high, low) = out[16..].split_at_mut(SUB);
            pack_halves(&integers, low);
            // Bit i of a byte belongs to sub-block i.
            high.fill(0);
            for (i, sub) in integers.chunks_exact(SUB).enumerate() {
                high.iter_mut().zip(sub).for_each(|(high, q)| *high |= (q >> 4) << i);
            }
        }
        _ => pack_quarters(&integers, out),
    }
    true
}

/// Step and offset of each sub-block: a number is `step q + offset`.
type Grid<const N: usize> = [(f32, f32); N];

/// Nearest integers, less `ends.0`; false if the block's grid does not reach far enough.
fn choose<const N: usize>(
    grid: &Grid<N>,
    sub: usize,
    ends: (f32, f32),
    wanted: &[f32],
    integers: &mut [u8; BLOCK],
) -> bool {
    debug_assert_eq!(wanted.len(), BLOCK, "a block");
    let (mut error, mut usual) = (0f32, 0f32);
    let subs = wanted.chunks_exact(sub).zip(integers.chunks_exact_mut(sub));
    for ((wanted, integers), &(step, offset)) in subs.zip(grid) {
        let inverse = if step == 0.0 { 0.0 } else { 1.0 / step };
        let mut off = 0f32;
        for (x, q) in wanted.iter().zip(integers) {
            // A NaN stays one, and then the error is.
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

fn f16_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Q4_K and Q5_K: `d`, `dmin`, then eight 6-bit scales and mins in 12 bytes (`get_scale_min_k4`).
fn scales_and_mins(block: &[u8]) -> Grid<8> {
    let (d, dmin, packed) = (f16_at(block, 0), f16_at(block, 2), &block[4..16]);
    std::array::from_fn(|i| {
        let (scale, min) = match i {
            0..4 => (packed[i] & 63, packed[i + 4] & 63),
            _ => (
                packed[i + 4] & 15 | packed[i - 4] >> 6 << 4,
                packed[i + 4] >> 4 | packed[i] >> 6 << 4,
            ),
        };
        (d * f32::from(scale), -dmin * f32::from(min))
    })
}

/// Q6_K: 128 bytes of low bits, 64 of high bits, 16 signed scales, `d`.
fn scales(block: &[u8]) -> Grid<16> {
    let d = f16_at(block, LOW + 64 + 16);
    std::array::from_fn(|i| (d * f32::from(block[LOW + 64 + i].cast_signed()), 0.0))
}

/// Two neighbouring sub-blocks share bytes: the first has their low halves.
fn pack_halves(integers: &[u8; BLOCK], low: &mut [u8]) {
    for (pair, low) in integers.chunks_exact(2 * SUB).zip(low.chunks_exact_mut(SUB)) {
        let (a, b) = pair.split_at(SUB);
        low.iter_mut().zip(a.iter().zip(b)).for_each(|(low, (a, b))| *low = a & 15 | b << 4);
    }
}

/// Q6_K: of each half of the block, the quarters a b c d share bytes: the low bits a with c and b
/// with d, the high bits all four.
fn pack_quarters(integers: &[u8; BLOCK], out: &mut [u8]) {
    let (low, rest) = out.split_at_mut(LOW);
    let halves = integers.chunks_exact(BLOCK / 2);
    for ((half, low), high) in halves.zip(low.chunks_exact_mut(64)).zip(rest.chunks_exact_mut(32)) {
        for i in 0..32 {
            let [a, b, c, d] = [0, 32, 64, 96].map(|quarter| half[quarter + i]);
            low[i] = a & 15 | c << 4;
            low[i + 32] = b & 15 | d << 4;
            high[i] = a >> 4 | b >> 4 << 2 | c >> 4 << 4 | d >> 4 << 6;
        }
    }
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
        fn a_changed_block_is_nearly_as_close_as_one_encoded_anew(
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
                    let anew = error(decoded(ty, &encoded(ty, &wanted)));
                    let own = error(decoded(ty, &out));
                    prop_assert!(own <= 3.0 * anew + 1e-9, "{}: {} against {}", ty, own, anew);
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
