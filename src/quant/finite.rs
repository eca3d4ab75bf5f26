//! Finds numbers that are none: NaN and infinity, in values and in blocks' scales.

use std::ops::Range;

use half::{bf16, f16};

use super::error::Result;
use super::rows::decode_rows;
use super::stream::fold_rows;
use crate::gguf::{GgmlType, Tensor, Watch};
use crate::llama;

/// Index of the first element that is NaN or infinite, counted in `bytes`, whose rows have
/// `n_cols` elements. A bad scale makes every decoded value of its block bad: 0 * inf is NaN.
///
/// # Errors
/// Lengths disagree: see [`llama::decode`].
pub fn first_non_finite(ty: GgmlType, bytes: &[u8], n_cols: usize) -> Result<Option<u64>> {
    let index = match ty {
        GgmlType::F32 => position(bytes, |b: [u8; 4]| !f32::from_le_bytes(b).is_finite()),
        GgmlType::F64 => position(bytes, |b: [u8; 8]| !f64::from_le_bytes(b).is_finite()),
        GgmlType::F16 => position(bytes, |b: [u8; 2]| !f16::from_le_bytes(b).is_finite()),
        GgmlType::BF16 => position(bytes, |b: [u8; 2]| !bf16::from_le_bytes(b).is_finite()),
        // An exponent of 255 is NaN by the OCP MX specification; ggml decodes it to 2^127.
        GgmlType::MXFP4 => bytes.chunks_exact(17).position(|b| b[0] == 0xff).map(|i| i * 32),
        ty if llama::is_decodable(ty) => {
            let n = bytes.len() as u64 / ty.layout().block_bytes * ty.layout().block_len;
            let mut values = vec![0.0; n as usize];
            decode_rows(ty, bytes, n_cols, &mut values)?;
            values.iter().position(|x| !x.is_finite())
        }
        _ => None,
    };
    Ok(index.map(|i| i as u64))
}

/// The first bad element of a whole tensor: its row and column.
///
/// # Errors
/// As [`first_non_finite`], or an interrupt.
pub fn find_non_finite(tensor: Tensor<'_>, watch: &dyn Watch) -> Result<Option<(u64, u64)>> {
    let (info, n_cols) = (tensor.info, tensor.info.n_cols());
    let mut first = None;
    let look = |rows: Range<u64>| {
        let index = first_non_finite(info.ty, tensor.rows(rows.clone()), n_cols as usize)?;
        Ok(index.map(|i| (rows.start + i / n_cols, i % n_cols)))
    };
    fold_rows(info, info.row_bytes(), watch, look, |found| first = first.or(found))?;
    Ok(first)
}

fn position<const N: usize>(bytes: &[u8], bad: impl Fn([u8; N]) -> bool) -> Option<usize> {
    bytes.as_chunks::<N>().0.iter().position(|&chunk| bad(chunk))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_infinite_scale_is_found_in_its_block() {
        let rows: Vec<f32> = (0..512).map(|i| (i as f32).sin()).collect();
        for ty in [GgmlType::Q4_0, GgmlType::Q8_0, GgmlType::Q4_K, GgmlType::Q6_K] {
            let mut bytes = vec![0; ty.bytes_for(512).unwrap() as usize];
            llama::encode(ty, &rows, 512, None, &mut bytes).unwrap();
            assert_eq!(first_non_finite(ty, &bytes, 512).unwrap(), None);
            // The f16 scale of the last block: its place differs by type.
            let block = ty.layout().block_bytes as usize;
            let at = if ty == GgmlType::Q6_K { bytes.len() - 2 } else { bytes.len() - block };
            bytes[at..at + 2].copy_from_slice(&f16::INFINITY.to_le_bytes());
            let first = 512 - ty.layout().block_len;
            assert_eq!(first_non_finite(ty, &bytes, 512).unwrap(), Some(first), "{ty}");
        }
    }

    #[test]
    fn plain_floats_are_looked_at_one_by_one() {
        let mut bytes: Vec<u8> = [1.0f32, 2.0, 3.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(first_non_finite(GgmlType::F32, &bytes, 3).unwrap(), None);
        bytes[8..].copy_from_slice(&f32::NAN.to_le_bytes());
        assert_eq!(first_non_finite(GgmlType::F32, &bytes, 3).unwrap(), Some(2));
        let mut mx = vec![0u8; 34];
        mx[17] = 0xff;
        assert_eq!(first_non_finite(GgmlType::MXFP4, &mx, 64).unwrap(), Some(32));
    }
}
