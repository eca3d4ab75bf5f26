//! The inputs of experts, over all texts, and which rows reach which expert.

use std::path::Path;

use super::error::Result;
use super::forward::ExpertRows;
use super::rows::Rows;
use super::texts::Batch;

/// The inputs of experts, over all texts.
pub(super) struct ExpertInputs {
    rows: Rows,
    /// By expert, the tokens that reach it in their order, each with its row.
    reached: Vec<Vec<(usize, usize)>>,
}

impl ExpertInputs {
    /// Adds a batch, as `kept`; all texts have `n_tokens`.
    pub(super) fn add(
        kept: &mut Option<ExpertInputs>,
        seen: ExpertRows,
        (batch, n_tokens): (&Batch, usize),
        folder: &Path,
    ) -> Result<()> {
        let ExpertRows { rows, uses } = seen;
        let n = batch.rows.len().max(1);
        let n_rows = uses.iter().map(|u| u.row + 1).max().unwrap_or(0).next_multiple_of(n);
        let (per_token, width) = (n_rows / n, rows.len() / n_rows.max(1));
        let routed = match kept {
            Some(routed) => routed,
            None => kept.insert(ExpertInputs {
                rows: Rows::new(n_tokens * per_token, width, folder)?,
                reached: Vec::new(),
            }),
        };
        let first = batch.rows.start * per_token;
        routed.rows.write(first, &rows)?;
        for used in uses {
            let n_expert = routed.reached.len().max(used.expert + 1);
            routed.reached.resize(n_expert, Vec::new());
            routed.reached[used.expert].push((batch.rows.start + used.place, first + used.row));
        }
        Ok(())
    }

    /// The tokens that reach `expert`, each with its row.
    pub(super) fn reached(&self, expert: usize) -> &[(usize, usize)] {
        self.reached.get(expert).map_or(&[], Vec::as_slice)
    }

    /// Copies rows one after the other, each times its weight.
    pub(super) fn gather(&mut self, rows: &[(usize, f32)]) -> Result<Vec<f32>> {
        let mut all = Vec::new();
        for (row, weight) in rows {
            all.extend(self.rows.read(*row..row + 1)?.into_iter().map(|x| x * weight));
        }
        Ok(all)
    }
}
