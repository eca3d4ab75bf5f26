//! The current batch, as far as the rows of a node need it.

/// How many tokens a batch has, and which of them have logits.
#[derive(Default)]
pub(super) struct BatchShape {
    /// Tokens in the batch.
    pub n_tokens: usize,
    /// Batch rows whose logits are asked for, ascending: all that the last block keeps.
    pub outputs: Vec<usize>,
}

impl BatchShape {
    /// The batch row of row `row` of a node with `n_rows`: the last block keeps only output rows.
    /// None where llama.cpp cut the batch, so that the rows are not the tokens that were given.
    pub(super) fn place(&self, row: usize, n_rows: usize) -> Option<usize> {
        match n_rows {
            n if n == self.n_tokens => Some(row),
            n if n == self.outputs.len() => self.outputs.get(row).copied(),
            _ => None,
        }
    }
}
