//! A matrix swept onto a type's grid and its own zeros: what a column loses in rounding, the
//! columns still to come make up for ([`crate::numeric::sweep`]).
//!
//! When a block is reached, ggml chooses its scales for the weights as they are by then; then
//! each column takes the nearest level that these scales have. Types whose blocks are words of a
//! codebook are rounded a block at a time, and the error goes on from block to block. Floats have
//! no grid: their rows are rounded once, at the end.

use rayon::prelude::*;

use super::error::{Error, Result};
use super::levels::Levels;
use super::rows::encode_rows;
use super::zeros::encode_pruned_rows;
use crate::gguf::GgmlType;
use crate::llama;
use crate::numeric::{BAND, Factor, Projection, sweep};

/// Where a matrix may be.
#[derive(Debug, Clone, Copy)]
pub struct Onto<'a> {
    /// The type that it gets.
    pub ty: GgmlType,
    /// How much errors of each column matter, [dim]; above 0.
    pub importance: &'a [f32],
    /// A matrix, [n_rows, dim]: where it is zero the result is zero. None keeps no zeros.
    pub zeros: Option<&'a [f32]>,
}

/// Sweeps `weights`, [n_rows, dim], and encodes them; they are left as they were swept, floats not
/// yet rounded.
///
/// # Errors
/// ggml does not write the type, or rows are no whole blocks.
pub fn onto(weights: &mut [f32], factor: &Factor, constraint: Onto<'_>) -> Result<Vec<u8>> {
    let dim = factor.dim();
    let wrong = || llama::Error::PartialBlock { ty: constraint.ty, n_cols: dim };
    let row_bytes = constraint.ty.bytes_for(dim as u64).ok_or_else(wrong)? as usize;
    let mut bytes = vec![0; weights.len() / dim * row_bytes];
    let tasks = weights.par_chunks_mut(BAND * dim).zip(bytes.par_chunks_mut(BAND * row_bytes));
    tasks.enumerate().try_for_each(|(i, (weights, bytes))| {
        let zeros = constraint.zeros.map(|all| &all[i * BAND * dim..][..weights.len()]);
        let row = |(row, out)| Row::new(constraint, zeros.map(|z| &z[row * dim..][..dim]), out);
        let mut rows: Vec<Row<'_>> =
            bytes.chunks_exact_mut(row_bytes).enumerate().map(row).collect();
        sweep(weights, factor, &mut rows);
        rows.into_iter().try_for_each(|row| row.failed.map_or(Ok(()), Err))
    })?;
    if !constraint.ty.is_quantized() {
        encode_rows(constraint.ty, weights, dim, None, &mut bytes)?;
    }
    Ok(bytes)
}

/// One row under way.
struct Row<'a> {
    constraint: Onto<'a>,
    zeros: Option<&'a [f32]>,
    /// Its bytes; written block by block, none for floats.
    out: &'a mut [u8],
    block_len: usize,
    block_bytes: usize,
    /// The levels of the block under way, and the codes chosen so far.
    levels: Option<Levels>,
    codes: Vec<u8>,
    /// The block under way, where it is rounded as a whole.
    rounded: Vec<f32>,
    failed: Option<Error>,
}

impl<'a> Row<'a> {
    fn new(constraint: Onto<'a>, zeros: Option<&'a [f32]>, out: &'a mut [u8]) -> Row<'a> {
        let layout = constraint.ty.layout();
        let (block_len, block_bytes) = (layout.block_len as usize, layout.block_bytes as usize);
        let (codes, rounded) = (vec![0; block_len], vec![0.0; block_len]);
        let (levels, failed) = (None, None);
        Row { constraint, zeros, out, block_len, block_bytes, levels, codes, rounded, failed }
    }

    fn is_zero(&self, j: usize) -> bool {
        self.zeros.is_some_and(|zeros| zeros[j] == 0.0)
    }

    fn block(&mut self, first: usize) -> &mut [u8] {
        &mut self.out[first / self.block_len * self.block_bytes..][..self.block_bytes]
    }

    /// Chooses the scales of the block that begins at column `first`.
    fn begin(&mut self, first: usize, weights: &[f32]) -> Result<()> {
        let (ty, len) = (self.constraint.ty, self.block_len);
        let mut values = weights[first..first + len].to_vec();
        let masked = (first..first + len).filter(|j| self.is_zero(*j)).count();
        for (i, value) in values.iter_mut().enumerate() {
            *value = if self.is_zero(first + i) { 0.0 } else { *value };
        }
        let matters = Some(&self.constraint.importance[first..first + len]);
        let block = self.block(first);
        match masked {
            0 => llama::encode(ty, &values, len, matters, block)?,
            n => encode_pruned_rows(ty, &values, len, matters, n, block)?,
        }
        let levels = Levels::read(ty, block);
        if levels.is_none() {
            let block = &self.out[first / len * self.block_bytes..][..self.block_bytes];
            llama::decode(ty, block, &mut self.rounded)?;
        }
        self.levels = levels;
        Ok(())
    }
}

impl Projection for Row<'_> {
    fn project(&mut self, j: usize, weights: &[f32]) -> f32 {
        if !self.constraint.ty.is_quantized() {
            return if self.is_zero(j) { 0.0 } else { weights[j] };
        }
        let (first, i) = (j / self.block_len * self.block_len, j % self.block_len);
        if i + 1 == self.block_len
            && let Err(error) = self.begin(first, weights)
        {
            self.failed.get_or_insert(error);
        }
        let wanted = if self.is_zero(j) { 0.0 } else { weights[j] };
        let Some(levels) = &self.levels else { return self.rounded[i] };
        let (code, value) = levels.nearest(i, wanted);
        self.codes[i] = code;
        if i == 0 {
            let codes = std::mem::take(&mut self.codes);
            Levels::write(self.constraint.ty, &codes, self.block(first));
            self.codes = codes;
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numeric::Gram;
    use crate::numeric::testing::random;
    use crate::quant::decode_rows;

    const DIM: usize = 512;
    const ROWS: usize = 150;

    /// Inputs whose channels are alike, so that one can make up for another; [n, DIM].
    fn inputs(n: usize) -> Vec<f32> {
        let (shared, own) = (random(1, n * 8), random(2, n * DIM));
        let mix = random(3, 8 * DIM);
        let value = |t: usize, j: usize| -> f32 {
            let common: f32 = (0..8).map(|k| shared[t * 8 + k] * mix[k * DIM + j]).sum();
            common + 0.3 * own[t * DIM + j]
        };
        (0..n * DIM).map(|at| value(at / DIM, at % DIM)).collect()
    }

    fn output_error(x: &[f32], a: &[f32], b: &[f32]) -> f64 {
        let difference: Vec<f32> = a.iter().zip(b).map(|(a, b)| a - b).collect();
        let missed = crate::numeric::products(x, &difference, DIM);
        missed.iter().map(|e| f64::from(*e).powi(2)).sum()
    }

    fn decoded(ty: GgmlType, bytes: &[u8]) -> Vec<f32> {
        let mut out = vec![0.0; ROWS * DIM];
        decode_rows(ty, bytes, DIM, &mut out).unwrap();
        out
    }

    #[test]
    fn a_swept_matrix_errs_less_than_a_rounded_one_in_every_type() {
        use GgmlType as T;
        let x = inputs(2000);
        let mut gram = Gram::new(DIM);
        gram.add(&x);
        let importance: Vec<f32> = gram.diagonal().iter().map(|g| g + 1.0).collect();
        let mean = importance.iter().sum::<f32>() / DIM as f32;
        let factor = Factor::new(gram, 0.01 * mean).unwrap();
        let w = random(4, ROWS * DIM);
        for ty in [
            T::Q4_0,
            T::Q4_1,
            T::Q5_0,
            T::Q5_1,
            T::Q8_0,
            T::Q2_K,
            T::Q3_K,
            T::Q4_K,
            T::Q5_K,
            T::Q6_K,
            T::IQ4_NL,
            T::IQ4_XS,
            T::MXFP4,
            T::IQ3_XXS,
        ] {
            let mut rounded = vec![0; ty.bytes_for((ROWS * DIM) as u64).unwrap() as usize];
            encode_rows(ty, &w, DIM, Some(&importance), &mut rounded).unwrap();
            let mut swept = w.clone();
            let constraint = Onto { ty, importance: &importance, zeros: None };
            let bytes = onto(&mut swept, &factor, constraint).unwrap();
            let found = decoded(ty, &bytes);
            let off = found.iter().zip(&swept).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off < 1e-4, "{ty}: the bytes mean other numbers, off by {off}");
            let ratio = output_error(&x, &found, &w) / output_error(&x, &decoded(ty, &rounded), &w);
            assert!(ratio < 0.8, "{ty}: {ratio} of the error of rounding");
        }
    }

    #[test]
    fn zeros_stay_zeros_and_the_rest_makes_up_for_them() {
        use GgmlType as T;
        let x = inputs(2000);
        let mut gram = Gram::new(DIM);
        gram.add(&x);
        let importance = gram.diagonal();
        let mean = importance.iter().sum::<f32>() / DIM as f32;
        let factor = Factor::new(gram, 0.01 * mean).unwrap();
        let w = random(4, ROWS * DIM);
        let masked: Vec<f32> = w.iter().map(|w| if w.abs() < 0.5 { 0.0 } else { *w }).collect();
        for ty in [T::F32, T::F16, T::Q8_0, T::Q4_0, T::Q4_1, T::Q5_1, T::Q6_K] {
            let mut swept = w.clone();
            let constraint = Onto { ty, importance: &importance, zeros: Some(&masked) };
            let found = decoded(ty, &onto(&mut swept, &factor, constraint).unwrap());
            assert!(found.iter().zip(&masked).all(|(a, b)| *b != 0.0 || *a == 0.0), "{ty}");
            let ratio = output_error(&x, &found, &w) / output_error(&x, &masked, &w);
            assert!(ratio < 0.5, "{ty}: {ratio} of the error of the mask");
        }
    }
}
