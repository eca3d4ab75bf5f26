//! ggml's codecs: rows of any type to f32 and back, bit-equal to llama-quantize.
//!
//! ggml asserts, and a release build aborts, on what it cannot do: everything is checked here
//! before C is called.

use std::ffi::c_void;

use llama_cpp_sys_2 as sys;

use super::error::{Error, Result};
use crate::gguf::GgmlType;

/// Decodes whole rows: `bytes` of `ty` into `out`, one f32 an element.
///
/// # Errors
/// ggml cannot turn the type into values (integers, F64, Q8_1, Q8_K), or lengths disagree.
pub fn decode(ty: GgmlType, bytes: &[u8], out: &mut [f32]) -> Result<()> {
    check_length(ty, bytes.len(), out.len())?;
    if ty == GgmlType::F32 {
        for (x, b) in out.iter_mut().zip(bytes.chunks_exact(4)) {
            *x = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        }
        return Ok(());
    }
    let to_float = traits(ty).and_then(|t| t.to_float).ok_or(Error::NotDecodable { ty })?;
    // Blocks hold scales of 16 and 32 bits; a slice of a file may begin anywhere. The size of a C
    // struct is a multiple of its alignment.
    let align = 1 << ty.layout().block_bytes.trailing_zeros().min(2);
    if !(bytes.as_ptr() as usize).is_multiple_of(align) {
        let words = aligned(bytes);
        // SAFETY: as below; the copy holds at least the same bytes.
        unsafe { to_float(words.as_ptr().cast(), out.as_mut_ptr(), out.len() as i64) };
        return Ok(());
    }
    // SAFETY: `bytes` holds exactly the blocks of `out.len()` elements (checked above), which is
    // all that to_float reads and writes.
    unsafe { to_float(bytes.as_ptr().cast(), out.as_mut_ptr(), out.len() as i64) };
    Ok(())
}

/// Encodes whole rows of `n_cols` elements. `importance`, one weight per column, shows which errors
/// matter (llama.cpp's imatrix); types that need weights get 1 each without them.
///
/// # Errors
/// ggml cannot write the type, a row is not a whole number of blocks, or lengths disagree.
pub fn encode(
    ty: GgmlType,
    rows: &[f32],
    n_cols: usize,
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Result<()> {
    if !is_encodable(ty) {
        return Err(Error::NotEncodable { ty });
    }
    if n_cols == 0 || ty.bytes_for(n_cols as u64).is_none() {
        return Err(Error::PartialBlock { ty, n_cols });
    }
    check_length(ty, out.len(), rows.len())?;
    if !rows.len().is_multiple_of(n_cols) {
        return Err(Error::PartialBlock { ty, n_cols });
    }
    if let Some(weights) = importance
        && weights.len() != n_cols
    {
        return Err(Error::WrongImportance { found: weights.len(), n_cols });
    }
    if rows.is_empty() {
        return Ok(());
    }
    let ones = (importance.is_none() && needs_importance(ty)).then(|| vec![1.0f32; n_cols]);
    let weights = importance.or(ones.as_deref()).map_or(std::ptr::null(), <[f32]>::as_ptr);
    let n_rows = (rows.len() / n_cols) as i64;
    // SAFETY: `rows` holds n_rows * n_cols f32, `out` the blocks they become (checked above), and
    // `weights` is null or n_cols f32. The type is one that ggml_quantize_chunk knows.
    unsafe {
        let dst = out.as_mut_ptr().cast::<c_void>();
        sys::ggml_quantize_chunk(raw(ty), rows.as_ptr(), dst, 0, n_rows, n_cols as i64, weights);
    }
    Ok(())
}

/// True if ggml turns the type into f32.
pub fn is_decodable(ty: GgmlType) -> bool {
    ty == GgmlType::F32 || traits(ty).is_some_and(|t| t.to_float.is_some())
}

/// True if `ggml_quantize_chunk` of `ggml/src/ggml.c` has a case for the type.
pub fn is_encodable(ty: GgmlType) -> bool {
    use GgmlType as T;
    !matches!(ty, T::Q8_1 | T::Q8_K | T::I8 | T::I16 | T::I32 | T::I64 | T::F64)
}

/// True if ggml refuses to write the type without importance weights.
pub fn needs_importance(ty: GgmlType) -> bool {
    // SAFETY: a pure function of a valid type.
    unsafe { sys::ggml_quantize_requires_imatrix(raw(ty)) }
}

/// True if ggml's rounding to the type uses importance weights where there are any. The functions
/// for the other types in its `ggml-quants.c` take weights and ignore them.
pub fn weighs_errors(ty: GgmlType) -> bool {
    use GgmlType as T;
    let floats = matches!(ty, T::F32 | T::F16 | T::BF16);
    let ignores =
        matches!(ty, T::Q8_0 | T::Q1_0 | T::Q2_0 | T::TQ1_0 | T::TQ2_0 | T::MXFP4 | T::NVFP4);
    is_encodable(ty) && !floats && !ignores
}

fn check_length(ty: GgmlType, found: usize, n_elements: usize) -> Result<()> {
    match ty.bytes_for(n_elements as u64) {
        Some(expected) if expected == found as u64 => Ok(()),
        Some(expected) => Err(Error::WrongLength { ty, n_elements, found, expected }),
        None => Err(Error::PartialBlock { ty, n_cols: n_elements }),
    }
}

fn aligned(bytes: &[u8]) -> Vec<u64> {
    let words = bytes.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_ne_bytes(word)
    });
    words.collect()
}

fn raw(ty: GgmlType) -> sys::ggml_type {
    ty.id() as sys::ggml_type
}

fn traits(ty: GgmlType) -> Option<&'static sys::ggml_type_traits> {
    // SAFETY: ggml returns a pointer into its constant table for every type it knows.
    unsafe { sys::ggml_get_type_traits(raw(ty)).as_ref() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_table_agrees_with_ggml() {
        for &ty in GgmlType::ALL {
            let layout = ty.layout();
            // SAFETY: pure functions of valid types.
            let (len, bytes, name) = unsafe {
                let name = std::ffi::CStr::from_ptr(sys::ggml_type_name(raw(ty)));
                let len = sys::ggml_blck_size(raw(ty));
                (len, sys::ggml_type_size(raw(ty)), name.to_str().unwrap())
            };
            assert_eq!(layout.block_len, len as u64, "{ty}");
            assert_eq!(layout.block_bytes, bytes as u64, "{ty}");
            assert!(ty.name().eq_ignore_ascii_case(name), "{ty} {name}");
        }
    }

    #[test]
    fn no_id_that_ggml_knows_is_missing() {
        for id in 0..sys::GGML_TYPE_COUNT {
            // SAFETY: ids below GGML_TYPE_COUNT index ggml's table.
            let known = unsafe { sys::ggml_blck_size(id) } != 0;
            assert_eq!(GgmlType::from_id(id).is_some(), known, "type id {id}");
        }
    }

    #[test]
    fn what_ggml_would_abort_on_is_an_error() {
        let mut out = [0.0; 32];
        assert!(matches!(
            decode(GgmlType::I32, &[0; 128], &mut out),
            Err(Error::NotDecodable { .. })
        ));
        assert!(decode(GgmlType::Q4_0, &[0; 17], &mut out).is_err());
        let mut bytes = [0; 36];
        let rows = [0.0; 32];
        assert!(matches!(
            encode(GgmlType::Q8_1, &rows, 32, None, &mut bytes),
            Err(Error::NotEncodable { .. })
        ));
        assert!(encode(GgmlType::Q4_0, &rows, 16, None, &mut bytes[..18]).is_err());
        assert!(encode(GgmlType::Q4_0, &rows, 32, Some(&[1.0]), &mut bytes[..18]).is_err());
    }

    #[test]
    fn a_slice_that_begins_at_an_odd_address_decodes_the_same() {
        let rows: Vec<f32> = (0..256).map(|i| (i as f32 * 0.37).sin()).collect();
        for ty in [GgmlType::F16, GgmlType::Q4_0, GgmlType::Q8_0, GgmlType::Q4_K, GgmlType::IQ4_XS]
        {
            let n = ty.bytes_for(256).unwrap() as usize;
            let mut bytes = vec![0; n + 1];
            encode(ty, &rows, 256, None, &mut bytes[..n]).unwrap();
            let (mut a, mut b) = (vec![0.0; 256], vec![0.0; 256]);
            decode(ty, &bytes[..n], &mut a).unwrap();
            bytes.rotate_right(1);
            decode(ty, &bytes[1..], &mut b).unwrap();
            assert_eq!(a, b, "{ty}");
        }
    }

    #[test]
    fn importance_changes_the_bytes_of_those_types_that_weigh_errors() {
        let n_cols = 512;
        let row: Vec<f32> = (0..n_cols).map(|i| (i as f32 * 1.7).sin() * 0.1).collect();
        let weights: Vec<f32> = (0..n_cols).map(|i| 1.0 + (i % 7) as f32 * 5.0).collect();
        for &ty in GgmlType::ALL.iter().filter(|ty| is_encodable(**ty)) {
            // Their tables take long to make.
            if needs_importance(ty) {
                assert!(weighs_errors(ty), "{ty}");
                continue;
            }
            let bytes = |importance| {
                let mut out = vec![0; ty.bytes_for(n_cols).unwrap() as usize];
                encode(ty, &row, n_cols as usize, importance, &mut out).unwrap();
                out
            };
            assert_eq!(bytes(None) != bytes(Some(&weights)), weighs_errors(ty), "{ty}");
        }
    }
}
