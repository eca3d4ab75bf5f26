//! How sparse each block becomes: all equally, or blocks with many outliers less (OWL).
//!
//! ```text
//! D_l    = part of block l's scores above 5 times their mean
//! keep_l = (D_l - min D) / (max D - min D) * 2 * 0.08, centred on 1 - S
//! ```
//! Source: arXiv 2310.05175 and its code; scores are Wanda's, over all linears of a block.

use super::error::{Error, Result};

/// `M` of the paper: a score above this many means is an outlier.
const OUTLIER_MEANS: f64 = 5.0;
/// `lambda` of the paper: no block's sparsity lies further than this from the target, before
/// centring.
const REACH: f64 = 0.08;
/// No block is pruned further than this, unless the target itself is.
const MAX_SPARSITY: f64 = 0.99;
/// Bisection steps for the shift that restores the mean: more would exceed f64's precision.
const MAX_HALVINGS: usize = 100;

/// Mean of scores, gathered part by part.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ScoreMean {
    sum: f64,
    n: u64,
}

impl ScoreMean {
    /// Adds scores to the mean.
    pub fn add(&mut self, scores: &[f32]) {
        self.sum += scores.iter().map(|&s| f64::from(s)).sum::<f64>();
        self.n += scores.len() as u64;
    }

    /// Adds the sums of another part.
    pub fn merge(&mut self, other: ScoreMean) {
        self.sum += other.sum;
        self.n += other.n;
    }

    /// Scores added so far.
    pub fn n(&self) -> u64 {
        self.n
    }

    /// Scores above this limit are outliers.
    pub fn outlier_limit(&self) -> f64 {
        OUTLIER_MEANS * self.sum / self.n.max(1) as f64
    }
}

/// Scores above `limit`; over all scores of a block they are its D_l.
pub fn count_outliers(scores: &[f32], limit: f64) -> u64 {
    scores.iter().filter(|&&s| f64::from(s) > limit).count() as u64
}

/// `target` for each of `n_block` blocks.
///
/// # Errors
/// `target` outside (0, 1).
pub fn uniform(target: f64, n_block: usize) -> Result<Vec<f64>> {
    check(target)?;
    Ok(vec![target; n_block])
}

/// OWL's sparsity of each block from the blocks' outlier shares; their mean is `target`.
///
/// # Errors
/// `target` outside (0, 1), or a share that is negative or not finite.
pub fn owl(target: f64, shares: &[f64]) -> Result<Vec<f64>> {
    check(target)?;
    let bad = |share: &f64| !share.is_finite() || *share < 0.0;
    if let Some(block) = shares.iter().position(bad) {
        let what = "the outlier share";
        return Err(Error::OutlierShare { what, block, found: shares[block] });
    }
    let low = shares.iter().copied().fold(f64::INFINITY, f64::min);
    let span = shares.iter().copied().fold(0.0, f64::max) - low;
    if span <= 0.0 {
        return uniform(target, shares.len());
    }
    let keep: Vec<f64> = shares.iter().map(|d| (d - low) / span * 2.0 * REACH).collect();
    let mean = keep.iter().sum::<f64>() / keep.len() as f64;
    Ok(clamped(keep.iter().map(|k| target - (k - mean)).collect(), target))
}

fn check(target: f64) -> Result<()> {
    match target > 0.0 && target < 1.0 {
        true => Ok(()),
        false => Err(Error::Sparsity { found: target }),
    }
}

/// Clamps to the range of a sparsity and keeps the mean: all blocks are shifted by one amount to
/// make up for what is cut off.
fn clamped(sparsity: Vec<f64>, target: f64) -> Vec<f64> {
    let range = (0.0, target.max(MAX_SPARSITY));
    if sparsity.iter().all(|s| (range.0..=range.1).contains(s)) {
        return sparsity;
    }
    let shifted = |by: f64| -> Vec<f64> {
        sparsity.iter().map(|s| (s + by).clamp(range.0, range.1)).collect()
    };
    // The mean grows with the shift: at -1 all are 0, at 1 all are at the top.
    let (mut low, mut high) = (-1.0, 1.0);
    for _ in 0..MAX_HALVINGS {
        let middle = (low + high) / 2.0;
        let found = shifted(middle);
        match found.iter().sum::<f64>() / (found.len() as f64) < target {
            true => low = middle,
            false => high = middle,
        }
    }
    shifted(high)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_block_with_more_outliers_keeps_more() {
        let sparsity = owl(0.5, &[0.01, 0.03, 0.05]).unwrap();
        // keep before centring: 0, 0.08, 0.16.
        for (found, expected) in sparsity.iter().zip([0.58, 0.5, 0.42]) {
            assert!((found - expected).abs() < 1e-12, "{sparsity:?}");
        }
        assert_eq!(owl(0.3, &[0.2; 4]).unwrap(), [0.3; 4]);
        assert!(owl(0.3, &[]).unwrap().is_empty());
    }

    #[test]
    fn outliers_are_counted_against_five_means() {
        let mut mean = ScoreMean::default();
        let (a, b) = ([1.0f32; 6], [1.0f32, 1.0, 1.0, 31.0]);
        mean.add(&a);
        let mut other = ScoreMean::default();
        other.add(&b);
        mean.merge(other);
        assert_eq!((mean.n(), mean.outlier_limit()), (10, 20.0));
        assert_eq!(count_outliers(&a, 20.0) + count_outliers(&b, 20.0), 1);
    }

    #[test]
    fn what_is_no_sparsity_is_an_error() {
        for target in [0.0, 1.0, f64::NAN, -1.0] {
            assert!(matches!(uniform(target, 2), Err(Error::Sparsity { .. })));
        }
        let error = owl(0.5, &[0.1, f64::NAN]).unwrap_err();
        assert!(error.to_string().contains("block 1"), "{error}");
    }

    proptest! {
        #[test]
        fn the_mean_is_the_target_and_every_block_can_be_pruned(
            target in 0.01f64..0.999,
            shares in prop::collection::vec(0f64..0.2, 1..40),
        ) {
            let sparsity = owl(target, &shares).unwrap();
            let mean = sparsity.iter().sum::<f64>() / sparsity.len() as f64;
            prop_assert!((mean - target).abs() < 1e-9, "{mean} {target}");
            prop_assert!(sparsity.iter().all(|s| (0.0..1.0).contains(s)), "{sparsity:?}");
        }
    }
}
