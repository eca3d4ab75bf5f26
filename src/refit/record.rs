//! Records the activations of the original's block, on all calibration texts.

use std::collections::HashMap;
use std::hash::Hash;
use std::path::Path;

use super::error::Result;
use super::expert_inputs::ExpertInputs;
use super::forward::{Activations, Forward, ReadRequest};
use super::job::Towards;
use super::model_pass::BlockPosition;
use super::rows::Rows;
use super::texts::{Batch, Texts};
use crate::llama::Engine;
use crate::llama::graph::{Group, Reader, Structure};
use crate::numeric::{dot, relative_error};

/// Greatest relative difference between writers' outputs and the stream's gain for which drift is
/// passed on: with a norm or a router in between, they differ more.
const SAME: f64 = 0.03;

/// A matrix that writes into the residual stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct WriterSite {
    /// Its place among the structure's writers.
    pub output: usize,
    /// The point that its product is added to.
    pub before: usize,
}

/// The writer that the matrix `name` is, if it is one.
pub(super) fn writer_of(structure: &Structure, name: &str) -> Option<WriterSite> {
    let output = structure.writers().position(|writer| writer.tensor == name)?;
    let of = |point: &usize| structure.outputs_of(*point).contains(&output);
    let point = (0..structure.points.len()).find(of)?;
    Some(WriterSite { output, before: point.checked_sub(1)? })
}

/// The activations of the original's block.
#[derive(Default)]
pub(super) struct BlockRecord {
    /// Inputs by matrix.
    pub inputs: HashMap<String, Rows>,
    /// Inputs of experts, by the first stack of a group.
    pub routed: HashMap<String, ExpertInputs>,
    /// Outputs by writer.
    outputs: HashMap<usize, Rows>,
    /// The residual stream by point.
    points: HashMap<usize, Rows>,
    /// By writer, the factor between its output and the stream's gain; none where that is not
    /// linear.
    gains: HashMap<usize, f32>,
}

impl BlockRecord {
    /// Runs all texts through the block: `entering` becomes the rows that leave it.
    pub(super) fn new(
        (engine, structure): (&Engine, &Structure),
        (position, groups): (&BlockPosition, &[&Group]),
        texts: &Texts,
        entering: &mut Rows,
        (towards, folder): (Towards, &Path),
    ) -> Result<BlockRecord> {
        let mut request = ReadRequest { last: position.after.clone(), ..ReadRequest::default() };
        let mut points = vec![position.exit];
        for group in groups {
            let dense = || group.matrices.iter().filter(|m| !m.experts);
            let written_at = |m: &Reader| writer_of(structure, &m.tensor);
            let writers: Vec<WriterSite> = dense().filter_map(written_at).collect();
            let all = group.matrices.iter().filter_map(written_at);
            points.extend(all.flat_map(|w| [w.before, w.before + 1]));
            let leader = dense().next().filter(|_| dense().count() > writers.len());
            if let Towards::Original { .. } = towards {
                request.inputs.extend(leader.map(|m| m.tensor.clone()));
                request.outputs.extend(writers.iter().map(|w| w.output));
                let experts = group.matrices.iter().find(|m| m.experts);
                request.routed.extend(experts.map(|m| m.tensor.clone()));
            }
        }
        points.sort_unstable();
        points.dedup();
        request.points = points;
        let mut record = BlockRecord::default();
        let mut forward = Forward::new(engine, position.entry)?;
        for batch in &texts.batches {
            let rows = entering.read(batch.rows.clone())?;
            let seen = forward.read(batch, &rows, &request)?;
            if record.gains.is_empty() {
                record.gains = gains(structure, &seen, batch.rows.len());
            }
            entering.write(batch.rows.start, &seen.points[&position.exit])?;
            let Activations { inputs, routed, outputs, points } = seen;
            let all = (texts.n_rows(), folder);
            for (name, seen) in routed {
                let mut kept = record.routed.remove(&name);
                ExpertInputs::add(&mut kept, seen, (batch, all.0), folder)?;
                record.routed.extend(kept.map(|kept| (name, kept)));
            }
            keep(&mut record.inputs, inputs, batch, all)?;
            keep(&mut record.outputs, outputs, batch, all)?;
            keep(&mut record.points, points, batch, all)?;
        }
        Ok(record)
    }

    /// The weight of each row of a batch for a writer: 1 / rms of the stream that it adds to. The
    /// norm that reads the stream divides by the same, so that an error counts relative to its row.
    /// Without weights, the few tokens whose rows are a thousand times as long would decide
    /// everything.
    pub(super) fn weights(&mut self, writer: WriterSite, batch: &Batch) -> Result<Vec<f32>> {
        let Some(after) = self.points.get_mut(&(writer.before + 1)) else {
            return Ok(vec![1.0; batch.rows.len()]);
        };
        let rows = after.read(batch.rows.clone())?;
        let width = rows.len() / batch.rows.len().max(1);
        let rms = |row: &[f32]| (row.iter().map(|x| x * x).sum::<f32>() / width as f32).sqrt();
        Ok(rows.chunks_exact(width).map(|row| 1.0 / rms(row).max(f32::MIN_POSITIVE)).collect())
    }

    /// Y and drift of a writer on one batch: the output of the original's writer, and what the
    /// stream has lost before it, `ours` being the stream there.
    pub(super) fn wanted(
        &mut self,
        writer: WriterSite,
        batch: &Batch,
        ours: Option<&Vec<f32>>,
    ) -> Result<Vec<f32>> {
        let rows = batch.rows.clone();
        let Some(outputs) = self.outputs.get_mut(&writer.output) else { return Ok(Vec::new()) };
        let mut wanted = outputs.read(rows.clone())?;
        let gain = self.gains.get(&writer.output);
        if let (Some(gain), Some(theirs), Some(ours)) =
            (gain, self.points.get_mut(&writer.before), ours)
        {
            let theirs = theirs.read(rows)?;
            let drift = theirs.iter().zip(ours).map(|(a, b)| (a - b) / gain);
            wanted.iter_mut().zip(drift).for_each(|(y, d)| *y += d);
        }
        Ok(wanted)
    }
}

fn keep<K: Eq + Hash>(
    kept: &mut HashMap<K, Rows>,
    seen: HashMap<K, Vec<f32>>,
    batch: &Batch,
    (n, folder): (usize, &Path),
) -> Result<()> {
    for (key, rows) in seen {
        let width = rows.len() / batch.rows.len().max(1);
        let all = match kept.entry(key) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(Rows::new(n, width, folder)?)
            }
        };
        all.write(batch.rows.start, &rows)?;
    }
    Ok(())
}

/// The factor between writers' outputs and the stream's gain, if it is one number for all: 1 in
/// most models, less where llama.cpp's graph scales it.
fn gains(structure: &Structure, seen: &Activations, n_rows: usize) -> HashMap<usize, f32> {
    let mut gains = HashMap::new();
    for point in 1..structure.points.len() {
        let outputs = structure.outputs_of(point);
        let all: Option<Vec<&Vec<f32>>> = outputs.clone().map(|o| seen.outputs.get(&o)).collect();
        let around = (seen.points.get(&(point - 1)), seen.points.get(&point));
        let (Some(all), (Some(before), Some(after))) = (all, around) else { continue };
        let Some(first) = all.first().filter(|y| y.len() == before.len()) else { continue };
        let mut said = (*first).clone();
        for more in &all[1..] {
            said.iter_mut().zip(*more).for_each(|(y, more)| *y += more);
        }
        let mut gained: Vec<f32> = after.iter().zip(before).map(|(a, b)| a - b).collect();
        centre(&mut said, n_rows);
        centre(&mut gained, n_rows);
        let gain = dot(&gained, &said) / dot(&said, &said);
        said.iter_mut().for_each(|y| *y *= gain as f32);
        if gain > 0.0 && relative_error(&said, &gained) <= SAME {
            gains.extend(outputs.map(|output| (output, gain as f32)));
        }
    }
    gains
}

/// Subtracts the mean row, e.g. a bias.
fn centre(rows: &mut [f32], n_rows: usize) {
    let width = rows.len() / n_rows.max(1);
    let mut mean = vec![0f32; width];
    for row in rows.chunks_exact(width) {
        mean.iter_mut().zip(row).for_each(|(m, x)| *m += x / n_rows as f32);
    }
    for row in rows.chunks_exact_mut(width) {
        row.iter_mut().zip(&mean).for_each(|(x, m)| *x -= m);
    }
}
