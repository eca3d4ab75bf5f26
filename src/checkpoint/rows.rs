//! Rows of a checkpoint's tensors as rows of ggml's F32, F16 and BF16.

use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::tensor::Dtype;

use crate::gguf::GgmlType;

/// Elements that a thread converts at once.
const TASK_ELEMENTS: usize = 1 << 16;

/// The type of ggml with the same bytes; None if there is none.
pub(super) fn same_type(dtype: Dtype) -> Option<GgmlType> {
    match dtype {
        Dtype::F32 => Some(GgmlType::F32),
        Dtype::F16 => Some(GgmlType::F16),
        Dtype::BF16 => Some(GgmlType::BF16),
        _ => None,
    }
}

/// Bytes of an element; None for types that are not read.
pub(super) fn element_bytes(dtype: Dtype) -> Option<usize> {
    match dtype {
        Dtype::F32 => Some(4),
        Dtype::F16 | Dtype::BF16 => Some(2),
        _ => None,
    }
}

/// Writes the elements of `from` as `ty` into `to`, on all cores. Values are rounded to nearest,
/// ties to even, as ggml and PyTorch do.
pub(super) fn convert(dtype: Dtype, from: &[u8], ty: GgmlType, to: &mut [u8]) {
    if same_type(dtype) == Some(ty) {
        to.copy_from_slice(from);
        return;
    }
    let (Some(from_bytes), Some(to_bytes)) = (element_bytes(dtype), type_bytes(ty)) else {
        return;
    };
    let from = from.par_chunks(TASK_ELEMENTS * from_bytes);
    let to = to.par_chunks_mut(TASK_ELEMENTS * to_bytes);
    from.zip(to).for_each(|(from, to)| {
        let mut floats = vec![0.0; from.len() / from_bytes];
        to_f32(dtype, from, &mut floats);
        from_f32(&floats, ty, to);
    });
}

/// Bytes of an element of a float type of ggml.
fn type_bytes(ty: GgmlType) -> Option<usize> {
    match ty {
        GgmlType::F32 => Some(4),
        GgmlType::F16 | GgmlType::BF16 => Some(2),
        _ => None,
    }
}

/// The elements of `bytes` as numbers.
pub(super) fn to_f32(dtype: Dtype, bytes: &[u8], floats: &mut [f32]) {
    let halves = bytes.as_chunks::<2>().0.iter().zip(floats.iter_mut());
    match dtype {
        Dtype::BF16 => halves.for_each(|(b, x)| *x = bf16::from_le_bytes(*b).to_f32()),
        Dtype::F16 => halves.for_each(|(b, x)| *x = f16::from_le_bytes(*b).to_f32()),
        _ => {
            let words = bytes.as_chunks::<4>().0.iter().zip(floats);
            words.for_each(|(b, x)| *x = f32::from_le_bytes(*b));
        }
    }
}

/// Writes numbers as a float type of ggml.
pub(super) fn from_f32(floats: &[f32], ty: GgmlType, bytes: &mut [u8]) {
    match ty {
        GgmlType::BF16 => {
            let halves = bytes.as_chunks_mut::<2>().0.iter_mut().zip(floats);
            halves.for_each(|(b, x)| *b = bf16::from_f32(*x).to_le_bytes());
        }
        GgmlType::F16 => {
            let halves = bytes.as_chunks_mut::<2>().0.iter_mut().zip(floats);
            halves.for_each(|(b, x)| *b = f16::from_f32(*x).to_le_bytes());
        }
        _ => {
            let words = bytes.as_chunks_mut::<4>().0.iter_mut().zip(floats);
            words.for_each(|(b, x)| *b = x.to_le_bytes());
        }
    }
}

/// The row of a checkpoint's queries or keys that becomes row `row` of the GGUF tensor: the halves
/// of each head, of `head` rows, are interleaved.
pub(super) fn interleaved(row: u64, head: u64) -> u64 {
    let within = row % head;
    row - within + within % 2 * (head / 2) + within / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_halves_of_each_head_are_interleaved() {
        let rows: Vec<u64> = (0..12).map(|row| interleaved(row, 6)).collect();
        assert_eq!(rows, [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]);
    }

    #[test]
    fn values_are_rounded_to_the_nearest_even_one() {
        // 1 + 2^-8 lies between two BF16s, 1 + 2^-11 between two F16s.
        for (ty, x, expected) in [
            (GgmlType::BF16, 1.0 + 2f32.powi(-8), 1.0f32),
            (GgmlType::BF16, 1.0 + 3.0 * 2f32.powi(-8), 1.0 + 2f32.powi(-6)),
            (GgmlType::F16, 1.0 + 2f32.powi(-11), 1.0),
            (GgmlType::F16, 70_000.0, f32::INFINITY),
        ] {
            let mut bytes = [0; 2];
            convert(Dtype::F32, &x.to_le_bytes(), ty, &mut bytes);
            let back = match ty {
                GgmlType::BF16 => bf16::from_le_bytes(bytes).to_f32(),
                _ => f16::from_le_bytes(bytes).to_f32(),
            };
            assert_eq!(back, expected, "{x} as {ty}");
        }
    }
}
