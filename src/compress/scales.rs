//! AWQ's scales for a whole model: group by group, from statistics; each linear is rounded as the
//! quantizer will round it.

use serde::{Deserialize, Serialize};

use super::awq::{AwqFound, AwqSearch, Linear, Rounding, WeightMeans};
use super::error::{Error, Result};
use super::fold::{Folds, scale_group};
use super::group::Group;
use super::matrices::{matrix_rows, n_matrices};
use super::quantize::{Assignment, Coding};
use crate::gguf::{Error as GgufError, Model, Tensor, Watch};
use crate::quant::decoded_finite;
use crate::stats::{InputStats, Stats};

/// Rows of a matrix that the search rounds at every point of the grid, evenly spread: they rank
/// the points nearly as all rows do.
const MAX_ROWS: u64 = 512;
/// At least so many of each expert: memory must not grow with their number.
const MIN_ROWS: u64 = 16;

/// What the search found for one group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupReport {
    /// See [`Group::name`].
    pub name: String,
    /// `a`, the exponent of the scales.
    pub exponent: f64,
    /// Error of the layers' outputs with these scales, relative to the one without.
    pub relative_loss: f64,
}

/// Scales of every group, entered into `folds`. Left out are groups of which no linear is
/// quantized, whose experts saw no token, or about which the statistics hold nothing.
///
/// # Errors
/// A loss is not finite, or an interrupt.
pub fn find_scales(
    model: &Model,
    stats: &Stats,
    groups: &[Group],
    assignments: &[Assignment],
    folds: &mut Folds,
    watch: &dyn Watch,
) -> Result<Vec<GroupReport>> {
    watch.stage("scales", groups.len() as u64);
    let mut reports = Vec::new();
    for group in groups {
        if watch.interrupted() {
            return Err(GgufError::Interrupted.into());
        }
        if let Some(found) = search_group(model, stats, group, assignments)? {
            reports.push(GroupReport {
                name: group.name.clone(),
                exponent: found.exponent(),
                relative_loss: found.loss / found.identity_loss.max(f64::MIN_POSITIVE),
            });
            if !found.is_identity() {
                scale_group(folds, group, &found.best.scales)?;
            }
        }
        watch.advance(1);
    }
    Ok(reports)
}

fn search_group(
    model: &Model,
    stats: &Stats,
    group: &Group,
    assignments: &[Assignment],
) -> Result<Option<AwqFound>> {
    let Ok(input) = stats.input(&group.input) else { return Ok(None) };
    // Scales that suit the inputs of one linear and not those of another would only do harm.
    let unknown =
        |a: &Assignment| group.linears.contains(&a.name) && !stats.inputs.contains_key(&a.name);
    if assignments.iter().any(unknown) {
        return Ok(None);
    }
    let expert = group.expert.map_or(0, |e| e.index);
    let Some(mut mean_abs) = mean_size(input, expert) else { return Ok(None) };
    group.tie(&mut mean_abs);
    let rows = sampled(model, stats, group, assignments, input.counts[expert])?;
    if rows.is_empty() {
        return Ok(None);
    }
    let mut means = WeightMeans::new(group.n_in);
    rows.iter().for_each(|r| means.add(&r.rows, r.rounding.group_len()));
    let mut means = means.means();
    group.tie(&mut means);
    let mut search = AwqSearch::new(&group.name, &mean_abs, Some(&means))?;
    for SampledRows { rows, mean_sq, rounding } in &rows {
        search.add(&Linear { rows, mean_sq, rounding: *rounding })?;
    }
    search.best().map(Some)
}

/// `E|x|`, or its upper bound `sqrt(E[x^2])` where a file of another tool has no such sums.
fn mean_size(input: &InputStats, expert: usize) -> Option<Vec<f32>> {
    let root = || Some(input.mean_square(expert)?.iter().map(|x| x.sqrt()).collect());
    input.mean_abs(expert).or_else(root)
}

struct SampledRows {
    rows: Vec<f32>,
    mean_sq: Vec<f32>,
    rounding: Rounding,
}

/// Rows of every matrix of the group that will be rounded; each expert's inputs weigh as many as
/// the tokens that it saw, of `n_tokens`.
fn sampled(
    model: &Model,
    stats: &Stats,
    group: &Group,
    assignments: &[Assignment],
    n_tokens: u64,
) -> Result<Vec<SampledRows>> {
    let mut all = Vec::new();
    for name in &group.linears {
        let assignment = assignments.iter().find(|a| a.name == *name);
        let (Some(tensor), Some(assignment)) = (model.tensor(name), assignment) else { continue };
        let rounding = match assignment.coding {
            Coding::Faithful { scheme, .. } => Rounding::Faithful(scheme),
            _ => Rounding::Ggml(assignment.to),
        };
        let input = stats.input(name)?;
        let only = group.expert.map(|e| e.index);
        for matrix in (0..n_matrices(tensor.info)).filter(|m| only.is_none_or(|o| o == *m)) {
            let share = input.counts.get(matrix).map_or(0.0, |n| *n as f64 / n_tokens as f64);
            let Some(mut mean_sq) = input.mean_square(matrix) else { continue };
            if mean_sq.len() != group.n_in {
                return Err(Error::NoMeans { name: name.clone() });
            }
            mean_sq.iter_mut().for_each(|x| *x = (f64::from(*x) * share) as f32);
            all.push(SampledRows { rows: spread_rows(tensor, matrix)?, mean_sq, rounding });
        }
    }
    Ok(all)
}

/// At most [`MAX_ROWS`] rows of a tensor's matrices together, evenly spread over this one.
fn spread_rows(tensor: Tensor<'_>, matrix: usize) -> Result<Vec<f32>> {
    let rows = matrix_rows(tensor.info, matrix);
    let n_rows = rows.end - rows.start;
    let most = (MAX_ROWS / n_matrices(tensor.info).max(1) as u64).max(MIN_ROWS);
    let step = n_rows.div_ceil(most).max(1);
    let mut values = Vec::new();
    for row in rows.step_by(step as usize) {
        values.extend(decoded_finite(tensor, row..row + 1)?);
    }
    Ok(values)
}
