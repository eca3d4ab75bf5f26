//! Finds NaN and infinity, in values and in blocks' scales. Rounding hides them: most codecs take
//! the largest value of a block with comparisons that NaN never wins, and write zeros or noise. So
//! whatever writes weights decodes its input with [`decode_finite`].

use std::ops::Range;

use half::{bf16, f16};

use super::error::{Error, Result};
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
        // A scale of E4M3 whose bits are all set is NaN; ggml decodes it to 0. A block has four.
        GgmlType::NVFP4 => {
            let mut scales = bytes.chunks_exact(36).flat_map(|block| &block[..4]);
            scales.position(|scale| scale & 0x7f == 0x7f).map(|i| i * 16)
        }
        ty if llama::is_decodable(ty) => {
            let n = bytes.len() as u64 / ty.layout().block_bytes * ty.layout().block_len;
            let mut values = vec![0.0; n as usize];
            decode_rows(ty, bytes, n_cols, &mut values)?;
            non_finite_at(&values)
        }
        _ => None,
    };
    Ok(index.map(|i| i as u64))
}

/// Index of the first value that is NaN or infinite.
pub fn non_finite_at(values: &[f32]) -> Option<usize> {
    const RUN: usize = 1024;
    // The exponent's bits, all set. The first loop has no branch, so that it uses wide registers.
    let is_bad = |x: &f32| x.to_bits() & 0x7f80_0000 == 0x7f80_0000;
    let any_bad = |run: &[f32]| run.iter().fold(false, |any, x| any | is_bad(x));
    let run = values.chunks(RUN).position(any_bad)?;
    let in_run = values[run * RUN..].iter().position(is_bad)?;
    Some(run * RUN + in_run)
}

/// Decodes `rows` of a tensor into `out`, `[n_rows, n_cols]`.
///
/// # Errors
/// [`Error::NonFinite`] names the first value that is NaN or infinite; the type cannot be decoded.
pub fn decode_finite(tensor: Tensor<'_>, rows: Range<u64>, out: &mut [f32]) -> Result<()> {
    let (info, n_cols) = (tensor.info, tensor.info.n_cols());
    let bytes = tensor.rows(rows.clone());
    decode_rows(info.ty, bytes, n_cols as usize, out)?;
    let index = match info.ty {
        // ggml decodes their NaN to a finite value.
        GgmlType::MXFP4 | GgmlType::NVFP4 => first_non_finite(info.ty, bytes, n_cols as usize)?,
        _ => non_finite_at(out).map(|i| i as u64),
    };
    match index {
        None => Ok(()),
        Some(i) => Err(Error::NonFinite {
            name: info.name.clone(),
            row: rows.start + i / n_cols,
            column: i % n_cols,
        }),
    }
}

/// `rows` of a tensor as f32, `[n_rows, n_cols]`.
///
/// # Errors
/// See [`decode_finite`].
pub fn decoded_finite(tensor: Tensor<'_>, rows: Range<u64>) -> Result<Vec<f32>> {
    let mut values = vec![0.0; ((rows.end - rows.start) * tensor.info.n_cols()) as usize];
    decode_finite(tensor, rows, &mut values)?;
    Ok(values)
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
        let mut nv = vec![0u8; 72];
        nv[36 + 2] = 0x7f;
        assert_eq!(first_non_finite(GgmlType::NVFP4, &nv, 128).unwrap(), Some(64 + 32));
    }

    #[test]
    fn a_value_is_found_wherever_it_is() {
        for at in [0, 1, 1023, 1024, 2500] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut values = vec![f32::MAX; 2501];
                assert_eq!(non_finite_at(&values), None);
                values[at] = bad;
                assert_eq!(non_finite_at(&values), Some(at));
            }
        }
    }
}
