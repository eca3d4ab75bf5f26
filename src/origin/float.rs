//! Float tensors: each value by itself is a rounding of its original, or not.

use std::ops::Range;

use super::recode::Subject;
use crate::gguf::{GgmlType, Watch};
use crate::quant::{Result, fold_rows};

/// The most by which rounding to the type moves a value: as a part of it, and beside that.
fn rounding(ty: GgmlType) -> (f64, f64) {
    match ty {
        // 11 bits of significand; the least step is 2^-24.
        GgmlType::F16 => (2f64.powi(-11), 2f64.powi(-25)),
        // 8 bits.
        GgmlType::BF16 => (2f64.powi(-8), 0.0),
        _ => (2f64.powi(-24), 0.0),
    }
}

/// The largest distance from the original, in parts of what rounding to both types allows: above 1
/// a value is no rounding. Infinite where a value is not a number.
///
/// # Errors
/// Rows cannot be decoded, an interrupt.
pub(super) fn farthest(subject: &Subject<'_>, watch: &dyn Watch) -> Result<f64> {
    let info = subject.tensor.info;
    let (a, b) = (rounding(info.ty), rounding(subject.original.info.ty));
    let (part_of, beside) = (a.0 + b.0, a.1 + b.1);
    let far = |(x, y): (&f32, &f32)| {
        let (x, y) = (f64::from(*x), f64::from(*y));
        let far = (y - x).abs() / (x.abs().max(y.abs()) * part_of + beside);
        match far.is_finite() {
            _ if x == y => 0.0,
            true => far,
            false => f64::INFINITY,
        }
    };
    let part = |rows: Range<u64>| {
        let wanted = subject.wanted(rows.clone())?;
        let values = subject.decoded(info.ty, subject.tensor.rows(rows))?;
        Ok(wanted.iter().zip(&values).map(far).fold(0.0, f64::max))
    };
    let mut most = 0f64;
    fold_rows(info, 0, watch, part, |far| most = most.max(far))?;
    Ok(most)
}
