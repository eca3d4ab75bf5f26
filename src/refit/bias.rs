//! The bias after a writer: it absorbs what the writer's matrix misses on average.
//!
//! ```text
//! b' = b_o + mean(Y - W' x)      over the tokens that W' is fitted to, weighted as they are there
//! ```

use super::error::Result;
use super::sums::WriterSums;
use crate::gguf::{GgmlType, Tensor};
use crate::numeric::products;
use crate::quant::{decode_rows, decoded, encoded};

/// A bias with refitted values.
#[derive(Debug)]
pub(super) struct FittedBias {
    pub bytes: Vec<u8>,
    /// Relative error on held-out tokens, with the bias as it was and with this one.
    pub error: (f64, f64),
}

/// The bias after the matrix of `sums`, which has become `matrix`, rows of `ty`; `inputs` and
/// `weights` are of held-out tokens. None where it would be no better, or its type has no room.
pub(super) fn fit_bias(
    (ours, original): (Tensor<'_>, Tensor<'_>),
    (matrix, ty): (&[u8], GgmlType),
    sums: &WriterSums,
    (inputs, weights): (&[f32], &[f32]),
) -> Result<Option<FittedBias>> {
    let (n_out, dim) = (sums.totals.wanted.len(), sums.totals.inputs.len());
    if sums.totals.total <= 0.0 || ours.info.n_elements() != n_out as u64 {
        return Ok(None);
    }
    let mut fitted = vec![0.0; n_out * dim];
    decode_rows(ty, matrix, dim, &mut fitted)?;
    let (old, theirs) = (decoded(ours, 0..1)?, decoded(original, 0..1)?);
    // Y does not include the original's bias.
    let beyond = |bias: &[f32]| -> Vec<f32> {
        bias.iter().zip(&theirs).map(|(bias, theirs)| bias - theirs).collect()
    };
    let mut new = theirs.clone();
    for (row, (bias, wanted)) in
        fitted.chunks_exact(dim).zip(new.iter_mut().zip(&sums.totals.wanted))
    {
        let said: f64 = row.iter().zip(&sums.totals.inputs).map(|(w, x)| f64::from(*w) * x).sum();
        *bias += ((wanted - said) / sums.totals.total) as f32;
    }
    let bytes = encoded(ours.info.ty, &new, n_out)?;
    decode_rows(ours.info.ty, &bytes, n_out, &mut new)?;
    let said = products(inputs, &fitted, dim);
    let missed = |bias: &[f32]| -> f64 {
        let rows = said.chunks_exact(n_out).zip(sums.held_out.chunks_exact(n_out)).zip(weights);
        let of_row = |((said, wanted), weight): ((&[f32], &[f32]), &f32)| -> f64 {
            let off = said.iter().zip(wanted).zip(bias);
            off.map(|((said, wanted), b)| f64::from(said + weight * b - wanted).powi(2)).sum()
        };
        rows.map(of_row).sum()
    };
    let all: f64 = sums.held_out.iter().map(|y| f64::from(*y).powi(2)).sum();
    let error = [missed(&beyond(&old)), missed(&beyond(&new))]
        .map(|m| (m / all.max(f64::MIN_POSITIVE)).sqrt());
    Ok((error[1] < error[0]).then_some(FittedBias { bytes, error: (error[0], error[1]) }))
}
