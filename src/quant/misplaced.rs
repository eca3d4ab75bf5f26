//! Values that do not stand at the level of their block nearest to what they should stand for.
//!
//! An encoder chooses a block's scales by a search, and importance changes that choice. Then it
//! rounds every value to the nearest level. So whatever the scales are, a value that stands at
//! another level was not rounded from these numbers.

use super::levels::Levels;
use crate::gguf::GgmlType;

/// Part of the gap between two levels by which one must be nearer. Encoders round before a scale
/// is rounded to f16: 127 levels of Q8_0 then move by up to 127 / 2048 of a gap.
const CLEARLY: f32 = 0.15;

/// Elements of an encoded row that stand at a level clearly farther from `original` than another
/// level of their block; None for types without levels: floats, codebooks. `values` are what
/// `bytes` decode to.
pub fn misplaced(ty: GgmlType, bytes: &[u8], values: &[f32], original: &[f32]) -> Option<u64> {
    let layout = ty.layout();
    let blocks = bytes.chunks_exact(layout.block_bytes as usize);
    let len = layout.block_len as usize;
    let mut n = 0;
    let values = values.chunks_exact(len).zip(original.chunks_exact(len));
    for (block, (values, original)) in blocks.zip(values) {
        let levels = Levels::read(ty, block)?;
        for (i, (value, x)) in values.iter().zip(original).enumerate() {
            let (_, nearest) = levels.nearest(i, *x);
            let nearer_by = (value - x).abs() - (nearest - x).abs();
            n += u64::from(nearer_by > CLEARLY * (value - nearest).abs());
        }
    }
    Some(n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llama::{decode, encode};

    #[test]
    fn what_an_encoder_rounds_is_at_its_place_and_what_was_moved_is_not() {
        let row: Vec<f32> = (0..256).map(|i| (i as f32 * 0.7).sin() + 0.1).collect();
        use GgmlType as T;
        for ty in [T::Q4_0, T::Q8_0, T::Q4_K, T::Q6_K, T::IQ4_XS, T::Q2_K] {
            let mut bytes = vec![0; ty.bytes_for(256).unwrap() as usize];
            encode(ty, &row, 256, None, &mut bytes).unwrap();
            let mut values = vec![0.0; 256];
            decode(ty, &bytes, &mut values).unwrap();
            assert_eq!(misplaced(ty, &bytes, &values, &row), Some(0), "{ty}");
            let mut moved = row.clone();
            // To another value of the row, far away.
            moved[7] = row[11];
            assert_eq!(misplaced(ty, &bytes, &values, &moved), Some(1), "{ty}");
        }
        assert_eq!(misplaced(T::F16, &[0; 2], &[0.0], &[1.0]), None);
    }
}
