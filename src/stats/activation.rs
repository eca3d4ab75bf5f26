//! Statistics of inputs, by weight, expert and channel.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::error::{Error, Result};
use crate::gguf::Model;

/// Statistics of the input of one linear layer, separately for each expert.
#[derive(Debug, Clone, PartialEq)]
pub struct InputStats {
    /// Input channels of the layer.
    pub n_cols: usize,
    /// Rows that each matrix saw: one, or one an expert. `[n_expert]`
    pub counts: Vec<u64>,
    /// Sum of x^2. `[n_expert, n_cols]`
    pub sum2: Vec<f64>,
    /// Sum of |x|, which other tools' files leave out. `[n_expert, n_cols]`
    pub sum_abs: Option<Vec<f64>>,
    /// Largest |x|, which other tools' files leave out. `[n_expert, n_cols]`
    pub max_abs: Option<Vec<f32>>,
}

/// Where statistics come from; kept in the file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// The version of aird that wrote the file.
    pub version: String,
    /// sha256 of the model.
    pub model_sha256: String,
    /// `general.architecture` of the model.
    pub architecture: String,
    /// The data's name, and the hash of the samples' tokens.
    pub data: String,
    /// See [`About::data`].
    pub data_sha256: String,
    /// Tokens of a window at most.
    pub n_ctx: u32,
    /// Number of samples read.
    pub n_samples: usize,
    /// Rows that count: all, or only the answers'.
    pub mask: String,
    /// Seed of the choice of samples.
    pub seed: u64,
}

/// Statistics of a model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stats {
    /// By weight name, `blk.0.attn_q.weight`, sorted.
    pub inputs: IndexMap<String, InputStats>,
    /// Names of the data sets.
    pub datasets: Vec<String>,
    /// None for files of other tools.
    pub about: Option<About>,
}

impl InputStats {
    /// Statistics of no rows yet.
    pub fn new(n_expert: usize, n_cols: usize) -> InputStats {
        InputStats {
            n_cols,
            counts: vec![0; n_expert],
            sum2: vec![0.0; n_expert * n_cols],
            sum_abs: Some(vec![0.0; n_expert * n_cols]),
            max_abs: Some(vec![0.0; n_expert * n_cols]),
        }
    }

    /// Matrices in the weight.
    pub fn n_expert(&self) -> usize {
        self.counts.len()
    }

    /// True if rows went to the expert. In files of the legacy format all experts have the count
    /// of one, and those that saw nothing have sums of zero.
    pub fn saw_rows(&self, expert: usize) -> bool {
        let sums = self.sum2.chunks_exact(self.n_cols.max(1)).nth(expert);
        self.counts.get(expert).is_some_and(|n| *n > 0)
            && sums.is_some_and(|sums| sums.iter().any(|sum| *sum > 0.0))
    }

    /// `E[x^2]` of an expert's channels; None if it saw no row.
    pub fn mean_square(&self, expert: usize) -> Option<Vec<f32>> {
        self.mean(&self.sum2, expert)
    }

    /// `E|x|` of an expert's channels; None if it saw no row or the file has no such sums.
    pub fn mean_abs(&self, expert: usize) -> Option<Vec<f32>> {
        self.mean(self.sum_abs.as_ref()?, expert)
    }

    /// Largest |x| over all experts; None if the file does not hold it.
    pub fn max_abs(&self) -> Option<Vec<f32>> {
        let rows = self.max_abs.as_ref()?.chunks_exact(self.n_cols.max(1));
        let mut highest = vec![0f32; self.n_cols];
        for row in rows {
            highest.iter_mut().zip(row).for_each(|(m, x)| *m = m.max(*x));
        }
        Some(highest)
    }

    fn mean(&self, sums: &[f64], expert: usize) -> Option<Vec<f32>> {
        let n = *self.counts.get(expert).filter(|_| self.saw_rows(expert))?;
        let sums = &sums[expert * self.n_cols..(expert + 1) * self.n_cols];
        Some(sums.iter().map(|s| (s / n as f64) as f32).collect())
    }
}

impl Stats {
    /// The statistics of weight `name`'s input.
    ///
    /// # Errors
    /// The statistics have no such weight.
    pub fn input(&self, name: &str) -> Result<&InputStats> {
        self.inputs.get(name).ok_or_else(|| Error::NoInput { name: name.into() })
    }

    /// Entries about tensors that `model` does not have: blocks that one conversion of a model
    /// writes and another leaves out, e.g. those that predict several tokens ahead.
    pub fn beyond(&self, model: &Model) -> Vec<String> {
        self.inputs.keys().filter(|name| model.tensor(name).is_none()).cloned().collect()
    }

    /// These statistics without those [`Stats::beyond`] `model`. Checked: the architecture, if the
    /// file holds it, and the width and the experts of every entry. Experts that a legacy file
    /// holds in one row are separated.
    ///
    /// # Errors
    /// What differs first.
    pub fn fitted_to(mut self, model: &Model) -> Result<Stats> {
        if let Some(about) = &self.about
            && about.architecture != model.architecture()
        {
            let (found, expected) = (about.architecture.clone(), model.architecture().to_owned());
            return Err(Error::Architecture { found, expected });
        }
        let first = self.inputs.keys().next().cloned();
        self.inputs.retain(|name, _| model.tensor(name).is_some());
        if let Some(name) = first.filter(|_| self.inputs.is_empty()) {
            return Err(Error::NoTensor { name });
        }
        for (name, input) in &mut self.inputs {
            let Some(info) = model.tensor(name).map(|tensor| tensor.info) else { continue };
            let (n_cols, n_expert) = (info.n_cols(), info.shape.get(2).copied().unwrap_or(1));
            if input.n_expert() == 1 && input.n_cols as u64 == n_cols * n_expert {
                input.n_cols = n_cols as usize;
                input.counts = vec![input.counts[0]; n_expert as usize];
            }
            if input.n_cols as u64 != n_cols {
                let (name, found) = (name.clone(), input.n_cols as u64);
                return Err(Error::Width { name, found, expected: n_cols });
            }
            if input.n_expert() as u64 != n_expert {
                let (name, found) = (name.clone(), input.n_expert() as u64);
                return Err(Error::Experts { name, found, expected: n_expert });
            }
            if input.counts.iter().all(|n| *n == 0) {
                return Err(Error::ZeroCount { name: name.clone() });
            }
            if !(0..input.n_expert()).any(|expert| input.saw_rows(expert)) {
                return Err(Error::ZeroSums { name: name.clone() });
            }
        }
        Ok(self)
    }

    /// Experts that saw no row: weight and index.
    pub fn unseen_experts(&self) -> impl Iterator<Item = (&str, usize)> {
        self.inputs.iter().flat_map(|(name, input)| {
            let unseen = (0..input.n_expert()).filter(|expert| !input.saw_rows(*expert));
            unseen.map(move |expert| (name.as_str(), expert))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn experts_with_a_count_and_no_sums_saw_nothing() {
        let mut input = InputStats::new(2, 2);
        input.counts = vec![4, 4];
        input.sum2 = vec![4.0, 0.0, 0.0, 0.0];
        assert_eq!(input.mean_square(0).unwrap(), [1.0, 0.0]);
        assert_eq!(input.mean_square(1), None);
        let inputs = IndexMap::from([("x".to_owned(), input)]);
        let stats = Stats { inputs, ..Stats::default() };
        assert_eq!(stats.unseen_experts().collect::<Vec<_>>(), [("x", 1)]);
    }
}
