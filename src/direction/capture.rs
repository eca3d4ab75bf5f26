//! Mean activations: the residual stream at the input of every block, at the tokens that the chat
//! template puts after the user's text. Sums in f64; memory does not grow with the prompts.

use std::cell::RefCell;
use std::collections::HashMap;

use super::error::Result;
use super::score::refusal_score;
use crate::llama::{Error as LlamaError, Hooks, Prefill, Reading, Site};

/// One value for every layer, position and channel: `[n_layer, n_pos, n_embd]`. Position 0 is the
/// prompt's last token, 1 the one before.
#[derive(Debug, Clone, PartialEq)]
pub struct Grid<T> {
    /// Blocks; layer l is the input of block l.
    pub n_layer: usize,
    /// Positions, counted back from the last token.
    pub n_pos: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// All values, row-major.
    pub values: Vec<T>,
}

impl<T: Clone + Default> Grid<T> {
    /// A grid of default values.
    pub fn new(n_layer: usize, n_pos: usize, n_embd: usize) -> Grid<T> {
        Grid { n_layer, n_pos, n_embd, values: vec![T::default(); n_layer * n_pos * n_embd] }
    }

    /// The vector at a layer and a position counted back from the last token.
    pub fn at(&self, layer: usize, from_end: usize) -> &[T] {
        let start = (layer * self.n_pos + from_end) * self.n_embd;
        &self.values[start..start + self.n_embd]
    }

    fn at_mut(&mut self, layer: usize, from_end: usize) -> &mut [T] {
        let start = (layer * self.n_pos + from_end) * self.n_embd;
        &mut self.values[start..start + self.n_embd]
    }
}

/// The result of one pass over prompts.
#[derive(Debug, Clone)]
pub struct Captured {
    /// Refusal score of each prompt.
    pub scores: Vec<f64>,
    /// How many prompts were kept.
    pub kept: usize,
    /// Sums over the prompts that were kept.
    pub sums: Grid<f64>,
}

/// The shape of what is captured, and how scores are read.
#[derive(Debug, Clone, Copy)]
pub struct Shape<'a> {
    /// Where the residual stream enters each block: places in its structure's points.
    pub inputs: &'a [usize],
    /// Post-instruction positions.
    pub n_pos: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// First tokens of refusals.
    pub refusal_tokens: &'a [i32],
}

/// Reads `prompts` and adds up the activations of those whose refusal score `keep` accepts.
///
/// # Errors
/// [`LlamaError::NotFinite`] names the first layer with a NaN or an infinity.
pub fn capture(
    prefill: &mut Prefill<'_>,
    prompts: &[&[i32]],
    shape: Shape<'_>,
    keep: impl Fn(f64) -> bool,
) -> Result<Captured> {
    let Shape { inputs, n_pos, n_embd, refusal_tokens } = shape;
    let n_layer = inputs.len();
    let mut captured =
        Captured { scores: Vec::new(), kept: 0, sums: Grid::new(n_layer, n_pos, n_embd) };
    // Activations of the current batch, kept until its scores are known.
    let pending = RefCell::new(HashMap::<usize, Grid<f32>>::new());
    let reading = Reading {
        at: Box::new(move |site| matches!(site, Site::Point(place) if inputs.contains(&place))),
        n_last: n_pos,
        row: Box::new(|site, prompt, from_end, values| {
            let Site::Point(place) = site else { return Ok(()) };
            // A block that writes nothing has the same input as the next one.
            let layers = (0..n_layer).filter(|&layer| inputs[layer] == place);
            let mut pending = pending.borrow_mut();
            let grid = pending.entry(prompt).or_insert_with(|| Grid::new(n_layer, n_pos, n_embd));
            for layer in layers {
                if values.iter().any(|x| !x.is_finite()) {
                    return Err(LlamaError::NotFinite { block: layer as u32 });
                }
                grid.at_mut(layer, from_end).copy_from_slice(values);
            }
            Ok(())
        }),
    };
    prefill.run(prompts, Hooks::new(), Some(reading), |prompt, logits| {
        let score = refusal_score(logits, refusal_tokens);
        captured.scores.push(score);
        if let Some(grid) = pending.borrow_mut().remove(&prompt)
            && keep(score)
        {
            captured.kept += 1;
            let sums = captured.sums.values.iter_mut().zip(&grid.values);
            sums.for_each(|(sum, x)| *sum += f64::from(*x));
        }
        Ok(())
    })?;
    Ok(captured)
}

/// Mean of `harmful` minus mean of `harmless`: the candidates, not normalised.
pub fn difference_of_means(harmful: &Captured, harmless: &Captured) -> Grid<f32> {
    let (n, m) = (harmful.kept.max(1) as f64, harmless.kept.max(1) as f64);
    let pairs = harmful.sums.values.iter().zip(&harmless.sums.values);
    let Grid { n_layer, n_pos, n_embd, .. } = harmful.sums;
    Grid { n_layer, n_pos, n_embd, values: pairs.map(|(a, b)| (a / n - b / m) as f32).collect() }
}
