//! Direction-preserving rounding: `W + alpha v u^T W` in a type so coarse that rounding each weight
//! by itself would undo the edit.
//!
//! ```text
//! g   = u^T W                     what the matrix writes along u, by input channel
//! t_i = W_i + alpha v_i g         the row that is wanted
//! q_i = Q(t_i - p u_i / S_i)      with the error so far along u taken along
//! p  += u_i (q_i - t_i)           S_i: sum of u^2 over the rows not yet done, this one included
//! ```
//! u and v are both the direction r, or their equivalents before gains. Rows go in ascending
//! `|u_i|`: the last ones can absorb the rest in few steps of their grid. Blocks lie within rows,
//! so chunks of columns are rounded independently, in parallel, always the same ones: results do
//! not depend on threads. Errors are carried in f64.
//!
//! A pruned matrix keeps its zeros, unless they are to be filled: column j then changes on its
//! support S_j only, by `alpha v_i g_j / sum over S_j of u v`, which is the same along u.
//!
//! Rows whose part of the edit is smaller than the noise of rounding them again keep their bytes;
//! the other rows carry their share, which is at most [`KEPT_SHARE`] of the edit. Blocks of
//! k-quants keep their scales if the new values fit them ([`round_to_grid`]).

use std::ops::Range;

use rayon::prelude::*;

use super::error::Result;
use super::grid::round_to_grid;
use super::zeros::{PRUNED_SHARE, encode_pruned_rows};
use crate::gguf::{GgmlType, Tensor};
use crate::llama;

/// Columns worked on together: the longest block.
const CHUNK: usize = 256;
/// Chunks decoded in memory at once; enough for many threads.
const CHUNKS_AT_ONCE: usize = 16;
/// Part of `|r|^2` that rows which keep their bytes may hold in total.
const KEPT_SHARE: f64 = 0.05;
/// Every so many rows the mean of two is rounded, to measure how coarse the type is.
const SAMPLED: usize = 64;

/// The least of u . v that a column's support may hold: with less, a column of few weights would
/// be changed beyond its own size.
const LEAST_SUPPORT: f64 = 0.05;

/// What becomes of the zeros of a pruned matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zeros {
    /// They stay: the rest of a column takes the whole of its edit.
    Keep,
    /// The edit fills them, as in the paper.
    Fill,
}

/// The vectors of an edit, on the outputs' side: `W + alpha write read^T W`, read . write = 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Along {
    /// u, of length 1: the part along it is strengthened.
    pub read: Vec<f32>,
    /// v: the direction of what is added.
    pub write: Vec<f32>,
}

impl Along {
    /// Both are `unit`, of length 1.
    pub fn same(unit: &[f32]) -> Along {
        Along { read: unit.to_vec(), write: unit.to_vec() }
    }
}

/// A matrix that was edited and rounded.
#[derive(Debug, Clone, PartialEq)]
pub struct Strengthened {
    /// Its rows in the type that was asked for.
    pub bytes: Vec<u8>,
    /// `<u^T dW, u^T W> / |u^T W|^2`: the alpha after rounding. NaN where `u^T W` is zero.
    pub realised_alpha: f64,
    /// `|u^T W|^2`: what the alpha is relative to.
    pub written: f64,
    /// `|W' - (W + alpha v u^T W)| / |W|`, Frobenius: what rounding added.
    pub noise: f64,
    /// The same of rounding weights of this matrix that lie on no grid: the type's own coarseness.
    pub own_noise: f64,
    /// True if it was pruned and its zeros are where they were.
    pub keeps_zeros: bool,
}

/// `W + alpha v u^T W` as `ty`, of the rows `rows` of a tensor: one matrix W, `[n_rows, n_cols]`; u
/// and v, `[n_rows]`, are those of `along`. A matrix that was pruned keeps its zeros or is filled.
///
/// # Errors
/// A type that ggml does not decode or write, or rows that do not fit it.
///
/// # Panics
/// `along` has another length than `rows`.
pub fn strengthen(
    tensor: Tensor<'_>,
    rows: Range<u64>,
    along: &Along,
    alpha: f64,
    (ty, zeros): (GgmlType, Zeros),
) -> Result<Strengthened> {
    let n_rows = (rows.end - rows.start) as usize;
    let lens = (along.read.len(), along.write.len());
    assert_eq!(lens, (n_rows, n_rows), "an element of u and of v for every row");
    let n_cols = tensor.info.n_cols() as usize;
    let (from, bytes) = (tensor.info.ty, tensor.rows(rows));
    let matrix = EditedMatrix { from, to: ty, n_cols, bytes, along, alpha };
    let starts = (0..n_cols).step_by(CHUNK);
    let chunks: Vec<Range<usize>> = starts.map(|at| at..n_cols.min(at + CHUNK)).collect();
    let surveys = chunks.par_iter().map(|cols| matrix.survey(cols));
    let mut sums = NoiseSums::default();
    surveys.collect::<Result<Vec<NoiseSums>>>()?.iter().for_each(|part| sums.add(part));
    let order = RowOrder::new(along, matrix.keepable_square(&sums));
    let keeps_zeros = zeros == Zeros::Keep && sums.is_pruned();
    let row_bytes = ty.bytes_for(n_cols as u64).unwrap_or(0) as usize;
    let mut bytes = vec![0; n_rows * row_bytes];
    let mut at = 0;
    for chunks in chunks.chunks(CHUNKS_AT_ONCE) {
        let parts = chunks.par_iter().map(|cols| matrix.round(cols, &order, keeps_zeros));
        for part in parts.collect::<Result<Vec<RoundedChunk>>>()? {
            let len = part.bytes.len() / n_rows.max(1);
            let rows =
                bytes.chunks_exact_mut(row_bytes.max(1)).zip(part.bytes.chunks_exact(len.max(1)));
            rows.for_each(|(row, new)| row[at..at + len].copy_from_slice(new));
            at += len;
            sums.add(&part.sums);
        }
    }
    // A matrix of zeros has no noise.
    let part = |of: f64, all: f64| if all > 0.0 { (of / all).sqrt() } else { of.sqrt() };
    Ok(Strengthened {
        bytes,
        realised_alpha: sums.along / sums.gg,
        written: sums.gg,
        noise: part(sums.noise, sums.ww),
        own_noise: part(sums.own_noise, sums.sampled),
        keeps_zeros,
    })
}

/// Rows by ascending `|u_i|`.
struct RowOrder {
    /// Row numbers, in this order.
    rows: Vec<usize>,
    /// Sum of u^2 from each of them on.
    left: Vec<f64>,
    /// How many of the first keep their bytes.
    n_kept: usize,
}

impl RowOrder {
    /// Rows with v^2 of no more than `keepable` may keep their bytes.
    fn new(Along { read, write }: &Along, keepable: f64) -> RowOrder {
        let mut rows: Vec<usize> = (0..read.len()).collect();
        rows.sort_by(|&a, &b| read[a].abs().total_cmp(&read[b].abs()).then(a.cmp(&b)));
        let square = |x: f32| f64::from(x).powi(2);
        let mut left = vec![0.0; rows.len()];
        let mut sum = 0.0;
        for (place, &row) in rows.iter().enumerate().rev() {
            sum += square(read[row]);
            left[place] = sum;
        }
        // Their share of u . v, which is 1.
        let mut share = 0.0;
        let is_kept = |row: &&usize| {
            share += f64::from(read[**row]) * f64::from(write[**row]);
            square(write[**row]) <= keepable && share <= KEPT_SHARE
        };
        let n_kept = rows.iter().take_while(is_kept).count();
        RowOrder { rows, left, n_kept }
    }
}

struct EditedMatrix<'a> {
    from: GgmlType,
    to: GgmlType,
    n_cols: usize,
    bytes: &'a [u8],
    along: &'a Along,
    alpha: f64,
}

/// Sums over the elements of some columns.
#[derive(Debug, Clone, Copy, Default)]
struct NoiseSums {
    /// `<u^T dW, g>`.
    along: f64,
    /// `|g|^2`.
    gg: f64,
    /// `|W|^2`.
    ww: f64,
    /// `|W' - T|^2`.
    noise: f64,
    /// Of the sampled rows: `|Q(x) - x|^2` and `|x|^2`.
    own_noise: f64,
    sampled: f64,
    /// Zeros and elements, of the matrix and of the sampled rows once they are rounded.
    zeros: [f64; 2],
    elements: [f64; 2],
}

impl NoiseSums {
    /// True if more of the matrix is zero than rounding made zero.
    fn is_pruned(&self) -> bool {
        let [part, rounded] = [0, 1].map(|i| self.zeros[i] / self.elements[i].max(1.0));
        part - rounded > PRUNED_SHARE
    }

    fn add(&mut self, other: &NoiseSums) {
        self.along += other.along;
        self.gg += other.gg;
        self.ww += other.ww;
        self.noise += other.noise;
        self.own_noise += other.own_noise;
        self.sampled += other.sampled;
        for i in 0..2 {
            self.zeros[i] += other.zeros[i];
            self.elements[i] += other.elements[i];
        }
    }
}

fn n_zeros(values: &[f32]) -> f64 {
    values.iter().filter(|w| **w == 0.0).count() as f64
}

/// What columns write along u, and how much of u . v lies where they are not zero.
struct Columns {
    g: Vec<f64>,
    support: Vec<f64>,
}

/// A chunk of columns, all rows of it.
struct RoundedChunk {
    /// Row by row.
    bytes: Vec<u8>,
    sums: NoiseSums,
}

impl EditedMatrix<'_> {
    /// `|W|^2`, `|g|^2` and the type's own noise, of some columns.
    fn survey(&self, cols: &Range<usize>) -> Result<NoiseSums> {
        let (weights, Columns { g, .. }) = self.weights(cols)?;
        let mut sums = NoiseSums { gg: g.iter().map(|g| g * g).sum(), ..NoiseSums::default() };
        let mut squares = vec![0f64; cols.len()];
        for row in weights.chunks_exact(cols.len()) {
            squares.iter_mut().zip(row).for_each(|(square, w)| *square += f64::from(*w).powi(2));
        }
        sums.ww = squares.iter().sum();
        (sums.zeros[0], sums.elements[0]) = (n_zeros(&weights), weights.len() as f64);
        self.sample(&weights, cols.len(), &mut sums)?;
        Ok(sums)
    }

    /// v^2 of rows that the edit changes by less than rounding them again would; below 0 if no row
    /// may keep its bytes.
    fn keepable_square(&self, sums: &NoiseSums) -> f64 {
        if self.from != self.to || !self.to.is_quantized() || sums.sampled <= 0.0 {
            return -1.0;
        }
        let row_noise = sums.own_noise / sums.sampled * sums.ww / self.along.read.len() as f64;
        let change = self.alpha * self.alpha * sums.gg;
        if change > 0.0 { row_noise / change } else { f64::INFINITY }
    }

    /// Some columns, `[n_rows, width]`, and what they write along u.
    fn weights(&self, cols: &Range<usize>) -> Result<(Vec<f32>, Columns)> {
        let width = cols.len();
        let mut weights = vec![0f32; self.along.read.len() * width];
        let (mut g, mut support) = (vec![0f64; width], vec![0f64; width]);
        for (row, values) in weights.chunks_exact_mut(width).enumerate() {
            llama::decode(self.from, self.row_bytes(row, cols), values)?;
            let u = f64::from(self.along.read[row]);
            let share = u * f64::from(self.along.write[row]);
            for ((g, support), w) in g.iter_mut().zip(&mut support).zip(&*values) {
                *g += u * f64::from(*w);
                *support += if *w == 0.0 { 0.0 } else { share };
            }
        }
        Ok((weights, Columns { g, support }))
    }

    fn round(
        &self,
        cols: &Range<usize>,
        order: &RowOrder,
        keeps_zeros: bool,
    ) -> Result<RoundedChunk> {
        let (n_rows, width) = (self.along.read.len(), cols.len());
        let (weights, Columns { g, support }) = self.weights(cols)?;
        // The factor on the edit of each weight that is not zero, and whether a weight is kept
        // zero.
        let takes: Vec<f64> = match keeps_zeros {
            true => support.iter().map(|s| 1.0 / s.max(LEAST_SUPPORT)).collect(),
            false => vec![1.0; width],
        };
        let stays = |w: f32| !keeps_zeros || w != 0.0;
        let len = self.to.bytes_for(width as u64).unwrap_or(0) as usize;
        let mut part = RoundedChunk { bytes: vec![0; n_rows * len], sums: NoiseSums::default() };
        let (mut error, mut targets) = (vec![0f64; width], vec![0f64; width]);
        let (mut wanted, mut found) = (vec![0f32; width], vec![0f32; width]);
        // Sums by column, which compilers can do side by side.
        let (mut noise, mut along) = (vec![0f64; width], vec![0f64; width]);
        for (place, &row) in order.rows.iter().enumerate() {
            let (u, values) = (f64::from(self.along.read[row]), &weights[row * width..][..width]);
            let strength = self.alpha * f64::from(self.along.write[row]);
            for (j, t) in targets.iter_mut().enumerate() {
                let change = if stays(values[j]) { strength * takes[j] * g[j] } else { 0.0 };
                *t = f64::from(values[j]) + change;
            }
            let out = &mut part.bytes[row * len..(row + 1) * len];
            let block = self.row_bytes(row, cols);
            if place < order.n_kept {
                out.copy_from_slice(block);
                found.copy_from_slice(values);
            } else {
                let left = order.left[place];
                // The rows left must move by -error along u. The smallest such change gives each
                // row u_i / S_i of it, which is all of it, since the sum of u_i^2 / S_i is 1. The
                // error of a row's own rounding goes to the rows after it. F32 needs none of this.
                let carried = if left > 0.0 && self.to != GgmlType::F32 { u / left } else { 0.0 };
                for (j, x) in wanted.iter_mut().enumerate() {
                    let moved = (targets[j] - error[j] * carried) as f32;
                    *x = if stays(values[j]) { moved } else { 0.0 };
                }
                if self.from != self.to || !round_to_grid(self.to, block, &wanted, out) {
                    match keeps_zeros {
                        true => encode_pruned_rows(self.to, &wanted, width, None, 1, out)?,
                        false => llama::encode(self.to, &wanted, width, None, out)?,
                    }
                }
                llama::decode(self.to, out, &mut found)?;
            }
            for j in 0..width {
                let (x, w) = (f64::from(found[j]), f64::from(values[j]));
                let missed = x - targets[j];
                error[j] += u * missed;
                noise[j] += missed * missed;
                along[j] += u * (x - w);
            }
        }
        part.sums.noise = noise.iter().sum();
        part.sums.along = along.iter().zip(&g).map(|(along, g)| along * g).sum();
        Ok(part)
    }

    /// Rounds the mean of two rows here and there: as large as a row, but on no grid.
    fn sample(&self, weights: &[f32], width: usize, sums: &mut NoiseSums) -> Result<()> {
        let mut bytes = vec![0; self.to.bytes_for(width as u64).unwrap_or(0) as usize];
        let (mut mixed, mut back) = (vec![0f32; width], vec![0f32; width]);
        for rows in weights.chunks_exact(2 * width).step_by(SAMPLED / 2) {
            let (a, b) = rows.split_at(width);
            let pairs = mixed.iter_mut().zip(a.iter().zip(b));
            pairs.for_each(|(x, (a, b))| *x = (a + b) * std::f32::consts::FRAC_1_SQRT_2);
            llama::encode(self.to, &mixed, width, None, &mut bytes)?;
            llama::decode(self.to, &bytes, &mut back)?;
            sums.zeros[1] += n_zeros(&back);
            sums.elements[1] += back.len() as f64;
            for (x, q) in mixed.iter().zip(&back) {
                sums.own_noise += (f64::from(*q) - f64::from(*x)).powi(2);
                sums.sampled += f64::from(*x).powi(2);
            }
        }
        Ok(())
    }

    fn row_bytes(&self, row: usize, cols: &Range<usize>) -> &[u8] {
        let bytes = |n: usize| self.from.bytes_for(n as u64).unwrap_or(0) as usize;
        let start = row * bytes(self.n_cols) + bytes(cols.start);
        &self.bytes[start..start + bytes(cols.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::{Builder, Model};
    use crate::quant::encode_rows;

    const N: usize = 512;

    /// A model with one matrix of `ty`, [N, N], and the random weights that were rounded into it.
    fn model(ty: GgmlType, folder: &std::path::Path) -> Model {
        let mut state = 1u64;
        let mut uniform = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        // Nearly normal: sums of four.
        let values: Vec<f32> =
            (0..N * N).map(|_| uniform() + uniform() + uniform() + uniform()).collect();
        let mut bytes = vec![0; ty.bytes_for((N * N) as u64).unwrap() as usize];
        encode_rows(ty, &values, N, None, &mut bytes).unwrap();
        let mut file = Builder::new();
        file.kv("general.architecture", "llama");
        let name = "blk.0.ffn_down.weight";
        file.tensor(name, &[N as u64, N as u64], ty, bytes).unwrap();
        let path = folder.join("model.gguf");
        file.write(&path).unwrap();
        Model::open(&path).unwrap()
    }

    /// Spread over all rows, or most of it on a few.
    fn direction(concentrated: bool) -> Vec<f32> {
        let size = |i: usize| if concentrated && i % 50 != 7 { 0.02 } else { 1.0 };
        let raw: Vec<f64> = (0..N).map(|i| (i as f64 * 1.7).sin() * size(i)).collect();
        let length = raw.iter().map(|x| x * x).sum::<f64>().sqrt();
        raw.iter().map(|x| (x / length) as f32).collect()
    }

    fn run(ty: GgmlType, to: GgmlType, r: &[f32], alpha: f64) -> Strengthened {
        let folder = tempfile::tempdir().unwrap();
        let model = model(ty, folder.path());
        let tensor = model.tensors().next().unwrap();
        strengthen(tensor, 0..N as u64, &Along::same(r), alpha, (to, Zeros::Fill)).unwrap()
    }

    #[test]
    fn the_edit_survives_in_every_type() {
        use GgmlType as T;
        let tight = [
            T::F16,
            T::BF16,
            T::Q8_0,
            T::Q6_K,
            T::Q5_K,
            T::Q4_K,
            T::Q4_0,
            T::Q4_1,
            T::Q5_0,
            T::Q5_1,
            T::IQ4_NL,
            T::IQ4_XS,
        ];
        let loose = [T::Q3_K, T::Q2_K];
        let all = tight.map(|ty| (ty, 0.05)).into_iter().chain(loose.map(|ty| (ty, 0.10)));
        for (ty, tolerance) in all {
            for (concentrated, alpha) in [(false, 0.5), (false, 3.0), (true, 1.0)] {
                let found = run(ty, ty, &direction(concentrated), alpha);
                let off = (found.realised_alpha / alpha - 1.0).abs();
                assert!(off < tolerance, "{ty} {concentrated} {alpha}: off by {off}");
                let ratio = found.noise / found.own_noise;
                assert!(ratio < 1.35, "{ty} {concentrated} {alpha}: noise {ratio}");
            }
        }
    }

    #[test]
    fn an_f32_matrix_gets_the_formula() {
        let r = direction(false);
        let folder = tempfile::tempdir().unwrap();
        let model = model(GgmlType::F32, folder.path());
        let tensor = model.tensors().next().unwrap();
        let before = crate::quant::decoded(tensor, 0..N as u64).unwrap();
        let found =
            strengthen(tensor, 0..N as u64, &Along::same(&r), 2.0, (GgmlType::F32, Zeros::Fill))
                .unwrap();
        let mut g = vec![0f64; N];
        for (row, r) in before.chunks(N).zip(&r) {
            g.iter_mut().zip(row).for_each(|(g, w)| *g += f64::from(*r) * f64::from(*w));
        }
        for (i, bytes) in found.bytes.chunks(4 * N).enumerate() {
            for (j, b) in bytes.as_chunks::<4>().0.iter().enumerate() {
                let exact = f64::from(before[i * N + j]) + 2.0 * f64::from(r[i]) * g[j];
                assert_eq!(f32::from_le_bytes(*b), exact as f32, "{i} {j}");
            }
        }
    }

    #[test]
    fn rows_with_nothing_of_the_direction_keep_their_bytes() {
        let mut r = vec![0f32; N];
        (r[3], r[100]) = (0.6, -0.8);
        let folder = tempfile::tempdir().unwrap();
        let model = model(GgmlType::Q4_K, folder.path());
        let tensor = model.tensors().next().unwrap();
        let found =
            strengthen(tensor, 0..N as u64, &Along::same(&r), 1.0, (GgmlType::Q4_K, Zeros::Fill))
                .unwrap();
        let row_bytes = found.bytes.len() / N;
        for row in 0..N {
            let range = row * row_bytes..(row + 1) * row_bytes;
            let same = found.bytes[range] == *tensor.rows(row as u64..row as u64 + 1);
            assert_eq!(same, row != 3 && row != 100, "row {row}");
        }
    }

    #[test]
    fn a_pruned_matrix_keeps_its_zeros_and_gets_the_whole_edit() {
        for ty in [GgmlType::F16, GgmlType::Q8_0, GgmlType::Q4_0, GgmlType::Q4_1, GgmlType::Q6_K] {
            let folder = tempfile::tempdir().unwrap();
            let dense = model(GgmlType::F32, folder.path());
            let dense =
                crate::quant::decoded(dense.tensors().next().unwrap(), 0..N as u64).unwrap();
            // Two of each four.
            let pruned: Vec<f32> = dense
                .iter()
                .enumerate()
                .map(|(i, w)| if (i + 5 * (i / N)) * 7 % 4 < 2 { 0.0 } else { *w })
                .collect();
            let mut bytes = vec![0; ty.bytes_for((N * N) as u64).unwrap() as usize];
            encode_pruned_rows(ty, &pruned, N, None, 1, &mut bytes).unwrap();
            let mut file = Builder::new();
            file.kv("general.architecture", "llama");
            file.tensor("blk.0.ffn_down.weight", &[N as u64, N as u64], ty, bytes).unwrap();
            let path = folder.path().join("pruned.gguf");
            file.write(&path).unwrap();
            let file = Model::open(&path).unwrap();
            let tensor = file.tensors().next().unwrap();
            let before = crate::quant::decoded(tensor, 0..N as u64).unwrap();
            let along = Along::same(&direction(false));
            let run = |zeros| strengthen(tensor, 0..N as u64, &along, 1.0, (ty, zeros)).unwrap();
            let kept = run(Zeros::Keep);
            assert!(kept.keeps_zeros, "{ty}");
            assert!((kept.realised_alpha - 1.0).abs() < 0.03, "{ty}: {}", kept.realised_alpha);
            let mut after = vec![0f32; N * N];
            crate::quant::decode_rows(ty, &kept.bytes, N, &mut after).unwrap();
            assert!(before.iter().zip(&after).all(|(b, a)| *b != 0.0 || *a == 0.0), "{ty}");
            assert!(!run(Zeros::Fill).keeps_zeros);
        }
        // What rounding made zero is not pruning.
        let folder = tempfile::tempdir().unwrap();
        let dense = model(GgmlType::Q4_0, folder.path());
        let (tensor, along) = (dense.tensors().next().unwrap(), Along::same(&direction(false)));
        let kept = (GgmlType::Q4_0, Zeros::Keep);
        let dense = strengthen(tensor, 0..N as u64, &along, 1.0, kept).unwrap();
        assert!(!dense.keeps_zeros);
    }

    #[test]
    fn plain_rounding_would_lose_most_of_it() {
        // What this file is for: the same edit, rounded weight by weight.
        let r = direction(false);
        let folder = tempfile::tempdir().unwrap();
        let model = model(GgmlType::Q4_0, folder.path());
        let tensor = model.tensors().next().unwrap();
        let exact =
            strengthen(tensor, 0..N as u64, &Along::same(&r), 1.0, (GgmlType::F32, Zeros::Fill))
                .unwrap();
        let words = exact.bytes.as_chunks::<4>().0.iter();
        let target: Vec<f32> = words.map(|b| f32::from_le_bytes(*b)).collect();
        let before = crate::quant::decoded(tensor, 0..N as u64).unwrap();
        let mut bytes = vec![0; tensor.data().len()];
        encode_rows(GgmlType::Q4_0, &target, N, None, &mut bytes).unwrap();
        let mut after = vec![0f32; N * N];
        crate::quant::decode_rows(GgmlType::Q4_0, &bytes, N, &mut after).unwrap();
        let dot = |a: &dyn Fn(usize) -> f64, b: &dyn Fn(usize) -> f64| -> f64 {
            (0..N * N).map(|i| a(i) * b(i)).sum()
        };
        let change = |i: usize| f64::from(target[i]) - f64::from(before[i]);
        let kept = |i: usize| f64::from(after[i]) - f64::from(before[i]);
        let realised = dot(&kept, &change) / dot(&change, &change);
        assert!(realised < 0.7, "{realised}");
    }

    #[test]
    fn bytes_do_not_depend_on_the_number_of_threads() {
        let r = direction(false);
        let pool = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
        let run = || run(GgmlType::Q4_K, GgmlType::Q4_K, &r, 1.0);
        assert_eq!(pool(1).install(run), pool(4).install(run));
    }
}
