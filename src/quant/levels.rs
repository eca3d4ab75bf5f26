//! The values that a block with given scales can hold: read from its bytes, and written back.
//!
//! ```text
//! Q4_0 Q5_0 Q8_0 Q3_K Q6_K   w = d s_i q                  q signed
//! Q4_1 Q5_1                  w = d q + m
//! Q2_K Q4_K Q5_K             w = d s_i q - dmin m_i
//! IQ4_NL IQ4_XS MXFP4        w = d s_i table[q]
//! ```
//! i is the sub-block. The super-block of Q4_K packs its scales and mins into 6 bits each:
//!
//! ```text
//! | d: f16 | dmin: f16 | scales: 12 bytes | q: 128 bytes |              144 bytes
//!
//! scales[k]      | s_k+4, bits 5-4 : 2 | s_k             : 6 |      k < 4, high bits on the left
//! scales[k+4]    | m_k+4, bits 5-4 : 2 | m_k             : 6 |
//! scales[k+8]    | m_k+4, bits 3-0 : 4 | s_k+4, bits 3-0 : 4 |
//! q[32 j + n]    | q_n of s_2j+1   : 4 | q_n of s_2j     : 4 |      j < 4, n < 32
//! ```
//! Q5_K has the fifth bits of q, 32 bytes, between scales and q. The layouts are those of
//! llama.cpp's `ggml/src/ggml-common.h`, read as in the `dequantize_row_*` of
//! `ggml/src/ggml-quants.c`.

use half::f16;

use crate::gguf::GgmlType;

/// Elements of the longest block, a k-quant's super-block.
pub(super) const BLOCK: usize = 256;
/// Sub-blocks of a block, at most.
const MAX_SUB: usize = 16;
/// Elements of the plain types' blocks.
const PLAIN: usize = 32;
/// Bytes of a k-quant's low four bits.
const LOW: usize = BLOCK / 2;

/// `kvalues_iq4nl` of ggml-common.h.
const IQ4: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
/// `kvalues_fp4` of ggml-common.h: e2m1 with every value doubled, so that all are integers.
const FP4: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// What a code stands for before it is scaled.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Codes {
    /// The integers from the first to the last, code 0 for the first.
    Integers(f32, f32),
    /// A value for each code.
    Table(&'static [i8; 16]),
}

/// The grid of one block.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Levels {
    /// Step and offset of each sub-block: a value is `step x + offset`.
    steps: [(f32, f32); MAX_SUB],
    /// Elements of a sub-block, and of the block.
    sub: usize,
    len: usize,
    codes: Codes,
}

impl Levels {
    /// The levels of a block's scales; None for types without such a grid: floats, codebooks.
    pub(super) fn read(ty: GgmlType, block: &[u8]) -> Option<Levels> {
        use GgmlType as T;
        let mut steps = [(0.0, 0.0); MAX_SUB];
        let (sub, len, codes) = match ty {
            T::Q4_0 => (PLAIN, PLAIN, Codes::Integers(-8.0, 7.0)),
            T::Q5_0 => (PLAIN, PLAIN, Codes::Integers(-16.0, 15.0)),
            T::Q8_0 => (PLAIN, PLAIN, Codes::Integers(-127.0, 127.0)),
            T::Q4_1 => (PLAIN, PLAIN, Codes::Integers(0.0, 15.0)),
            T::Q5_1 => (PLAIN, PLAIN, Codes::Integers(0.0, 31.0)),
            T::IQ4_NL => (PLAIN, PLAIN, Codes::Table(&IQ4)),
            T::MXFP4 => (PLAIN, PLAIN, Codes::Table(&FP4)),
            T::Q2_K => (16, BLOCK, Codes::Integers(0.0, 3.0)),
            T::Q3_K => (16, BLOCK, Codes::Integers(-4.0, 3.0)),
            T::Q4_K => (32, BLOCK, Codes::Integers(0.0, 15.0)),
            T::Q5_K => (32, BLOCK, Codes::Integers(0.0, 31.0)),
            T::Q6_K => (16, BLOCK, Codes::Integers(-32.0, 31.0)),
            T::IQ4_XS => (32, BLOCK, Codes::Table(&IQ4)),
            _ => return None,
        };
        match ty {
            T::Q4_1 | T::Q5_1 => steps[0] = (f16_at(block, 0), f16_at(block, 2)),
            T::MXFP4 => steps[0] = (half_power(block[0]), 0.0),
            T::Q2_K => two_bits(block, &mut steps),
            T::Q3_K => three_bits(block, &mut steps),
            T::Q4_K | T::Q5_K => scales_and_mins(block, &mut steps),
            T::Q6_K => six_bits(block, &mut steps),
            T::IQ4_XS => table_scales(block, &mut steps),
            _ => steps[0] = (f16_at(block, 0), 0.0),
        }
        Some(Levels { steps, sub, len, codes })
    }

    /// Step and offset of each sub-block, and the sub-block's length.
    pub(super) fn steps(&self) -> (&[(f32, f32)], usize) {
        (&self.steps[..self.len / self.sub], self.sub)
    }

    /// The least and the greatest integer; None where codes stand for a table's values.
    pub(super) fn ends(&self) -> Option<(f32, f32)> {
        match self.codes {
            Codes::Integers(first, last) => Some((first, last)),
            Codes::Table(_) => None,
        }
    }

    /// The code of element `i` whose value is nearest to `x`, and that value.
    pub(super) fn nearest(&self, i: usize, x: f32) -> (u8, f32) {
        let (step, offset) = self.steps[i / self.sub];
        match self.codes {
            Codes::Integers(first, last) => {
                let scaled = if step == 0.0 { 0.0 } else { (x - offset) / step };
                let q = scaled.round_ties_even().clamp(first, last);
                // NaN becomes code 0, as every code must be valid.
                ((q - first) as u8, step * q + offset)
            }
            Codes::Table(values) => {
                let value = |code: usize| step * f32::from(values[code]) + offset;
                let far = |code: usize| (value(code) - x).abs();
                let code = (1..16).fold(0, |best, c| if far(c) < far(best) { c } else { best });
                (code as u8, value(code))
            }
        }
    }

    /// Writes codes, one per element, into a block of `ty` that keeps its scales.
    pub(super) fn write(ty: GgmlType, codes: &[u8], block: &mut [u8]) {
        use GgmlType as T;
        match ty {
            T::Q8_0 => {
                let bytes = block[2..].iter_mut().zip(codes);
                bytes.for_each(|(byte, code)| *byte = code.wrapping_sub(127));
            }
            T::Q5_0 | T::Q5_1 => {
                let at = block.len() - PLAIN / 2 - 4;
                let bits = codes.iter().enumerate();
                let fifth = bits.fold(0u32, |all, (j, q)| all | u32::from(q >> 4) << j);
                block[at..at + 4].copy_from_slice(&fifth.to_le_bytes());
                pack_nibbles(codes, &mut block[at + 4..]);
            }
            T::Q4_0 | T::Q4_1 | T::IQ4_NL | T::MXFP4 => {
                let at = block.len() - PLAIN / 2;
                pack_nibbles(codes, &mut block[at..]);
            }
            T::IQ4_XS => {
                let subs = codes.chunks_exact(PLAIN).zip(block[8..].chunks_exact_mut(PLAIN / 2));
                subs.for_each(|(codes, out)| pack_nibbles(codes, out));
            }
            T::Q2_K => pack_twos(codes, &mut block[16..80]),
            T::Q3_K => {
                let (high, low) = block.split_at_mut(32);
                pack_twos(codes, &mut low[..64]);
                pack_bits(codes, 2, high);
            }
            T::Q4_K => pack_halves(codes, &mut block[16..]),
            T::Q5_K => {
                let (high, low) = block[16..].split_at_mut(32);
                pack_halves(codes, low);
                pack_bits(codes, 4, high);
            }
            _ => pack_quarters(codes, block),
        }
    }
}

fn f16_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Half of the power of two that an exponent byte means (`ggml_e8m0_to_fp32_half`).
fn half_power(e: u8) -> f32 {
    f32::from_bits(if e < 2 { 0x0020_0000 << e } else { u32::from(e - 1) << 23 })
}

/// Q2_K: sixteen bytes of a scale and a min, 64 of integers, `d`, `dmin`.
fn two_bits(block: &[u8], steps: &mut [(f32, f32); MAX_SUB]) {
    let (d, dmin) = (f16_at(block, 80), f16_at(block, 82));
    for (step, byte) in steps.iter_mut().zip(block) {
        *step = (d * f32::from(byte & 15), -dmin * f32::from(byte >> 4));
    }
}

/// Q3_K: 32 bytes of high bits, 64 of low ones, sixteen scales of six bits in twelve bytes, `d`.
fn three_bits(block: &[u8], steps: &mut [(f32, f32); MAX_SUB]) {
    let (packed, d) = (&block[96..108], f16_at(block, 108));
    for (i, step) in steps.iter_mut().enumerate() {
        let low = if i < 8 { packed[i] & 15 } else { packed[i - 8] >> 4 };
        let high = packed[8 + i % 4] >> (2 * (i / 4)) & 3;
        *step = (d * (f32::from(low | high << 4) - 32.0), 0.0);
    }
}

/// Q4_K and Q5_K: `d`, `dmin`, then eight 6-bit scales and mins in 12 bytes (`get_scale_min_k4`).
fn scales_and_mins(block: &[u8], steps: &mut [(f32, f32); MAX_SUB]) {
    let (d, dmin, packed) = (f16_at(block, 0), f16_at(block, 2), &block[4..16]);
    for (i, step) in steps.iter_mut().take(8).enumerate() {
        let (scale, min) = match i {
            0..4 => (packed[i] & 63, packed[i + 4] & 63),
            _ => (
                packed[i + 4] & 15 | packed[i - 4] >> 6 << 4,
                packed[i + 4] >> 4 | packed[i] >> 6 << 4,
            ),
        };
        *step = (d * f32::from(scale), -dmin * f32::from(min));
    }
}

/// Q6_K: 128 bytes of low bits, 64 of high bits, 16 signed scales, `d`.
fn six_bits(block: &[u8], steps: &mut [(f32, f32); MAX_SUB]) {
    let d = f16_at(block, LOW + 64 + 16);
    for (step, scale) in steps.iter_mut().zip(&block[LOW + 64..]) {
        *step = (d * f32::from(scale.cast_signed()), 0.0);
    }
}

/// IQ4_XS: `d`, two bytes of the scales' high bits, four of their low ones.
fn table_scales(block: &[u8], steps: &mut [(f32, f32); MAX_SUB]) {
    let (d, high) = (f16_at(block, 0), u16::from_le_bytes([block[2], block[3]]));
    for (i, step) in steps.iter_mut().take(8).enumerate() {
        let low = block[4 + i / 2] >> (4 * (i % 2)) & 15;
        let scale = u16::from(low) | (high >> (2 * i) & 3) << 4;
        *step = (d * (f32::from(scale) - 32.0), 0.0);
    }
}

/// The first half of 32 codes in the low bits, the second in the high ones.
fn pack_nibbles(codes: &[u8], out: &mut [u8]) {
    let (a, b) = codes.split_at(PLAIN / 2);
    out.iter_mut().zip(a.iter().zip(b)).for_each(|(out, (a, b))| *out = a & 15 | b << 4);
}

/// Two neighbouring sub-blocks of 32 share bytes: the first has their low halves.
fn pack_halves(codes: &[u8], low: &mut [u8]) {
    for (pair, low) in codes.chunks_exact(64).zip(low.chunks_exact_mut(32)) {
        let (a, b) = pair.split_at(32);
        low.iter_mut().zip(a.iter().zip(b)).for_each(|(low, (a, b))| *low = a & 15 | b << 4);
    }
}

/// Of each half of the block, the quarters share bytes, two bits each.
fn pack_twos(codes: &[u8], out: &mut [u8]) {
    for (half, out) in codes.chunks_exact(BLOCK / 2).zip(out.chunks_exact_mut(32)) {
        for (i, byte) in out.iter_mut().enumerate() {
            let [a, b, c, d] = [0, 32, 64, 96].map(|quarter| half[quarter + i] & 3);
            *byte = a | b << 2 | c << 4 | d << 6;
        }
    }
}

/// One bit of each code: bit i of a byte belongs to sub-block i of 32.
fn pack_bits(codes: &[u8], bit: u32, high: &mut [u8]) {
    high.fill(0);
    for (i, sub) in codes.chunks_exact(32).enumerate() {
        high.iter_mut().zip(sub).for_each(|(high, q)| *high |= (q >> bit & 1) << i);
    }
}

/// Q6_K: of each half of the block, the quarters a b c d share bytes: the low bits a with c and b
/// with d, the high bits all four.
fn pack_quarters(codes: &[u8], out: &mut [u8]) {
    let (low, rest) = out.split_at_mut(LOW);
    let halves = codes.chunks_exact(BLOCK / 2);
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

    const TYPES: [GgmlType; 13] = [
        GgmlType::Q4_0,
        GgmlType::Q4_1,
        GgmlType::Q5_0,
        GgmlType::Q5_1,
        GgmlType::Q8_0,
        GgmlType::Q2_K,
        GgmlType::Q3_K,
        GgmlType::Q4_K,
        GgmlType::Q5_K,
        GgmlType::Q6_K,
        GgmlType::IQ4_NL,
        GgmlType::IQ4_XS,
        GgmlType::MXFP4,
    ];

    #[test]
    fn codes_are_written_where_ggml_reads_them_and_mean_what_it_reads() {
        // Sub-blocks of many sizes, so that every scale and min differs.
        let size = |i: usize| 1.0 + (i / 16) as f32;
        let wave: Vec<f32> = (0..BLOCK).map(|i| (i as f32 * 0.7).sin() * size(i) + 0.3).collect();
        for ty in TYPES {
            let len = ty.layout().block_len as usize;
            let mut block = vec![0; ty.layout().block_bytes as usize];
            encode(ty, &wave[..len], len, None, &mut block).unwrap();
            let levels = Levels::read(ty, &block).unwrap();
            // Numbers all over the grid, in an order that no layout has.
            let asked = |i: usize| wave[(i * 37 + 11) % len] * 1.1;
            let found: Vec<(u8, f32)> = (0..len).map(|i| levels.nearest(i, asked(i))).collect();
            let codes: Vec<u8> = found.iter().map(|(code, _)| *code).collect();
            Levels::write(ty, &codes, &mut block);
            let mut numbers = vec![0.0; len];
            decode(ty, &block, &mut numbers).unwrap();
            for (i, (x, (_, expected))) in numbers.iter().zip(&found).enumerate() {
                assert!((x - expected).abs() <= 1e-5 * (1.0 + x.abs()), "{ty} {i}: {x} {expected}");
            }
            let again = numbers.iter().enumerate().map(|(i, x)| levels.nearest(i, *x).1);
            assert!(again.zip(&found).all(|(x, (_, y))| (x - y).abs() < 1e-5), "{ty}");
        }
    }

    #[test]
    fn floats_and_codebooks_have_no_levels() {
        for ty in [GgmlType::F32, GgmlType::BF16, GgmlType::IQ2_XXS, GgmlType::IQ3_S] {
            assert_eq!(Levels::read(ty, &[0; 512]), None, "{ty}");
        }
    }
}
