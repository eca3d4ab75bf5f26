//! A matrix swept onto a type's grid and its own zeros: the columns still to come compensate for
//! what a column loses in rounding ([`crate::numeric::sweep`]).
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

/// What a matrix may become.
#[derive(Clone, Copy)]
pub struct Onto<'a> {
    /// The type that it gets.
    pub ty: GgmlType,
    /// How much errors of each column matter, `[dim]`; above 0.
    pub importance: &'a [f32],
    /// Which columns of each row become zero.
    pub mask: Mask<'a>,
}

/// Which columns of a row become zero.
#[derive(Clone, Copy)]
pub enum Mask<'a> {
    /// Those that round to zero.
    Free,
    /// Those that are zero in this matrix, `[n_rows, dim]`.
    Zeros(&'a [f32]),
    /// Those that matter least when a run of columns is reached.
    Least(&'a dyn ZeroChooser),
}

/// Chooses what becomes zero of a run of columns.
pub trait ZeroChooser: Sync {
    /// Columns that are chosen among together.
    fn run_len(&self) -> usize;
    /// Zeroes the weights of one row that matter least in a run, which begins at column `first`;
    /// `scores` hold how much each column matters.
    fn zero(&self, first: usize, weights: &mut [f32], scores: &[f32]);
}

/// Sweeps `weights`, `[n_rows, dim]`, and encodes them; they are left as they were swept, floats
/// not yet rounded.
///
/// # Errors
/// ggml cannot write the type, or a row is not a whole number of blocks.
pub fn onto(weights: &mut [f32], factor: &Factor, constraint: Onto<'_>) -> Result<Vec<u8>> {
    let dim = factor.dim();
    let wrong = || llama::Error::PartialBlock { ty: constraint.ty, n_cols: dim };
    let row_bytes = constraint.ty.bytes_for(dim as u64).ok_or_else(wrong)? as usize;
    let mut bytes = vec![0; weights.len() / dim * row_bytes];
    let inverse: Vec<f32> = (0..dim).map(|j| factor.row(j)[j]).collect();
    let tasks = weights.par_chunks_mut(BAND * dim).zip(bytes.par_chunks_mut(BAND * row_bytes));
    tasks.enumerate().try_for_each(|(i, (weights, bytes))| {
        let row = |(row, out)| {
            let zeros = match constraint.mask {
                Mask::Zeros(all) => RowZeros::Given(&all[(i * BAND + row) * dim..][..dim]),
                Mask::Least(least) => RowZeros::Least(least, &inverse, vec![false; dim]),
                Mask::Free => RowZeros::None,
            };
            SweptRow::new(constraint, zeros, out)
        };
        let mut rows: Vec<SweptRow<'_>> =
            bytes.chunks_exact_mut(row_bytes).enumerate().map(row).collect();
        sweep(weights, factor, &mut rows);
        rows.into_iter().try_for_each(|row| row.failed.map_or(Ok(()), Err))
    })?;
    if !constraint.ty.is_quantized() {
        encode_rows(constraint.ty, weights, dim, None, &mut bytes)?;
    }
    Ok(bytes)
}

/// The columns of one row that become zero.
enum RowZeros<'a> {
    None,
    /// Zeros of the row before the sweep.
    Given(&'a [f32]),
    /// M_jj of each column, and those chosen so far.
    Least(&'a dyn ZeroChooser, &'a [f32], Vec<bool>),
}

/// Least common multiple.
fn common_multiple(a: usize, b: usize) -> usize {
    let (mut divisor, mut rest) = (a, b);
    while rest > 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    a / divisor.max(1) * b
}

/// The sweep of one row.
struct SweptRow<'a> {
    constraint: Onto<'a>,
    zeros: RowZeros<'a>,
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

impl<'a> SweptRow<'a> {
    fn new(constraint: Onto<'a>, zeros: RowZeros<'a>, out: &'a mut [u8]) -> SweptRow<'a> {
        let layout = constraint.ty.layout();
        let (block_len, block_bytes) = (layout.block_len as usize, layout.block_bytes as usize);
        let (codes, rounded) = (vec![0; block_len], vec![0.0; block_len]);
        let (levels, failed) = (None, None);
        SweptRow { constraint, zeros, out, block_len, block_bytes, levels, codes, rounded, failed }
    }

    fn is_zero(&self, j: usize) -> bool {
        match &self.zeros {
            RowZeros::None => false,
            RowZeros::Given(zeros) => zeros[j] == 0.0,
            RowZeros::Least(.., mask) => mask[j],
        }
    }

    /// At column `j` that ends a run of columns to choose among, chooses the zeros: what matters
    /// least is what costs least, `(w_j / M_jj)^2`, if the columns before it compensate (SparseGPT,
    /// arXiv 2301.00774, equation 5). A type's block lies in one run, because its scale is chosen
    /// once.
    fn choose(&mut self, j: usize, weights: &[f32]) {
        let RowZeros::Least(least, inverse, mask) = &mut self.zeros else { return };
        let run = least.run_len();
        let len = common_multiple(run, self.block_len);
        if !(j + 1).is_multiple_of(len) && j + 1 != weights.len() {
            return;
        }
        let first = j / len * len;
        for at in (first..=j).step_by(run) {
            let at = at..(at + run).min(j + 1);
            let mut kept = weights[at.clone()].to_vec();
            let score = |(w, m): (&f32, &f32)| (w / m).powi(2);
            let scores: Vec<f32> = kept.iter().zip(&inverse[at.clone()]).map(score).collect();
            least.zero(at.start, &mut kept, &scores);
            mask[at].iter_mut().zip(&kept).for_each(|(mask, w)| *mask = *w == 0.0);
        }
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

impl Projection for SweptRow<'_> {
    fn project(&mut self, j: usize, weights: &[f32]) -> f32 {
        self.choose(j, weights);
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
    use crate::numeric::testing::{gram, random};
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

    /// Inputs, the sums of their squares, and the factor of their Gram matrix.
    fn surroundings() -> (Vec<f32>, Vec<f32>, Factor) {
        let x = inputs(2000);
        let mut gram = Gram::new(DIM);
        gram.add(&x);
        let importance = gram.diagonal();
        let mean = importance.iter().sum::<f32>() / DIM as f32;
        (x, importance, Factor::new(gram, 0.01 * mean).unwrap())
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
            let constraint = Onto { ty, importance: &importance, mask: Mask::Free };
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
        let (x, importance, factor) = surroundings();
        let w = random(4, ROWS * DIM);
        let masked: Vec<f32> = w.iter().map(|w| if w.abs() < 0.5 { 0.0 } else { *w }).collect();
        for ty in [T::F32, T::F16, T::Q8_0, T::Q4_0, T::Q4_1, T::Q5_1, T::Q6_K] {
            let mut swept = w.clone();
            let mask = Mask::Zeros(&masked);
            let constraint = Onto { ty, importance: &importance, mask };
            let found = decoded(ty, &onto(&mut swept, &factor, constraint).unwrap());
            assert!(found.iter().zip(&masked).all(|(a, b)| *b != 0.0 || *a == 0.0), "{ty}");
            let ratio = output_error(&x, &found, &w) / output_error(&x, &masked, &w);
            assert!(ratio < 0.5, "{ty}: {ratio} of the error of the mask");
        }
    }

    /// The two of each four that score lowest.
    struct TwoOfFour;

    impl ZeroChooser for TwoOfFour {
        fn run_len(&self) -> usize {
            4
        }

        fn zero(&self, _: usize, weights: &mut [f32], scores: &[f32]) {
            let mut order: Vec<usize> = (0..weights.len()).collect();
            order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
            order[..2].iter().for_each(|&i| weights[i] = 0.0);
        }
    }

    /// SparseGPT's loop for 2:4 as the paper has it, in f64 and from the last column.
    fn sparse_gpt(w: &[f32], h: &[f64], dim: usize) -> Vec<f64> {
        use crate::numeric::testing::inverse;
        // What is left of the inverse when each column is reached: Gauss elimination.
        let mut left = inverse(h, dim);
        let mut rows = vec![Vec::new(); dim];
        for j in (0..dim).rev() {
            let row: Vec<f64> = (0..dim).map(|k| left[j * dim + k]).collect();
            for a in 0..j {
                (0..j).for_each(|b| left[a * dim + b] -= row[a] * row[b] / row[j]);
            }
            rows[j] = row;
        }
        let mut w: Vec<f64> = w.iter().map(|x| f64::from(*x)).collect();
        let mut zero = vec![false; dim];
        for j in (0..dim).rev() {
            if (j + 1).is_multiple_of(4) {
                let score = |k: usize| w[k].powi(2) / rows[k][k];
                let mut order: Vec<usize> = (j - 3..=j).collect();
                order.sort_by(|&a, &b| score(a).total_cmp(&score(b)));
                order[..2].iter().for_each(|&k| zero[k] = true);
            }
            if zero[j] {
                let error = w[j] / rows[j][j];
                (0..j).for_each(|k| w[k] -= error * rows[j][k]);
                w[j] = 0.0;
            }
        }
        w
    }

    #[test]
    fn zeros_that_are_chosen_on_the_way_are_those_of_the_papers_loop_in_f64() {
        let (dim, n) = (128, 400);
        let ridge = 5.0;
        let (gram, h) = gram(&random(8, n * dim), dim, ridge);
        let factor = Factor::new(gram, ridge).unwrap();
        let importance = vec![1.0; dim];
        let w = random(9, 3 * dim);
        let mut swept = w.clone();
        let (ty, mask) = (GgmlType::F32, Mask::Least(&TwoOfFour));
        onto(&mut swept, &factor, Onto { ty, importance: &importance, mask }).unwrap();
        for (found, w) in swept.chunks(dim).zip(w.chunks(dim)) {
            let expected = sparse_gpt(w, &h, dim);
            for (i, (a, b)) in found.iter().zip(&expected).enumerate() {
                assert!((f64::from(*a) - b).abs() < 1e-4, "column {i}: {a} {b}");
            }
        }
    }

    #[test]
    fn a_block_and_a_run_share_their_least_multiple() {
        for (a, b, expected) in [(128, 256, 256), (4, 256, 256), (12, 32, 96), (128, 1, 128)] {
            assert_eq!(common_multiple(a, b), expected);
        }
    }

    #[test]
    fn zeros_are_chosen_before_a_blocks_scale() {
        let (x, importance, factor) = surroundings();
        let w = random(4, ROWS * DIM);
        for ty in [GgmlType::F16, GgmlType::Q8_0, GgmlType::Q4_0, GgmlType::Q6_K] {
            let mut swept = w.clone();
            let constraint = Onto { ty, importance: &importance, mask: Mask::Least(&TwoOfFour) };
            let found = decoded(ty, &onto(&mut swept, &factor, constraint).unwrap());
            let zeros = |run: &[f32]| run.iter().filter(|w| **w == 0.0).count();
            assert!(found.chunks(4).all(|run| zeros(run) >= 2), "{ty}");
            // Zeroing the smallest, and nothing made up for.
            let mut plain = w.clone();
            plain.chunks_mut(4).for_each(|run| {
                TwoOfFour.zero(0, run, &run.to_vec().iter().map(|w| w * w).collect::<Vec<_>>())
            });
            let ratio = output_error(&x, &found, &w) / output_error(&x, &plain, &w);
            assert!(ratio < 0.5, "{ty}: {ratio}");
        }
    }
}
