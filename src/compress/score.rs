//! How much each weight matters: the lowest scores are pruned.
//!
//! ```text
//! magnitude  |W_ij|
//! Wanda      |W_ij| * |x_j|                                   arXiv 2306.11695
//! RIA        (|W_ij| / sum_i |W_ij| + |W_ij| / sum_j |W_ij|) * |x_j|^(1/2)
//!                                                             arXiv 2402.02834
//! ```
//! `|x_j|` is the root of the mean square of input channel j. Scores are f32, as in the references:
//! what is a tie there must be a tie here.

/// Power of the activations in RIA: `a` of the paper, which found 0.5 best.
const RIA_POWER: f64 = 0.5;

/// `sqrt(sum x_j^2 / n)` per channel, from the sums over `n` rows of a linear's input; None if `n`
/// is not a positive number: an expert that no token reached.
pub fn input_norms(in_sum2: &[f32], n: f64) -> Option<Vec<f32>> {
    let norm = |sum: &f32| ((f64::from(*sum) / n) as f32).sqrt();
    (n > 0.0).then(|| in_sum2.iter().map(norm).collect())
}

/// Adds `|W_ij|` of rows, `[n_rows, n_in]`, to the sums of their columns, `[n_in]`: RIA needs those
/// of the whole matrix first.
pub fn add_column_sums(rows: &[f32], sums: &mut [f64]) {
    for row in rows.chunks_exact(sums.len().max(1)) {
        sums.iter_mut().zip(row).for_each(|(sum, w)| *sum += f64::from(w.abs()));
    }
}

/// A score, with what it needs to know of the matrix.
#[derive(Debug, Clone, Copy)]
pub enum Score<'a> {
    /// `|W|`.
    Magnitude,
    /// Wanda, with the norms of the input channels, `[n_in]`.
    Wanda {
        /// See [`input_norms`].
        norms: &'a [f32],
    },
    /// RIA, with the norms as well and the sums of the columns, `[n_in]`.
    Ria {
        /// See [`input_norms`].
        norms: &'a [f32],
        /// See [`add_column_sums`].
        column_sums: &'a [f64],
    },
}

impl Score<'_> {
    /// Scores of one row of the matrix, each 0 or more; NaN where the weight is.
    pub fn fill(self, row: &[f32], out: &mut [f32]) {
        let cells = out.iter_mut().zip(row);
        match self {
            Score::Magnitude => cells.for_each(|(score, w)| *score = w.abs()),
            Score::Wanda { norms } => {
                cells.zip(norms).for_each(|((score, w), norm)| *score = w.abs() * norm);
            }
            Score::Ria { norms, column_sums } => {
                let row_sum: f64 = row.iter().map(|w| f64::from(w.abs())).sum();
                for (((score, w), norm), column_sum) in cells.zip(norms).zip(column_sums) {
                    let w = f64::from(w.abs());
                    // A column of zeros: 0 / 0 would be NaN, and be kept as the largest.
                    let relative = if w == 0.0 { 0.0 } else { w / column_sum + w / row_sum };
                    *score = (relative * f64::from(*norm).powf(RIA_POWER)) as f32;
                }
            }
        }
    }

    /// True if the slices are as long as a row.
    pub(super) fn fits(self, n_cols: usize) -> bool {
        match self {
            Score::Magnitude => true,
            Score::Wanda { norms } => norms.len() == n_cols,
            Score::Ria { norms, column_sums } => [norms.len(), column_sums.len()] == [n_cols; 2],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_follow_their_formulas() {
        let rows = [1.0f32, -2.0, 0.0, 3.0, 2.0, 0.0];
        let norms = input_norms(&[8.0, 2.0, 0.0], 2.0).unwrap();
        assert_eq!(norms, [2.0, 1.0, 0.0]);
        let mut out = [9.0; 3];
        Score::Magnitude.fill(&rows[..3], &mut out);
        assert_eq!(out, [1.0, 2.0, 0.0]);
        Score::Wanda { norms: &norms }.fill(&rows[..3], &mut out);
        assert_eq!(out, [2.0, 2.0, 0.0]);
        let mut sums = [0.0; 3];
        add_column_sums(&rows, &mut sums);
        assert_eq!(sums, [4.0, 4.0, 0.0]);
        Score::Ria { norms: &norms, column_sums: &sums }.fill(&rows[..3], &mut out);
        let first = (1.0 / 4.0 + 1.0 / 3.0) * 2f64.sqrt();
        assert_eq!(out, [first as f32, (2.0f64 / 4.0 + 2.0 / 3.0) as f32, 0.0]);
    }

    #[test]
    fn an_expert_that_saw_no_token_has_no_norms() {
        assert_eq!(input_norms(&[0.0], 0.0), None);
        assert_eq!(input_norms(&[0.0], f64::NAN), None);
    }
}
