//! Which weights become zero: the lowest scores of a row, or of each run of its columns.
//!
//! Ties go as in a stable sort: the lowest index is zeroed first. But nothing is sorted: a
//! threshold is found that k scores do not exceed, and those are zeroed.

use std::cmp::Ordering;

use rayon::prelude::*;

use super::error::{Error, Result};
use super::score::Score;
use crate::quant::ZeroChooser;

/// Longest run whose ranks are counted by comparing every pair; longer ones are selected from.
const MAX_RANKED: usize = 8;
/// Elements per task.
const ELEMENTS_PER_TASK: usize = 64 << 10;
/// All bits of an f32 but its sign: the bits of numbers of 0 or more are in the order of the
/// numbers, NaN above infinity.
const WITHOUT_SIGN: u32 = 0x7fff_ffff;

/// How many weights become zero, and where they are counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pattern {
    /// This part of every row.
    Ratio(f64),
    /// `n` of each `m` consecutive columns.
    OfEach {
        /// Zeros in each run.
        n: usize,
        /// Columns in a run.
        m: usize,
    },
}

impl Pattern {
    /// Whether any matrix can be pruned by it.
    ///
    /// # Errors
    /// A ratio outside (0, 1), or n not below m.
    pub fn check(self) -> Result<()> {
        let n_cols = match self {
            Pattern::OfEach { m, .. } => m,
            Pattern::Ratio(_) => 1,
        };
        self.n_zeros(n_cols).map(drop)
    }

    /// Zeros in each row of `n_cols`.
    ///
    /// # Errors
    /// A ratio outside (0, 1), n not below m, or rows that are not a whole number of runs.
    pub fn n_zeros(self, n_cols: usize) -> Result<usize> {
        match self {
            Pattern::Ratio(found) if !(found > 0.0 && found < 1.0) => {
                Err(Error::Sparsity { found })
            }
            Pattern::Ratio(ratio) => Ok(n_lowest(n_cols, ratio)),
            Pattern::OfEach { n, m } if n == 0 || n >= m => Err(Error::Pattern { n, m }),
            Pattern::OfEach { m, .. } if !n_cols.is_multiple_of(m) => {
                Err(Error::Width { n_cols, len: m })
            }
            Pattern::OfEach { n, m } => Ok(n_cols / m * n),
        }
    }
}

/// Columns of a row that a ratio is kept among in a sweep, as SparseGPT's blocks.
const RUN: usize = 128;

impl ZeroChooser for Pattern {
    fn run_len(&self) -> usize {
        match *self {
            Pattern::Ratio(_) => RUN,
            Pattern::OfEach { m, .. } => m,
        }
    }

    fn zero(&self, first: usize, weights: &mut [f32], scores: &[f32]) {
        let n_zeros = match *self {
            // So that those of all runs add up to the row's.
            Pattern::Ratio(ratio) => {
                n_lowest(first + weights.len(), ratio) - n_lowest(first, ratio)
            }
            Pattern::OfEach { n, .. } => n,
        };
        zero_lowest(weights, scores, n_zeros, &mut Vec::new());
    }
}

/// `int(n_in * ratio)`: the product in f64, truncated.
pub fn n_lowest(n_cols: usize, ratio: f64) -> usize {
    (n_cols as f64 * ratio) as usize
}

/// Zeroes the lowest scores of every row of `values`, `[n_rows, n_cols]`, in parallel.
///
/// # Errors
/// See [`Pattern::n_zeros`]; or a score of another width.
pub fn prune_rows(
    values: &mut [f32],
    n_cols: usize,
    score: Score<'_>,
    pattern: Pattern,
) -> Result<()> {
    let n_zeros = pattern.n_zeros(n_cols)?;
    if n_cols == 0 || !values.len().is_multiple_of(n_cols) || !score.fits(n_cols) {
        let what = "weights to prune and their score";
        return Err(Error::Length { what, found: values.len(), expected: n_cols });
    }
    let per_task = (ELEMENTS_PER_TASK / n_cols).max(1) * n_cols;
    values.par_chunks_mut(per_task).for_each_init(
        || (vec![0.0f32; n_cols], Vec::new()),
        |(scores, scratch), rows| {
            for row in rows.chunks_exact_mut(n_cols) {
                score.fill(row, scores);
                match pattern {
                    Pattern::Ratio(_) => zero_lowest(row, scores, n_zeros, scratch),
                    Pattern::OfEach { n, m } => zero_of_each(row, scores, n, m, scratch),
                }
            }
        },
    );
    Ok(())
}

/// Zeroes the `k` elements of `row` whose `scores` are lowest. Scores are 0 or more (their signs
/// are ignored); NaN counts as the highest. `scratch` is any vector, kept by the caller so that
/// rows share it.
pub fn zero_lowest(row: &mut [f32], scores: &[f32], k: usize, scratch: &mut Vec<u32>) {
    if k == 0 || k >= row.len() {
        row[..k.min(scores.len())].fill(0.0);
        return;
    }
    let bits = |score: &f32| score.to_bits() & WITHOUT_SIGN;
    scratch.clear();
    scratch.extend(scores.iter().map(bits));
    let (highest, up_to) = threshold(scratch, k);
    if up_to == k {
        let cells = row.iter_mut().zip(scores);
        cells.for_each(|(w, s)| *w = if bits(s) <= highest { 0.0 } else { *w });
        return;
    }
    // More equal scores than places: the first ones go.
    let below = scratch.iter().filter(|s| **s < highest).count();
    let mut places = k - below;
    for (w, s) in row.iter_mut().zip(scores) {
        let equal = bits(s) == highest;
        if bits(s) < highest || (equal && places > 0) {
            *w = 0.0;
            places -= usize::from(equal);
        }
    }
}

/// A number that `k` of `keys` do not exceed, or, if equal keys allow none, the smallest that more
/// do not exceed; and how many they are. Found by bisection of the range of numbers: each count
/// runs over the row in vector registers, and a dozen or two of them take far less time than
/// selection in place, which moves elements.
fn threshold(keys: &[u32], k: usize) -> (u32, usize) {
    let up_to = |limit: u32| keys.iter().map(|key| u32::from(*key <= limit)).sum::<u32>() as usize;
    // The least such number lies in low..=high.
    let (mut low, mut high) = (0, WITHOUT_SIGN);
    while low < high {
        let middle = low + (high - low) / 2;
        match up_to(middle).cmp(&k) {
            Ordering::Equal => return (middle, k),
            Ordering::Less => low = middle + 1,
            Ordering::Greater => high = middle,
        }
    }
    (low, up_to(low))
}

/// Zeroes the `n` lowest of each `m` consecutive elements; what [`Pattern::n_zeros`] checks must
/// hold.
pub fn zero_of_each(row: &mut [f32], scores: &[f32], n: usize, m: usize, scratch: &mut Vec<u32>) {
    match m {
        4 => zero_ranked::<4>(row, scores, n),
        8 => zero_ranked::<8>(row, scores, n),
        _ => {
            let runs = row.chunks_exact_mut(m).zip(scores.chunks_exact(m));
            runs.for_each(|(run, scores)| zero_lowest(run, scores, n, scratch));
        }
    }
}

/// A score's rank is the number of scores before it; those of rank below `n` go.
fn zero_ranked<const M: usize>(row: &mut [f32], scores: &[f32], n: usize) {
    const { assert!(M <= MAX_RANKED) };
    let (runs, _) = row.as_chunks_mut::<M>();
    for (run, scores) in runs.iter_mut().zip(scores.as_chunks::<M>().0) {
        let bits = scores.map(|score| score.to_bits() & WITHOUT_SIGN);
        for (i, w) in run.iter_mut().enumerate() {
            let before = |(j, other): (usize, &u32)| {
                usize::from(*other < bits[i] || (*other == bits[i] && j < i))
            };
            let rank: usize = bits.iter().enumerate().map(before).sum();
            *w = if rank < n { 0.0 } else { *w };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::compress::golden::Golden;

    /// The definition: sort stably, zero the first k.
    fn sorted_out(row: &[f32], scores: &[f32], k: usize) -> Vec<f32> {
        let mut order: Vec<usize> = (0..row.len()).collect();
        order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
        let mut out = row.to_vec();
        order[..k].iter().for_each(|&i| out[i] = 0.0);
        out
    }

    /// Few different values, so that most are ties; NaN and infinity among them.
    fn score() -> impl Strategy<Value = f32> {
        prop_oneof![
            8 => (0u8..6).prop_map(f32::from),
            4 => 0f32..3.0,
            1 => Just(f32::NAN),
            1 => Just(f32::INFINITY),
        ]
    }

    proptest! {
        #[test]
        fn selecting_is_sorting(
            (scores, k) in prop::collection::vec(score(), 1..300)
                .prop_flat_map(|s| { let n = s.len(); (Just(s), 0..=n) })
        ) {
            let row: Vec<f32> = (0..scores.len()).map(|i| i as f32 + 1.0).collect();
            let mut pruned = row.clone();
            zero_lowest(&mut pruned, &scores, k, &mut Vec::new());
            prop_assert_eq!(pruned, sorted_out(&row, &scores, k));
        }

        #[test]
        fn of_each_run_the_lowest_go(
            scores in prop::collection::vec(score(), 240),
            (n, m) in prop_oneof![
                (1usize..4, Just(4usize)),
                (1usize..8, Just(8usize)),
                (1usize..12, Just(12usize)),
            ]
        ) {
            let row: Vec<f32> = (0..240).map(|i| i as f32 + 1.0).collect();
            let mut pruned = row.clone();
            zero_of_each(&mut pruned, &scores, n, m, &mut Vec::new());
            let runs = row.chunks(m).zip(scores.chunks(m));
            let expected: Vec<f32> = runs.flat_map(|(r, s)| sorted_out(r, s, n)).collect();
            prop_assert_eq!(pruned, expected);
        }
    }

    #[test]
    fn masks_are_those_of_the_references_formulas() {
        let golden = Golden::open("masks");
        let weight = golden.f16("weight");
        let n_cols = golden.shape("weight")[1];
        let n_tokens = golden.i64("n_tokens")[0] as f64;
        let norms = super::super::score::input_norms(&golden.f32("in_sum2"), n_tokens).unwrap();
        let mut column_sums = vec![0.0; n_cols];
        super::super::score::add_column_sums(&weight, &mut column_sums);
        let scores = [
            ("wanda", Score::Wanda { norms: &norms }),
            ("magnitude", Score::Magnitude),
            ("ria", Score::Ria { norms: &norms, column_sums: &column_sums }),
        ];
        let patterns = [
            ("r50", Pattern::Ratio(0.5)),
            ("r37", Pattern::Ratio(0.37)),
            ("2of4", Pattern::OfEach { n: 2, m: 4 }),
            ("5of8", Pattern::OfEach { n: 5, m: 8 }),
            ("3of16", Pattern::OfEach { n: 3, m: 16 }),
        ];
        let mut n_compared = 0;
        for (score_name, score) in scores {
            for (pattern_name, pattern) in patterns {
                let name = format!("{score_name}.{pattern_name}");
                let mut pruned = weight.clone();
                prune_rows(&mut pruned, n_cols, score, pattern).unwrap();
                let kept = golden.u8(&name).iter().map(|&kept| f32::from(kept)).collect::<Vec<_>>();
                let expected: Vec<f32> = weight.iter().zip(kept).map(|(w, k)| w * k).collect();
                assert_eq!(pruned, expected, "{name}");
                n_compared += 1;
            }
        }
        assert_eq!(n_compared, 15);
    }

    #[test]
    fn zeros_of_runs_add_up_to_those_of_the_row() {
        let scores: Vec<f32> = (0..RUN).map(|i| i as f32).collect();
        for ratio in [0.005, 0.3, 0.5] {
            let pattern = Pattern::Ratio(ratio);
            let zeros = |first: usize| {
                let mut run = vec![1.0; RUN];
                pattern.zero(first, &mut run, &scores);
                run.iter().filter(|w| **w == 0.0).count()
            };
            let all: usize = (0..8).map(|i| zeros(i * RUN)).sum();
            assert_eq!(all, pattern.n_zeros(8 * RUN).unwrap(), "{ratio}");
        }
    }

    #[test]
    fn patterns_that_do_not_fit_are_errors() {
        let of_each = |n, m| Pattern::OfEach { n, m };
        assert!(matches!(of_each(2, 4).n_zeros(6), Err(Error::Width { n_cols: 6, len: 4 })));
        for pattern in [of_each(4, 4), of_each(0, 4), of_each(0, 0)] {
            assert!(matches!(pattern.n_zeros(8), Err(Error::Pattern { .. })));
        }
        for ratio in [0.0, 1.0, -0.5, f64::NAN] {
            assert!(matches!(Pattern::Ratio(ratio).n_zeros(8), Err(Error::Sparsity { .. })));
        }
        // 0.29 * 100 is 28.999... in f64, and is truncated as the references truncate it.
        assert_eq!(Pattern::Ratio(0.29).n_zeros(100).unwrap(), 28);
        let wrong = Score::Wanda { norms: &[1.0; 3] };
        assert!(prune_rows(&mut [1.0; 8], 4, wrong, Pattern::Ratio(0.5)).is_err());
    }
}
