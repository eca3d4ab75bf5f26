//! LLM.int8()'s weights: one scale a row, SCB = absmax, in bitsandbytes' own arithmetic.
//!
//! ```text
//! q = rint(f32(w_f16) * (f32(1 / SCB) * 127))       w = q * SCB / 127
//! block_q8_0:  | d: f16 | 32 x i8 |                 d = f16(SCB / 127), the same all along the row
//! ```
//! Source: arXiv 2208.07339 and bitsandbytes' `int8_vectorwise_quant`, which keeps ALL columns as
//! integers and takes outlier columns from them at run time: nothing more is stored.

use half::f16;
use rayon::prelude::*;

use super::error::{Error, Result};
use crate::gguf::GgmlType;

/// Largest `|x|` of an input channel from which bitsandbytes computes it in f16.
pub const OUTLIER_THRESHOLD: f32 = 6.0;

/// `block_q8_0` of ggml-common.h.
const BLOCK_LEN: usize = 32;
const BLOCK_BYTES: usize = 34;
const _: () = {
    let layout = GgmlType::Q8_0.layout();
    assert!(layout.block_len as usize == BLOCK_LEN && layout.block_bytes as usize == BLOCK_BYTES);
};

/// Integers of one row, and its SCB. The row is rounded to f16 first, because bitsandbytes gets it
/// so. A row of zeros has SCB 0; NaN becomes 0 in the integers.
pub fn quantize_row(row: &[f32], ints: &mut [i8]) -> f32 {
    let half = |w: &f32| f16::from_f32(*w).to_f32();
    let absmax = row.iter().map(|w| half(w).abs()).fold(0.0, f32::max);
    if absmax == 0.0 {
        ints.fill(0);
        return 0.0;
    }
    let factor = (1.0 / absmax) * 127.0;
    ints.iter_mut().zip(row).for_each(|(q, w)| *q = (half(w) * factor).round_ties_even() as i8);
    absmax
}

/// Encodes rows, `[n_rows, n_cols]`, as Q8_0 blocks with one d per row. A non-finite value in a row
/// makes its d non-finite: check the bytes with `first_non_finite`.
///
/// # Errors
/// A row is not a whole number of blocks, or `out` has another length than the result.
pub fn encode(rows: &[f32], n_cols: usize, out: &mut [u8]) -> Result<()> {
    if n_cols == 0 || !n_cols.is_multiple_of(BLOCK_LEN) {
        return Err(Error::Width { n_cols, len: BLOCK_LEN });
    }
    let row_bytes = n_cols / BLOCK_LEN * BLOCK_BYTES;
    let expected = rows.len() / n_cols * row_bytes;
    if !rows.len().is_multiple_of(n_cols) || out.len() != expected {
        return Err(Error::Length { what: "bytes of Q8_0", found: out.len(), expected });
    }
    let rows = rows.par_chunks_exact(n_cols).zip(out.par_chunks_exact_mut(row_bytes));
    rows.for_each_init(
        || vec![0i8; n_cols],
        |ints, (row, out)| {
            let scb = match row.iter().all(|w| f16::from_f32(*w).is_finite()) {
                true => quantize_row(row, ints),
                false => f32::NAN,
            };
            let d = f16::from_f32(scb / 127.0).to_le_bytes();
            let blocks = out.chunks_exact_mut(BLOCK_BYTES).zip(ints.chunks_exact(BLOCK_LEN));
            for (block, ints) in blocks {
                block[..2].copy_from_slice(&d);
                block[2..].iter_mut().zip(ints).for_each(|(byte, q)| *byte = q.cast_unsigned());
            }
        },
    );
    Ok(())
}

/// Input channels that bitsandbytes would compute in f16, from the largest `|x|` of each.
pub fn outlier_columns(max_abs: &[f32]) -> Vec<usize> {
    (0..max_abs.len()).filter(|&j| max_abs[j] >= OUTLIER_THRESHOLD).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::compress::golden::Golden;
    use crate::quant::{decode_rows, first_non_finite};

    #[test]
    fn integers_scales_and_bytes_are_the_references() {
        let golden = Golden::open("int8");
        let (weight, n_cols) = (golden.f16("weight"), golden.shape("weight")[1]);
        let (ints, scb) = (golden.i8("ints"), golden.f32("scb"));
        for (i, row) in weight.chunks(n_cols).enumerate() {
            let mut found = vec![0; n_cols];
            assert_eq!(quantize_row(row, &mut found), scb[i], "row {i}");
            assert_eq!(found, ints[i * n_cols..][..n_cols], "row {i}");
        }
        let expected = golden.u8("q8_0");
        let mut bytes = vec![0; expected.len()];
        encode(&weight, n_cols, &mut bytes).unwrap();
        assert!(bytes == expected);
    }

    #[test]
    fn outliers_begin_at_six() {
        assert_eq!(outlier_columns(&[5.9, 6.0, 0.0, f32::NAN, 70.0]), [1, 4]);
    }

    #[test]
    fn what_does_not_fit_is_an_error_and_what_is_no_number_shows() {
        assert!(matches!(encode(&[0.0; 48], 48, &mut [0; 51]), Err(Error::Width { .. })));
        assert!(matches!(encode(&[0.0; 32], 32, &mut [0; 33]), Err(Error::Length { .. })));
        for bad in [f32::NAN, f32::INFINITY, 1e6] {
            let mut row = [0.5f32; 64];
            row[40] = bad;
            let mut bytes = [0; 68];
            encode(&row, 64, &mut bytes).unwrap();
            assert!(first_non_finite(GgmlType::Q8_0, &bytes, 64).unwrap().is_some(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_weight_comes_back_within_half_a_step(
            row in prop::collection::vec(-4f32..4.0, 64)
        ) {
            let mut bytes = [0; 68];
            encode(&row, 64, &mut bytes).unwrap();
            let mut back = [0f32; 64];
            decode_rows(GgmlType::Q8_0, &bytes, 64, &mut back).unwrap();
            let step = row.iter().map(|w| w.abs()).fold(0.0, f32::max) / 127.0;
            // Half a step, f16's rounding of w and of d.
            let slack = step * 0.5 + 4.0 * 2e-3;
            prop_assert!(row.iter().zip(back).all(|(a, b)| (a - b).abs() <= slack));
        }
    }
}
