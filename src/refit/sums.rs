//! What the matrices of a group are fitted to, added up batch by batch.

use super::error::Result;
use super::forward::Activations;
use super::record::{BlockRecord, WriterSite};
use super::texts::Batch;
use crate::numeric::{Cross, Gram};

/// Sums over the tokens that matrices are fitted to, and the rows of those held out.
pub(super) struct Sums {
    /// `X_c^T X_c`.
    pub gram: Gram,
    /// `X_o^T X_c`, if the original's inputs were recorded.
    pub readers: Option<Readers>,
    pub writers: Vec<WriterSums>,
    /// The first writer of the group, if any writes into the residual stream: its rows are
    /// weighted.
    pub weighted_at: Option<WriterSite>,
    /// Held-out rows of X_c.
    pub held_out: Vec<f32>,
    /// Weights of the held-out rows.
    pub weights: Vec<f32>,
}

/// Sums for matrices that do not write into the residual stream.
pub(super) struct Readers {
    /// The matrix under whose name the original's inputs were recorded.
    pub leader: String,
    /// `X_o^T X_c`.
    pub products: Cross,
    /// Held-out rows of X_o.
    pub held_out: Vec<f32>,
}

/// Sums for a matrix that does.
pub(super) struct WriterSums {
    pub name: String,
    pub writer: WriterSite,
    /// T.
    pub products: Cross,
    /// The bias that is added to its product.
    pub bias: Option<String>,
    /// What the bias is fitted to.
    pub totals: Totals,
    /// Held-out rows of Y.
    pub held_out: Vec<f32>,
}

/// Sums over the tokens that a writer is fitted to.
#[derive(Debug, Clone, Default)]
pub(super) struct Totals {
    /// Sum of squared weights.
    pub total: f64,
    /// Sum of Y, `[n_out]`, each times its squared weight.
    pub wanted: Vec<f64>,
    /// Sum of X_c, `[dim]`, likewise.
    pub inputs: Vec<f64>,
}

impl Totals {
    /// Adds rows that are already weighted: `wanted`, `[n, n_out]`, and `inputs`, `[n, dim]`.
    pub(super) fn add(
        &mut self,
        wanted: &[f32],
        inputs: &[f32],
        weights: Option<&[f32]>,
        n: usize,
    ) {
        let weight = |row: usize| weights.map_or(1.0, |weights| f64::from(weights[row]));
        let add = |sums: &mut Vec<f64>, rows: &[f32]| {
            let width = rows.len() / n.max(1);
            sums.resize(width, 0.0);
            for (i, row) in rows.chunks_exact(width.max(1)).enumerate() {
                sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += weight(i) * f64::from(*x));
            }
        };
        add(&mut self.wanted, wanted);
        add(&mut self.inputs, inputs);
        self.total += (0..n).map(|row| weight(row).powi(2)).sum::<f64>();
    }
}

impl Sums {
    /// Adds a batch: `inputs` are its rows of X_c.
    pub(super) fn add(
        &mut self,
        batch: &Batch,
        mut inputs: Vec<f32>,
        seen: &Activations,
        record: &mut BlockRecord,
    ) -> Result<()> {
        let weights = self.weighted_at.map(|writer| record.weights(writer, batch)).transpose()?;
        weigh(&mut inputs, weights.as_deref());
        if let Some(readers) = &mut self.readers
            && let Some(rows) = record.inputs.get_mut(&readers.leader)
        {
            let mut theirs = rows.read(batch.rows.clone())?;
            weigh(&mut theirs, weights.as_deref());
            match batch.held_out {
                true => readers.held_out.extend(theirs),
                false => readers.products.add(&theirs, &inputs),
            }
        }
        for sums in &mut self.writers {
            let ours = seen.points.get(&sums.writer.before);
            let mut wanted = record.wanted(sums.writer, batch, ours)?;
            weigh(&mut wanted, weights.as_deref());
            match batch.held_out {
                true => sums.held_out.extend(wanted),
                false => {
                    sums.totals.add(&wanted, &inputs, weights.as_deref(), batch.rows.len());
                    sums.products.add(&wanted, &inputs);
                }
            }
        }
        match batch.held_out {
            true => {
                self.weights.extend(weights.unwrap_or(vec![1.0; batch.rows.len()]));
                self.held_out.extend(inputs);
            }
            false => self.gram.add(&inputs),
        }
        Ok(())
    }
}

/// Multiplies each row by its weight.
fn weigh(rows: &mut [f32], weights: Option<&[f32]>) {
    let Some(weights) = weights else { return };
    let width = rows.len() / weights.len().max(1);
    for (row, weight) in rows.chunks_exact_mut(width.max(1)).zip(weights) {
        row.iter_mut().for_each(|x| *x *= weight);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numeric::dot;
    use crate::numeric::testing::random;

    #[test]
    fn totals_are_of_weighted_rows() {
        let (n, dim) = (7, 5);
        let (rows, weights) = (random(1, n * dim), random(2, n));
        let weighted: Vec<f32> =
            rows.iter().enumerate().map(|(i, x)| x * weights[i / dim]).collect();
        let mut totals = Totals::default();
        totals.add(&weighted[..3 * dim], &weighted[..3 * dim], Some(&weights[..3]), 3);
        totals.add(&weighted[3 * dim..], &weighted[3 * dim..], Some(&weights[3..]), 4);
        assert!((totals.total - dot(&weights, &weights)).abs() < 1e-6);
        for j in 0..dim {
            let of_row = |i: usize| f64::from(weights[i]).powi(2) * f64::from(rows[i * dim + j]);
            let expected: f64 = (0..n).map(of_row).sum();
            assert!((totals.wanted[j] - expected).abs() < 1e-5);
        }
    }
}
