//! Blocks of ggml's plain types of 4 and 5 bits, written from scales and integers.
//!
//! ```text
//! block_q4_0: | d: f16 |                       16 x (q[j+16] << 4 | q[j]) |
//! block_q4_1: | d: f16 | m: f16 |              16 x (q[j+16] << 4 | q[j]) |   w = q d + m
//! block_q5_1: | d: f16 | m: f16 | bit 4: u32 | 16 x (q[j+16] << 4 | q[j]) |
//! ```
//! Source: llama.cpp's `ggml/src/ggml-common.h`.

use half::f16;

/// Elements of a block.
const LEN: usize = 32;
/// Bytes of the integers' low four bits, of a scale, and of the fifth bits.
const LOW: usize = LEN / 2;
const SCALE: usize = 2;
const FIFTH: usize = 4;

/// Writes a block of Q4_0, or with a minimum of Q4_1 or Q5_1, whose lengths differ.
///
/// # Panics
/// `block` is too short for its parts.
pub fn write_block(scale: f32, minimum: Option<f32>, integers: &[u8; LEN], block: &mut [u8]) {
    let (head, low) = block.split_at_mut(block.len() - LOW);
    head[..SCALE].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
    if let Some(minimum) = minimum {
        head[SCALE..2 * SCALE].copy_from_slice(&f16::from_f32(minimum).to_le_bytes());
        if head.len() == 2 * SCALE + FIFTH {
            let bits = integers.iter().enumerate();
            let fifth = bits.fold(0u32, |all, (j, q)| all | u32::from(q >> 4) << j);
            head[2 * SCALE..].copy_from_slice(&fifth.to_le_bytes());
        }
    }
    let (first, second) = integers.split_at(LEN / 2);
    for (byte, (first, second)) in low.iter_mut().zip(first.iter().zip(second)) {
        *byte = second << 4 | first & 15;
    }
}
