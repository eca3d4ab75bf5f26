//! Calibration texts in batches: those that matrices are fitted to, and those that are held out.

use std::ops::Range;

use crate::llama::{Input, prompt_inputs};
use crate::stats::Sample;

/// Tokens of a batch.
pub(super) const N_BATCH: usize = 512;
/// Texts of a batch, at most.
pub(super) const MAX_PARALLEL: usize = 64;
/// One text of this many is held out, up to this many tokens.
const HELD_OUT: usize = 10;
const MAX_HELD_OUT: usize = 1024;

/// Texts that are read together.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    /// Tokens with their places in the batch's sequences.
    pub inputs: Vec<Input>,
    /// The place of its rows among all rows.
    pub rows: Range<usize>,
    /// True if nothing is fitted to it.
    pub held_out: bool,
}

/// All calibration texts, in batches.
#[derive(Debug, Clone)]
pub(super) struct Texts {
    /// Those that are held out come last.
    pub batches: Vec<Batch>,
    /// Tokens that matrices are fitted to.
    pub n_fitted: usize,
    /// Tokens held out.
    pub n_held_out: usize,
}

impl Texts {
    /// Batches of `samples`, cut into pieces of the length of one; one piece per batch if `alone`.
    pub(super) fn new(samples: &[Sample], alone: bool) -> Texts {
        let mut n_held_out = 0;
        let (mut fitted, mut held_out) = (Vec::new(), Vec::new());
        for (i, sample) in samples.iter().enumerate() {
            let pieces = sample.tokens.chunks(N_BATCH);
            let room = n_held_out + sample.tokens.len() <= MAX_HELD_OUT;
            if i % HELD_OUT == HELD_OUT / 2 && room {
                held_out.extend(pieces);
                n_held_out += sample.tokens.len();
            } else {
                fitted.extend(pieces);
            }
        }
        let mut batches = Vec::new();
        let most = if alone { 1 } else { MAX_PARALLEL };
        let n_fitted = pack(&fitted, most, false, 0, &mut batches);
        let n_held_out = pack(&held_out, most, true, n_fitted, &mut batches);
        Texts { batches, n_fitted, n_held_out }
    }

    /// Tokens of all texts.
    pub(super) fn n_rows(&self) -> usize {
        self.n_fitted + self.n_held_out
    }
}

/// Packs `texts` in their order; returns how many tokens they have.
fn pack(
    texts: &[&[i32]],
    most: usize,
    held_out: bool,
    first_row: usize,
    batches: &mut Vec<Batch>,
) -> usize {
    let mut row = first_row;
    let mut rest = texts.iter().filter(|text| !text.is_empty()).peekable();
    while rest.peek().is_some() {
        let mut inputs: Vec<Input> = Vec::new();
        for sequence in 0..most as u32 {
            let fits = |text: &&&[i32]| inputs.len() + text.len() <= N_BATCH;
            let Some(text) = rest.next_if(fits) else { break };
            inputs.extend(prompt_inputs(text, sequence, 0));
        }
        // All rows of the last block are wanted, not only those at each text's end.
        inputs.iter_mut().for_each(|input| input.logits = true);
        let rows = row..row + inputs.len();
        row = rows.end;
        batches.push(Batch { inputs, rows, held_out });
    }
    row - first_row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_is_read_once_and_held_out_texts_come_last() {
        let sample = |n: usize| Sample { tokens: vec![1; n], counted_from: 0 };
        let samples: Vec<Sample> = (0..50).map(|i| sample(20 + 13 * i)).collect();
        let texts = Texts::new(&samples, false);
        let expected: usize = samples.iter().map(|s| s.tokens.len()).sum();
        assert_eq!(texts.n_rows(), expected);
        let mut row = 0;
        for batch in &texts.batches {
            assert_eq!(batch.rows, row..row + batch.inputs.len());
            assert!(batch.inputs.len() <= N_BATCH && batch.inputs.iter().all(|i| i.logits));
            assert_eq!(batch.held_out, batch.rows.start >= texts.n_fitted);
            row = batch.rows.end;
        }
        assert!(texts.n_held_out > 0 && texts.n_held_out <= MAX_HELD_OUT);
        assert!(
            Texts::new(&samples, true)
                .batches
                .iter()
                .all(|b| b.inputs.iter().all(|i| i.sequence == 0))
        );
    }
}
