//! What the matrices of a group are fitted to, added up batch by batch.

use super::bias::Totals;
use super::error::Result;
use super::forward::Seen;
use super::record::{Record, Writer};
use super::texts::Batch;
use crate::numeric::{Cross, Gram};

/// Sums over the tokens that matrices are fitted to, and the rows of those held out.
pub(super) struct Sums {
    /// `X_c^T X_c`.
    pub gram: Gram,
    /// `X_o^T X_c`, if the original's inputs were recorded.
    pub readers: Option<Readers>,
    pub writers: Vec<WriterSums>,
    /// The first of the group, if it writes into the residual stream: rows are weighted there.
    pub weighted_at: Option<Writer>,
    /// Held-out rows of X_c.
    pub held_out: Vec<f32>,
    /// Their weights.
    pub weights: Vec<f32>,
}

/// For matrices that do not write into the residual stream.
pub(super) struct Readers {
    /// The matrix by whose name the original's inputs were recorded.
    pub leader: String,
    /// `X_o^T X_c`.
    pub products: Cross,
    /// Held-out rows of X_o.
    pub held_out: Vec<f32>,
}

/// For one that does.
pub(super) struct WriterSums {
    pub name: String,
    pub writer: Writer,
    /// T.
    pub products: Cross,
    /// The bias that is added to its product.
    pub bias: Option<String>,
    /// What that is fitted to.
    pub totals: Totals,
    /// Held-out rows of Y.
    pub held_out: Vec<f32>,
}

impl Sums {
    /// Adds a batch: `inputs` are its rows of X_c.
    pub fn add(
        &mut self,
        batch: &Batch,
        mut inputs: Vec<f32>,
        seen: &Seen,
        record: &mut Record,
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
