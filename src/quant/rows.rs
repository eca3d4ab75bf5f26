//! Rows of any type to f32 and back, in parallel. Every row is worked on by itself, so results
//! do not depend on the number of threads.

use std::ops::Range;

use rayon::prelude::*;

use super::error::Result;
use crate::gguf::{GgmlType, Tensor};
use crate::llama;

/// Elements per task: small enough to share work, large enough to hide the cost of a task.
const ELEMENTS_PER_TASK: usize = 64 << 10;

/// Decodes rows of `n_cols` elements: `bytes` of `ty` into `out`, `[n_rows, n_cols]`.
///
/// # Errors
/// The type cannot be decoded or lengths disagree: see [`llama::decode`].
pub fn decode_rows(ty: GgmlType, bytes: &[u8], n_cols: usize, out: &mut [f32]) -> Result<()> {
    let (cols, row_bytes) = task_size(ty, n_cols)?;
    if bytes.len() as u64 != ty.bytes_for(out.len() as u64).unwrap_or(0) || row_bytes == 0 {
        return Ok(llama::decode(ty, bytes, out)?);
    }
    let tasks = bytes.par_chunks(row_bytes).zip(out.par_chunks_mut(cols));
    Ok(tasks.try_for_each(|(bytes, out)| llama::decode(ty, bytes, out))?)
}

/// `rows` of a tensor as numbers, `[n_rows, n_cols]`.
///
/// # Errors
/// The type cannot be decoded.
pub fn decoded(tensor: Tensor<'_>, rows: Range<u64>) -> Result<Vec<f32>> {
    let n_cols = tensor.info.n_cols() as usize;
    let mut values = vec![0.0; (rows.end - rows.start) as usize * n_cols];
    decode_rows(tensor.info.ty, tensor.rows(rows), n_cols, &mut values)?;
    Ok(values)
}

/// Encodes rows of `n_cols` elements, `[n_rows, n_cols]`, into the bytes of `ty`; `importance`
/// holds a weight a column, or nothing.
///
/// # Errors
/// The type cannot be encoded or lengths disagree: see [`llama::encode`].
pub fn encode_rows(
    ty: GgmlType,
    rows: &[f32],
    n_cols: usize,
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Result<()> {
    let (cols, row_bytes) = task_size(ty, n_cols)?;
    if out.len() as u64 != ty.bytes_for(rows.len() as u64).unwrap_or(0) || row_bytes == 0 {
        return Ok(llama::encode(ty, rows, n_cols, importance, out)?);
    }
    let tasks = rows.par_chunks(cols).zip(out.par_chunks_mut(row_bytes));
    Ok(tasks.try_for_each(|(rows, out)| llama::encode(ty, rows, n_cols, importance, out))?)
}

/// The bytes of `ty` that rows of `n_cols` elements, `[n_rows, n_cols]`, are.
///
/// # Errors
/// See [`encode_rows`].
pub fn encoded(ty: GgmlType, rows: &[f32], n_cols: usize) -> Result<Vec<u8>> {
    let row_bytes = ty.bytes_for(n_cols as u64).unwrap_or(0) as usize;
    let mut bytes = vec![0; row_bytes * (rows.len() / n_cols)];
    encode_rows(ty, rows, n_cols, None, &mut bytes)?;
    Ok(bytes)
}

/// Elements and bytes of the whole rows that a task takes; 0 bytes if a row is not whole blocks.
fn task_size(ty: GgmlType, n_cols: usize) -> Result<(usize, usize)> {
    let n_rows = (ELEMENTS_PER_TASK / n_cols.max(1)).max(1);
    let row_bytes = ty.bytes_for(n_cols as u64).unwrap_or(0) as usize;
    Ok((n_rows * n_cols.max(1), n_rows * row_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llama::{is_decodable, is_encodable};

    fn wave(n: usize) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * 0.7).sin() * (1.0 + (i % 13) as f32)).collect()
    }

    fn round_trip(ty: GgmlType, rows: &[f32], n_cols: usize) -> (Vec<u8>, Vec<f32>) {
        let mut bytes = vec![0; ty.bytes_for(rows.len() as u64).unwrap() as usize];
        encode_rows(ty, rows, n_cols, None, &mut bytes).unwrap();
        let mut back = vec![0.0; rows.len()];
        decode_rows(ty, &bytes, n_cols, &mut back).unwrap();
        (bytes, back)
    }

    #[test]
    fn every_type_that_ggml_writes_comes_back_close() {
        // Few rows: ggml searches grids for the IQ types, slowly.
        let rows = wave(256 * 40);
        for &ty in GgmlType::ALL.iter().filter(|&&t| is_encodable(t)) {
            assert!(is_decodable(ty), "{ty}");
            let (_, back) = round_trip(ty, &rows, 256);
            let error: f64 = rows.iter().zip(&back).map(|(a, b)| f64::from(a - b).powi(2)).sum();
            let size: f64 = rows.iter().map(|a| f64::from(*a).powi(2)).sum();
            assert!((error / size).sqrt() < 0.7, "{ty}: {}", (error / size).sqrt());
        }
    }

    #[test]
    fn bytes_do_not_depend_on_the_number_of_threads() {
        let rows = wave(256 * 700);
        for ty in [GgmlType::Q4_K, GgmlType::Q6_K, GgmlType::IQ4_XS, GgmlType::Q8_0] {
            let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
            let four = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
            let a = alone.install(|| round_trip(ty, &rows, 256));
            let b = four.install(|| round_trip(ty, &rows, 256));
            assert_eq!(a, b, "{ty}");
            let mut whole = vec![0; a.0.len()];
            llama::encode(ty, &rows, 256, None, &mut whole).unwrap();
            assert_eq!(a.0, whole, "{ty}: chunks make a difference");
        }
    }
}
