//! One pass of a model over samples, which adds up the input of every linear layer.
//!
//! Logits are asked for on every token, because the last block would otherwise compute its later
//! layers only for the last token; the output head itself is not run. Weights that multiply the
//! same rows (q, k and v; gate and up) are added up once. Batches are packed in the samples' order,
//! so that a run that was cut off between two batches goes on with the same ones.

use std::ops::ControlFlow;

use indexmap::{IndexMap, IndexSet};

use super::activation::InputStats;
use super::error::{Error, Result};
use crate::gguf::Watch;
use crate::llama::graph::Structure;
use crate::llama::{
    Engine, Error as LlamaError, Hooks, Input, LinearInput, Session, Size, prompt_inputs,
};

/// Tokens decoded at once.
const N_BATCH: u32 = 512;
/// Samples in a batch, at most.
const MAX_PARALLEL: usize = 64;
/// Rows whose sums are kept in f32 before they are added in f64: few enough that nothing is lost.
const ROWS_IN_F32: usize = 32;

/// A text to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// What the model reads.
    pub tokens: Vec<i32>,
    /// The first token that counts; all after it count too.
    pub counted_from: usize,
}

/// What was gathered so far, or in all.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Collected {
    /// By weight name, in the graph's order.
    pub inputs: IndexMap<String, InputStats>,
    /// Number of samples read so far.
    pub n_done: usize,
    /// True if the run was interrupted before its end.
    pub interrupted: bool,
}

/// Reads `samples` from number `so_far.n_done` on and adds to `so_far`. An interrupt is not an
/// error: what was gathered is returned.
///
/// # Errors
/// No sample counts, no memory, NaN or infinite activations.
pub fn collect(
    engine: &Engine,
    samples: &[Sample],
    so_far: Collected,
    watch: &dyn Watch,
) -> Result<Collected> {
    if !samples.iter().any(|s| s.counted_from < s.tokens.len()) {
        return Err(Error::NoSamples);
    }
    let mut session = Session::new(engine, size_for(samples))?;
    let mut collected = Collected { interrupted: false, ..so_far };
    let plan = CollectPlan::new(engine.structure()?);
    if plan.leaders.is_empty() {
        return Err(Error::NoLinear { architecture: engine.architecture() });
    }
    watch.part("reading samples", collected.n_done, samples.len());
    while collected.n_done < samples.len() {
        // llama.cpp cuts batches of several sequences for these, and reorders the tokens.
        let taken = if engine.is_recurrent() { 1 } else { batch_len(&samples[collected.n_done..]) };
        let batch = &samples[collected.n_done..collected.n_done + taken];
        // Into separate sums: a batch that is cut off must leave no trace.
        let mut sums = IndexMap::new();
        match read_batch(&mut session, batch, &plan, &mut sums) {
            Err(Error::Engine(LlamaError::Interrupted)) => {
                collected.interrupted = true;
                break;
            }
            other => other?,
        }
        for (name, sums) in sums {
            merge(&mut collected.inputs, name, sums)?;
        }
        collected.n_done += taken;
        watch.part("reading samples", collected.n_done, samples.len());
    }
    collected.copy_to_followers(&plan);
    Ok(collected)
}

impl Collected {
    /// Weights that multiply the same rows get the same statistics.
    fn copy_to_followers(&mut self, plan: &CollectPlan) {
        for (follower, leader) in &plan.followers {
            if let Some(input) = self.inputs.get(leader).cloned() {
                self.inputs.insert(follower.clone(), input);
            }
        }
    }
}

/// Which weights' inputs are added up: those of one group are the same rows.
#[derive(Debug)]
struct CollectPlan {
    /// Weights to add up, in the graph's order.
    leaders: IndexSet<String>,
    /// Weights that multiply a leader's rows.
    followers: Vec<(String, String)>,
    /// The last weight to add up; None if the graph multiplies it more than once.
    last: Option<String>,
}

impl CollectPlan {
    fn new(structure: &Structure) -> CollectPlan {
        let mut plan = CollectPlan { leaders: IndexSet::new(), followers: Vec::new(), last: None };
        for group in &structure.groups {
            // Experts see some of the rows, all other matrices see every row.
            for experts in [false, true] {
                let mut alike = group.matrices.iter().filter(|reader| reader.experts == experts);
                let Some(leader) = alike.next() else { continue };
                plan.leaders.insert(leader.tensor.clone());
                plan.followers.extend(alike.map(|r| (r.tensor.clone(), leader.tensor.clone())));
            }
        }
        plan.last = plan.leaders.last().filter(|_| !structure.loops).cloned();
        plan
    }
}

fn size_for(samples: &[Sample]) -> Size {
    let longest = samples.iter().map(|s| s.tokens.len()).max().unwrap_or(1) as u32;
    let n_ctx = longest.max(N_BATCH).next_multiple_of(256);
    // One memory for all: rows then lie in the batch's order.
    Size { n_ctx, n_batch: N_BATCH, n_seq: MAX_PARALLEL as u32, unified: true }
}

/// How many samples share the next batch; one that is longer than a batch is read by itself.
fn batch_len(samples: &[Sample]) -> usize {
    let mut n_tokens = 0;
    let fits = |s: &&Sample| {
        n_tokens += s.tokens.len();
        n_tokens <= N_BATCH as usize
    };
    samples.iter().take(MAX_PARALLEL).take_while(fits).count().max(1)
}

fn read_batch(
    session: &mut Session<'_>,
    samples: &[Sample],
    plan: &CollectPlan,
    sums: &mut IndexMap<String, InputStats>,
) -> Result<()> {
    session.clear();
    let mut inputs: Vec<(Input, bool)> = Vec::new();
    for (sequence, sample) in (0u32..).zip(samples) {
        let counts = (0..).map(|i: usize| i >= sample.counted_from);
        inputs.extend(prompt_inputs(&sample.tokens, sequence, 0).into_iter().zip(counts));
    }
    inputs.iter_mut().for_each(|(input, _)| input.logits = true);
    for chunk in inputs.chunks(N_BATCH as usize) {
        let (tokens, counted): (Vec<Input>, Vec<bool>) = chunk.iter().copied().unzip();
        read_chunk(session, &tokens, &counted, plan, sums)?;
    }
    Ok(())
}

fn read_chunk(
    session: &mut Session<'_>,
    tokens: &[Input],
    counted: &[bool],
    plan: &CollectPlan,
    sums: &mut IndexMap<String, InputStats>,
) -> Result<()> {
    let of = |weight: &str| plan.leaders.contains(weight);
    let read = |input: &LinearInput<'_>| Ok(add_leader(plan, sums, input, counted));
    let mut hooks = Hooks::new().inputs(of, read);
    Ok(session.decode(tokens, Some(&mut hooks))?)
}

/// Adds what one leader multiplies; after the last leader the rest of the decode is not needed.
fn add_leader(
    plan: &CollectPlan,
    sums: &mut IndexMap<String, InputStats>,
    input: &LinearInput<'_>,
    counted: &[bool],
) -> ControlFlow<()> {
    let new = || InputStats::new(input.n_expert, input.n_cols);
    add(sums.entry(input.weight.into()).or_insert_with(new), input, counted);
    match plan.last.as_deref() == Some(input.weight) {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    }
}

/// Adds the rows that count, expert by expert.
fn add(stats: &mut InputStats, input: &LinearInput<'_>, counted: &[bool]) {
    let n_cols = input.n_cols;
    let mut block = RowBlock::new(n_cols);
    for expert in 0..stats.n_expert() {
        let uses = input.uses.iter().filter(|u| u.expert == expert && counted[u.place]);
        for usage in uses {
            block.add(&input.rows[usage.row * n_cols..(usage.row + 1) * n_cols]);
            stats.counts[expert] += 1;
            if block.n_rows == ROWS_IN_F32 {
                block.flush(stats, expert);
            }
        }
        block.flush(stats, expert);
    }
}

/// Sums over a few rows.
struct RowBlock {
    n_rows: usize,
    sum2: Vec<f32>,
    sum_abs: Vec<f32>,
    max_abs: Vec<f32>,
}

impl RowBlock {
    fn new(n_cols: usize) -> RowBlock {
        let zeros = || vec![0.0; n_cols];
        RowBlock { n_rows: 0, sum2: zeros(), sum_abs: zeros(), max_abs: zeros() }
    }

    fn add(&mut self, row: &[f32]) {
        self.n_rows += 1;
        let sums = self.sum2.iter_mut().zip(&mut self.sum_abs).zip(&mut self.max_abs);
        for (((sum2, sum_abs), max_abs), x) in sums.zip(row) {
            let a = x.abs();
            *sum2 += x * x;
            *sum_abs += a;
            // A NaN shows in the sums.
            *max_abs = if a > *max_abs { a } else { *max_abs };
        }
    }

    fn flush(&mut self, stats: &mut InputStats, expert: usize) {
        let (start, n_cols) = (expert * stats.n_cols, stats.n_cols);
        let add = |sums: &mut [f64], block: &mut [f32]| {
            for (sum, x) in sums.iter_mut().zip(block) {
                *sum += f64::from(std::mem::take(x));
            }
        };
        add(&mut stats.sum2[start..start + n_cols], &mut self.sum2);
        if let Some(sum_abs) = &mut stats.sum_abs {
            add(&mut sum_abs[start..start + n_cols], &mut self.sum_abs);
        }
        if let Some(max_abs) = &mut stats.max_abs {
            for (m, x) in max_abs[start..start + n_cols].iter_mut().zip(&mut self.max_abs) {
                *m = m.max(std::mem::take(x));
            }
        }
        self.n_rows = 0;
    }
}

/// Adds `more` to what is known of a weight.
fn merge(inputs: &mut IndexMap<String, InputStats>, name: String, more: InputStats) -> Result<()> {
    if let Some(i) = more.sum2.iter().position(|x| !x.is_finite()) {
        return Err(Error::NotFinite { name, channel: i % more.n_cols });
    }
    let Some(sums) = inputs.get_mut(&name) else {
        inputs.insert(name, more);
        return Ok(());
    };
    sums.counts.iter_mut().zip(&more.counts).for_each(|(a, b)| *a += b);
    sums.sum2.iter_mut().zip(&more.sum2).for_each(|(a, b)| *a += b);
    if let (Some(a), Some(b)) = (&mut sums.sum_abs, &more.sum_abs) {
        a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
    }
    if let (Some(a), Some(b)) = (&mut sums.max_abs, &more.max_abs) {
        a.iter_mut().zip(b).for_each(|(a, b)| *a = a.max(*b));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llama::RowUse;

    fn samples(lens: &[usize]) -> Vec<Sample> {
        lens.iter().map(|&n| Sample { tokens: vec![1; n], counted_from: 0 }).collect()
    }

    #[test]
    fn batches_hold_whole_samples_in_order() {
        assert_eq!(batch_len(&samples(&[200, 300, 12, 1])), 3);
        assert_eq!(batch_len(&samples(&[200, 300, 13])), 2);
        assert_eq!(batch_len(&samples(&[2000, 1])), 1);
        assert_eq!(batch_len(&samples(&[1; 100])), MAX_PARALLEL);
    }

    #[test]
    fn rows_are_added_where_they_count_and_experts_apart() {
        let rows = [1.0, -2.0, 3.0, 4.0, -5.0, 6.0];
        let uses = [(0, 0, 0), (1, 1, 1), (2, 2, 1), (0, 0, 1)];
        let uses = uses.map(|(row, place, expert)| RowUse { row, place, expert });
        let input = LinearInput { weight: "w", n_expert: 3, n_cols: 2, rows: &rows, uses: &uses };
        let mut stats = InputStats::new(3, 2);
        add(&mut stats, &input, &[true, false, true]);
        assert_eq!(stats.counts, [1, 2, 0]);
        assert_eq!(stats.sum2, [1.0, 4.0, 26.0, 40.0, 0.0, 0.0]);
        assert_eq!(stats.sum_abs.as_ref().unwrap()[2..4], [6.0, 8.0]);
        assert_eq!(stats.max_abs.as_ref().unwrap()[2..4], [5.0, 6.0]);
        assert_eq!(stats.mean_square(1).unwrap(), [13.0, 20.0]);
        assert_eq!(stats.mean_square(2), None);
    }
}
