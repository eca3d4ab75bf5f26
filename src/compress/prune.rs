//! Prunes a model: which matrices, how much of each, and their new rows, a chunk at a time.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::allocation::{ScoreMean, count_outliers, owl};
use super::error::Result;
use super::mask::{Pattern, prune_rows};
use super::matrices::{by_matrix, make_rows, matrix_rows, n_matrices};
use super::score::{Score, add_column_sums, input_norms};
use super::threshold::{HighCounts, threshold_rank, zero_up_to};
use super::types::{check_type, fitting};
use crate::gguf::{
    Ask, BoxError, GgmlType, Model, Replacement, Rewrite, Tensor, TensorInfo, Unwatched, Watch,
};
use crate::quant::{
    decode_finite, decoded_finite, encode_pruned_rows, fold_range, is_block_matrix, zeros_in,
};
use crate::stats::Stats;

/// How weights are scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// By absolute value, against one threshold per matrix.
    Magnitude,
    /// By absolute value times input, within a row.
    Wanda,
    /// By relative value times the root of the input, within a row.
    Ria,
}

/// A matrix to prune.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Name of the tensor, e.g. `blk.0.ffn_down.weight`.
    pub name: String,
    /// Type in the input file.
    pub from: GgmlType,
    /// Type in the output file.
    pub to: GgmlType,
    /// How much of it.
    pub pattern: Pattern,
}

/// Zeros and elements that were written, counted after decoding.
#[derive(Debug, Default)]
pub struct Count {
    zeros: AtomicU64,
    elements: AtomicU64,
}

impl Count {
    /// Counts what a tensor holds.
    ///
    /// # Errors
    /// ggml cannot decode its type.
    pub fn add(&self, tensor: Tensor<'_>) -> Result<()> {
        let info = tensor.info;
        let zeros: u64 = zeros_in(info.ty, tensor.data(), info.n_cols() as usize)?;
        self.zeros.fetch_add(zeros, Ordering::Relaxed);
        self.elements.fetch_add(info.n_cols() * info.n_rows(), Ordering::Relaxed);
        Ok(())
    }

    /// Part of the pruned matrices' elements that are zero; 0 if there are no elements.
    pub fn sparsity(&self) -> f64 {
        let n = self.elements.load(Ordering::Relaxed);
        self.zeros.load(Ordering::Relaxed) as f64 / n.max(1) as f64
    }
}

impl Method {
    /// True if it needs statistics.
    pub fn needs_stats(self) -> bool {
        self != Method::Magnitude
    }
}

/// The linear layers of `model`'s blocks that `wanted` accepts, with `pattern` by block. Each gets
/// `ty`; without one floats keep their type, and quantized ones get F16.
///
/// # Errors
/// A pattern does not fit a matrix.
pub fn targets(
    model: &Model,
    ty: Option<GgmlType>,
    pattern: impl Fn(u32) -> Pattern,
    wanted: impl Fn(&TensorInfo) -> bool,
) -> Result<Vec<Target>> {
    let mut targets = Vec::new();
    for Tensor { info, .. } in model.tensors() {
        let Some(block) = info.block().filter(|_| is_block_matrix(info) && wanted(info)) else {
            continue;
        };
        let pattern = pattern(block);
        // OWL may leave a block dense.
        if pattern == Pattern::Ratio(0.0) {
            continue;
        }
        pattern.n_zeros(info.n_cols() as usize)?;
        let own = if info.ty.is_quantized() { GgmlType::F16 } else { info.ty };
        let to = fitting(info, ty.unwrap_or(own));
        check_type(to, false)?;
        targets.push(Target { name: info.name.clone(), from: info.ty, to, pattern });
    }
    Ok(targets)
}

/// Registers the pruning of `targets` in `rewrite`; `count` counts what is written.
///
/// # Errors
/// Statistics that a method needs are missing.
pub fn prune<'m>(
    rewrite: &mut Rewrite<'m>,
    model: &'m Model,
    stats: Option<&Stats>,
    method: Method,
    targets: &[Target],
    count: &Arc<Count>,
) -> Result<()> {
    for target in targets {
        let Some(tensor) = model.tensor(&target.name) else { continue };
        let norms = norms(tensor.info, stats, method)?;
        let count = Arc::clone(count);
        let pruner = Pruner { tensor, method, norms, pattern: target.pattern, matrix: None };
        rewrite.replace(&target.name, pruner.replacement(target.to, count))?;
    }
    Ok(())
}

/// OWL's pattern of each block: by the share of Wanda's scores that are outliers, among the
/// matrices that `wanted` accepts.
///
/// # Errors
/// No statistics of a matrix, a sparsity outside (0, 1), or an interrupt.
pub fn owl_allocation(
    model: &Model,
    stats: &Stats,
    sparsity: f64,
    n_block: usize,
    wanted: impl Fn(&TensorInfo) -> bool,
    watch: &dyn Watch,
) -> Result<Vec<f64>> {
    let mut shares = Vec::new();
    for block in 0..n_block {
        let of_block = |t: &Tensor<'_>| t.info.block() == Some(block as u32);
        let is_target = |t: &Tensor<'_>| is_block_matrix(t.info) && wanted(t.info);
        let matrices = || model.tensors().filter(of_block).filter(is_target);
        let mut mean = ScoreMean::default();
        for tensor in matrices() {
            scan_scores(tensor, stats, watch, ScoreMean::default, ScoreMean::add, |part| {
                mean.merge(part);
            })?;
        }
        let limit = mean.outlier_limit();
        let mut outliers = 0u64;
        for tensor in matrices() {
            let add = |n: &mut u64, scores: &[f32]| *n += count_outliers(scores, limit);
            scan_scores(tensor, stats, watch, || 0, add, |part| outliers += part)?;
        }
        shares.push(outliers as f64 / mean.n().max(1) as f64);
    }
    owl(sparsity, &shares)
}

/// Passes all of a tensor's Wanda scores to `add`, in parallel; `fold` gets the results in order.
fn scan_scores<T: Send>(
    tensor: Tensor<'_>,
    stats: &Stats,
    watch: &dyn Watch,
    new: impl Fn() -> T + Sync,
    add: impl Fn(&mut T, &[f32]) + Sync,
    mut fold: impl FnMut(T),
) -> Result<()> {
    let info = tensor.info;
    let norms = norms(info, Some(stats), Method::Wanda)?;
    for (expert, norms) in norms.iter().enumerate() {
        let score = norms.as_deref().map_or(Score::Magnitude, |norms| Score::Wanda { norms });
        let part = |rows: Range<u64>| {
            let values = decoded_finite(tensor, rows)?;
            let mut scores = vec![0.0; info.n_cols() as usize];
            let mut part = new();
            for row in values.chunks_exact(info.n_cols() as usize) {
                score.fill(row, &mut scores);
                add(&mut part, &scores);
            }
            Ok(part)
        };
        fold_range(info, matrix_rows(info, expert), 0, watch, part, &mut fold)?;
    }
    Ok(())
}

/// Norms of the input channels of each matrix in a tensor; None for experts that no token reached
/// and for magnitude.
fn norms(
    info: &TensorInfo,
    stats: Option<&Stats>,
    method: Method,
) -> Result<Vec<Option<Vec<f32>>>> {
    let n_matrices = n_matrices(info);
    let (Some(stats), true) = (stats, method.needs_stats()) else {
        return Ok(vec![None; n_matrices]);
    };
    let input = stats.input(&info.name)?;
    let of_expert = |expert: usize| {
        let sums = &input.sum2[expert * input.n_cols..(expert + 1) * input.n_cols];
        let sums: Vec<f32> = sums.iter().map(|s| *s as f32).collect();
        input_norms(&sums, input.counts[expert] as f64).filter(|_| input.saw_rows(expert))
    };
    Ok((0..n_matrices).map(of_expert).collect())
}

/// Prunes one tensor, rows in order.
struct Pruner<'m> {
    tensor: Tensor<'m>,
    method: Method,
    /// Norms of the input channels, one entry per matrix.
    norms: Vec<Option<Vec<f32>>>,
    pattern: Pattern,
    /// What must be known of all rows of the current matrix.
    matrix: Option<(usize, MatrixSummary)>,
}

/// What a method needs of a whole matrix before its first row.
enum MatrixSummary {
    /// Magnitude's threshold.
    Threshold(f32),
    /// RIA's column sums.
    ColumnSums(Vec<f64>),
    Nothing,
}

impl<'m> Pruner<'m> {
    fn replacement(mut self, ty: GgmlType, count: Arc<Count>) -> Replacement<'m> {
        let produce = move |rows: Range<u64>, out: &mut [u8]| {
            self.produce(ty, rows, out, &count).map_err(BoxError::from)
        };
        Replacement { ty, ask: Ask::Chunks, produce: Box::new(produce) }
    }

    /// `rows`, which may belong to several matrices, pruned and encoded.
    fn produce(
        &mut self,
        ty: GgmlType,
        rows: Range<u64>,
        out: &mut [u8],
        count: &Count,
    ) -> Result<()> {
        let info = self.tensor.info;
        let (n_cols, row_bytes) = (info.n_cols() as usize, info.row_bytes_as(ty).unwrap_or(0));
        for (matrix, part) in by_matrix(info, rows.clone()) {
            self.summarize(matrix)?;
            let place = |row: u64| ((row - rows.start) * row_bytes) as usize;
            let out = &mut out[place(part.start)..place(part.end)];
            let make = |rows: Range<u64>, values: &mut [f32], out: &mut [u8]| {
                decode_finite(self.tensor, rows, values)?;
                self.prune_matrix(matrix, values)?;
                encode_pruned_rows(ty, values, n_cols, None, 1, out)?;
                Ok(zeros_in(ty, out, n_cols)?)
            };
            let n_elements = (part.end - part.start) * n_cols as u64;
            let zeros: u64 = make_rows(info, ty, part, out, make)?.into_iter().sum();
            count.zeros.fetch_add(zeros, Ordering::Relaxed);
            count.elements.fetch_add(n_elements, Ordering::Relaxed);
        }
        Ok(())
    }

    fn prune_matrix(&self, matrix: usize, values: &mut [f32]) -> Result<()> {
        let n_cols = self.tensor.info.n_cols() as usize;
        let norms = self.norms[matrix].as_deref();
        let score = match (norms, self.matrix.as_ref().map(|(_, whole)| whole)) {
            (_, Some(MatrixSummary::Threshold(threshold))) => {
                zero_up_to(values, *threshold);
                return Ok(());
            }
            (Some(norms), Some(MatrixSummary::ColumnSums(column_sums))) => {
                Score::Ria { norms, column_sums }
            }
            (Some(norms), _) => Score::Wanda { norms },
            (None, _) => Score::Magnitude,
        };
        prune_rows(values, n_cols, score, self.pattern)
    }

    /// Summarizes a matrix, if the method needs to know all of it.
    fn summarize(&mut self, matrix: usize) -> Result<()> {
        if self.matrix.as_ref().is_some_and(|(under_way, _)| *under_way == matrix) {
            return Ok(());
        }
        let seen = self.norms[matrix].is_some();
        let whole = match (self.method, self.pattern) {
            (Method::Magnitude, Pattern::Ratio(ratio)) => {
                MatrixSummary::Threshold(self.threshold(matrix, ratio)?)
            }
            (Method::Ria, _) if seen => MatrixSummary::ColumnSums(self.column_sums(matrix)?),
            _ => MatrixSummary::Nothing,
        };
        self.matrix = Some((matrix, whole));
        Ok(())
    }

    fn threshold(&self, matrix: usize, ratio: f64) -> Result<f32> {
        let (tensor, info) = (self.tensor, self.tensor.info);
        let rows = matrix_rows(info, matrix);
        let mut high = HighCounts::default();
        let count = |rows| {
            let mut part = HighCounts::default();
            part.add(&decoded_finite(tensor, rows)?);
            Ok(part)
        };
        fold_range(info, rows.clone(), 0, &Unwatched, count, |part| high.merge(&part))?;
        let n = (rows.end - rows.start) * info.n_cols();
        let Some(mut low) = high.narrow(threshold_rank(n, ratio)) else { return Ok(0.0) };
        let empty = low.clone();
        let count = |rows| {
            let mut part = empty.clone();
            part.add(&decoded_finite(tensor, rows)?);
            Ok(part)
        };
        fold_range(info, rows, 0, &Unwatched, count, |part| low.merge(&part))?;
        Ok(low.threshold().unwrap_or(0.0))
    }

    fn column_sums(&self, matrix: usize) -> Result<Vec<f64>> {
        let (tensor, info) = (self.tensor, self.tensor.info);
        let mut sums = vec![0.0; info.n_cols() as usize];
        let part = |rows| {
            let mut part = vec![0.0; info.n_cols() as usize];
            add_column_sums(&decoded_finite(tensor, rows)?, &mut part);
            Ok(part)
        };
        fold_range(info, matrix_rows(info, matrix), 0, &Unwatched, part, |part: Vec<f64>| {
            sums.iter_mut().zip(&part).for_each(|(a, b)| *a += b);
        })?;
        Ok(sums)
    }
}
