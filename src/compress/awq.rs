//! AWQ's scale search: which input channels of a group of linears to enlarge before rounding.
//!
//! ```text
//! W x  ~  (Q(W * s) / s) x        s_j > 0: one scale an input channel, shared by the group
//! s_j = clamp(m_j^a, 1e-4)                             m_j = mean |x_j|
//! s_j = clamp(m_j^a / (w_j^(1-a) + 1e-4), 1e-4)        "duo", AutoAWQ's
//! s  /= sqrt(max s * min s)                            a = 0, 1/20 .. 19/20
//! loss = sum_ij E[x_j^2] * (Q(W * s)_ij / s_j - W_ij)^2
//! ```
//! Source: arXiv 2306.00978; mit-han-lab/llm-awq `auto_scale.py`; casper-hansen/AutoAWQ. The
//! loss is the error of the layer's output with the products of different channels left out,
//! which costs the chosen a at most 1.5 %; so E[x^2] is all that is needed of the inputs. Q is
//! the type that the file will have. Plain a = 0 changes nothing, and comes first.
//!
//! The division by s is folded into what makes x: see [`super::fold`].

use rayon::prelude::*;

use super::error::{Error, Result};
use super::faithful::{self, Scheme};
use crate::gguf::GgmlType;
use crate::quant::{PRUNED, decode_rows, encode_pruned_rows};

/// Exponents tried: 0, 1/20 .. 19/20.
const N_STEPS: u32 = 20;
/// Least scale before they are normalised.
const MIN_SCALE: f64 = 1e-4;
/// Added to the weights' part of a duo scale.
const DUO_EPSILON: f64 = 1e-4;
/// Added to a group's absmax.
const ABSMAX_EPSILON: f64 = 1e-6;
/// Columns whose absmax a weight is compared with, if the type has its own blocks.
const BLOCK_LEN: usize = 32;
/// Elements per task.
const ELEMENTS_PER_TASK: usize = 16 << 10;

/// How a linear is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// ggml's type, with importance E[x^2] / s^2.
    Ggml(GgmlType),
    /// The reference's grid.
    Faithful(Scheme),
}

impl Rounding {
    /// Columns that share a scale.
    pub fn group_len(self) -> usize {
        match self {
            Rounding::Ggml(_) => BLOCK_LEN,
            Rounding::Faithful(_) => faithful::GROUP,
        }
    }

    /// Rounds rows, `[n_rows, n_cols]`, in place; `bytes` is any vector.
    fn round(self, rows: &mut [f32], importance: &[f32], bytes: &mut Vec<u8>) -> Result<()> {
        let n_cols = importance.len();
        match self {
            Rounding::Faithful(scheme) => faithful::round_rows(rows, n_cols, scheme),
            Rounding::Ggml(ty) => {
                let row_bytes = ty.bytes_for(n_cols as u64).unwrap_or(0) as usize;
                bytes.resize(rows.len() / n_cols * row_bytes, 0);
                encode_pruned_rows(ty, rows, n_cols, Some(importance), PRUNED, bytes)?;
                Ok(decode_rows(ty, bytes, n_cols, rows)?)
            }
        }
    }
}

/// Rows of one linear of a group, or some of them.
#[derive(Debug, Clone, Copy)]
pub struct Linear<'a> {
    /// `[n_rows, n_in]`.
    pub rows: &'a [f32],
    /// E[x_j^2] of its input, `[n_in]`. Of an expert: its sum over the tokens of all experts.
    pub mean_sq: &'a [f32],
    /// What it will be rounded to.
    pub rounding: Rounding,
}

/// Which formula made the scales.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AwqVariant {
    /// From only the activations.
    Plain,
    /// From activations and weights.
    Duo,
}

/// One point of the grid.
#[derive(Debug, Clone, PartialEq)]
pub struct AwqCandidate {
    /// Which formula made its scales.
    pub variant: AwqVariant,
    /// The exponent a, in twentieths.
    pub step: u32,
    /// s, `[n_in]`.
    pub scales: Vec<f32>,
}

/// The best point of the grid.
#[derive(Debug, Clone, PartialEq)]
pub struct AwqFound {
    /// Its formula, exponent and scales.
    pub best: AwqCandidate,
    /// The loss with these scales.
    pub loss: f64,
    /// The loss without scaling.
    pub identity_loss: f64,
}

impl AwqFound {
    /// The exponent a, from 0 to 0.95.
    pub fn exponent(&self) -> f64 {
        f64::from(self.best.step) / f64::from(N_STEPS)
    }

    /// True if the scales change nothing.
    pub fn is_identity(&self) -> bool {
        self.best.scales.iter().all(|s| *s == 1.0)
    }
}

/// `w_j` of the duo scales: the mean over rows of `|W_ij|`, relative to the absmax of its group
/// of columns. Gathered over all linears of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightMeans {
    sums: Vec<f64>,
    n_rows: u64,
}

impl WeightMeans {
    /// Means for linears with `n_in` inputs.
    pub fn new(n_in: usize) -> WeightMeans {
        WeightMeans { sums: vec![0.0; n_in], n_rows: 0 }
    }

    /// Adds rows, `[n_rows, n_in]`, whose groups have `group_len` columns: [`Rounding::group_len`].
    pub fn add(&mut self, rows: &[f32], group_len: usize) {
        for row in rows.chunks_exact(self.sums.len().max(1)) {
            for (group, sums) in row.chunks(group_len).zip(self.sums.chunks_mut(group_len)) {
                let absmax = group.iter().map(|w| w.abs()).fold(0.0, f32::max);
                let unit = 1.0 / (f64::from(absmax) + ABSMAX_EPSILON);
                sums.iter_mut().zip(group).for_each(|(s, w)| *s += f64::from(w.abs()) * unit);
            }
            self.n_rows += 1;
        }
    }

    /// The means w, `[n_in]`.
    pub fn means(&self) -> Vec<f32> {
        self.sums.iter().map(|s| (s / self.n_rows.max(1) as f64) as f32).collect()
    }
}

/// The whole grid, identity first; without `weight_means` no duo scales.
fn candidates(mean_abs: &[f32], weight_means: Option<&[f32]>) -> Vec<AwqCandidate> {
    let steps = |variant| (0..N_STEPS).map(move |step| (variant, step));
    let duo = weight_means.map(|means| (AwqVariant::Duo, means));
    let grid = steps(AwqVariant::Plain).chain(duo.into_iter().flat_map(|(v, _)| steps(v)));
    let candidate = |(variant, step): (AwqVariant, u32)| {
        let a = f64::from(step) / f64::from(N_STEPS);
        let of_inputs = mean_abs.iter().map(|m| f64::from(*m).powf(a));
        let raw: Vec<f64> = match (variant, weight_means) {
            (AwqVariant::Duo, Some(means)) => {
                let of_weights = means.iter().map(|w| f64::from(*w).powf(1.0 - a) + DUO_EPSILON);
                of_inputs.zip(of_weights).map(|(m, w)| m / w).collect()
            }
            _ => of_inputs.collect(),
        };
        AwqCandidate { variant, step, scales: normalised(raw) }
    };
    grid.map(candidate).collect()
}

fn normalised(raw: Vec<f64>) -> Vec<f32> {
    let raw = raw.into_iter().map(|s| s.max(MIN_SCALE)).collect::<Vec<_>>();
    let most = raw.iter().copied().fold(0.0, f64::max);
    let least = raw.iter().copied().fold(f64::INFINITY, f64::min);
    let unit = (most * least).sqrt();
    raw.into_iter().map(|s| (s / unit) as f32).collect()
}

/// A running search: rows of the group's linears can be added in any portions; sums go row by row,
/// so that neither portions nor threads change them.
#[derive(Debug, Clone)]
pub struct AwqSearch {
    group: String,
    n_in: usize,
    candidates: Vec<AwqCandidate>,
    losses: Vec<f64>,
}

impl AwqSearch {
    /// A search for the group called `group` in errors. `mean_abs` is E|x_j|, `[n_in]`, and
    /// `weight_means` what [`WeightMeans`] found; where scales must be equal in several columns,
    /// both must be: see [`super::Group::tie`].
    ///
    /// # Errors
    /// A mean is negative or not finite, or their numbers differ.
    pub fn new(group: &str, mean_abs: &[f32], weight_means: Option<&[f32]>) -> Result<AwqSearch> {
        for (what, means) in [("E|x", Some(mean_abs)), ("mean |W", weight_means)] {
            let means = means.unwrap_or_default();
            if let Some(j) = means.iter().position(|m| !m.is_finite() || *m < 0.0) {
                let (group, found) = (group.into(), f64::from(means[j]));
                return Err(Error::NotFinite { group, what: format!("{what}_{j}|"), found });
            }
        }
        let (expected, found) = (mean_abs.len(), weight_means.map_or(mean_abs.len(), <[f32]>::len));
        if found != expected {
            return Err(Error::Length { what: "means of the weights", found, expected });
        }
        let candidates = candidates(mean_abs, weight_means);
        let losses = vec![0.0; candidates.len()];
        Ok(AwqSearch { group: group.into(), n_in: mean_abs.len(), candidates, losses })
    }

    /// The points that are compared.
    pub fn candidates(&self) -> &[AwqCandidate] {
        &self.candidates
    }

    /// Adds the loss of these rows at every point. A sample of a linear's rows ranks the points
    /// nearly as all of its rows do.
    ///
    /// # Errors
    /// Another width, or rows that the type cannot hold.
    pub fn add(&mut self, linear: &Linear<'_>) -> Result<()> {
        let (n_in, found) = (self.n_in, linear.mean_sq.len());
        if found != n_in {
            return Err(Error::Length { what: "mean squares of the input", found, expected: n_in });
        }
        if n_in == 0 || !linear.rows.len().is_multiple_of(n_in) {
            return Err(Error::Width { n_cols: linear.rows.len(), len: n_in });
        }
        let importance = |c: &AwqCandidate| super::awq::importance(linear.mean_sq, &c.scales);
        let weights: Vec<Vec<f32>> = self.candidates.iter().map(importance).collect();
        let per_task = (ELEMENTS_PER_TASK / n_in).max(1) * n_in;
        let tasks = linear.rows.par_chunks(per_task);
        let parts = tasks.map(|rows| {
            let points = self.candidates.iter().zip(&weights);
            let losses = points.map(|(c, w)| row_losses(rows, &c.scales, w, linear));
            losses.collect::<Result<Vec<Vec<f64>>>>()
        });
        for part in parts.collect::<Result<Vec<_>>>()? {
            for (sum, rows) in self.losses.iter_mut().zip(part) {
                rows.into_iter().for_each(|loss| *sum += loss);
            }
        }
        Ok(())
    }

    /// The point of least loss; the first of equals.
    ///
    /// # Errors
    /// A loss is not finite.
    pub fn best(self) -> Result<AwqFound> {
        if let Some(i) = self.losses.iter().position(|loss| !loss.is_finite()) {
            let at = f64::from(self.candidates[i].step) / f64::from(N_STEPS);
            let what = format!("the loss at exponent {at}");
            return Err(Error::NotFinite { group: self.group, what, found: self.losses[i] });
        }
        let identity_loss = self.losses[0];
        let least =
            |best: usize, i: usize| if self.losses[i] < self.losses[best] { i } else { best };
        let best = (0..self.losses.len()).fold(0, least);
        let loss = self.losses[best];
        let mut candidates = self.candidates;
        Ok(AwqFound { best: candidates.swap_remove(best), loss, identity_loss })
    }
}

/// Searches for linears that are in memory as a whole; `duo` also tries those scales.
///
/// # Errors
/// As [`AwqSearch`]'s.
pub fn search(
    group: &str,
    mean_abs: &[f32],
    linears: &[Linear<'_>],
    duo: bool,
) -> Result<AwqFound> {
    let mut means = WeightMeans::new(mean_abs.len());
    linears.iter().filter(|_| duo).for_each(|l| means.add(l.rows, l.rounding.group_len()));
    let means = duo.then(|| means.means());
    let mut search = AwqSearch::new(group, mean_abs, means.as_deref())?;
    linears.iter().try_for_each(|linear| search.add(linear))?;
    search.best()
}

/// How much errors of `W * s` matter: E[x^2] / s^2, `[n_in]`.
pub fn importance(mean_sq: &[f32], scales: &[f32]) -> Vec<f32> {
    mean_sq.iter().zip(scales).map(|(x2, s)| x2 / (s * s)).collect()
}

/// Loss of each row at one point.
fn row_losses(
    rows: &[f32],
    scales: &[f32],
    importance: &[f32],
    linear: &Linear<'_>,
) -> Result<Vec<f64>> {
    let n_in = scales.len();
    let mut rounded = rows.to_vec();
    for row in rounded.chunks_exact_mut(n_in) {
        row.iter_mut().zip(scales).for_each(|(w, s)| *w *= s);
    }
    linear.rounding.round(&mut rounded, importance, &mut Vec::new())?;
    let loss = |(row, rounded): (&[f32], &[f32])| -> f64 {
        let cells = row.iter().zip(rounded).zip(scales.iter().zip(linear.mean_sq));
        let error = |((w, q), (s, x2)): ((&f32, &f32), (&f32, &f32))| {
            let difference = f64::from(*q) / f64::from(*s) - f64::from(*w);
            f64::from(*x2) * difference * difference
        };
        cells.map(error).sum()
    };
    Ok(rows.chunks_exact(n_in).zip(rounded.chunks_exact(n_in)).map(loss).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::compress::golden::Golden;

    const N_IN: usize = 256;

    /// Weights, E|x| and E[x^2] with a few channels that are far larger than the others.
    fn problem(seed: u64, n_rows: usize) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let wave = |i: usize, f: f64| ((i as f64 + seed as f64 * 7.3) * f).sin();
        let weight = (0..n_rows * N_IN).map(|i| (wave(i, 0.37) * wave(i, 1.91)) as f32).collect();
        let size = |j: usize| if j % 19 == 3 { 30.0 } else { 0.3 + wave(j, 0.77).abs() };
        let mean_abs: Vec<f32> = (0..N_IN).map(|j| size(j) as f32).collect();
        let mean_sq = mean_abs.iter().map(|m| 1.5 * m * m).collect();
        (weight, mean_abs, mean_sq)
    }

    #[test]
    fn exponents_losses_and_scales_are_the_references() {
        let golden = Golden::open("awq");
        let (mean_abs, mean_sq) = (golden.f32("mean_abs"), golden.f32("mean_sq"));
        let weights = [golden.f32("weight.0"), golden.f32("weight.1")];
        let cases = [
            ("asymmetric", Rounding::Faithful(Scheme::Asymmetric)),
            ("symmetric", Rounding::Faithful(Scheme::Symmetric)),
            ("q8_0", Rounding::Ggml(GgmlType::Q8_0)),
        ];
        for (name, rounding) in cases {
            for (kind, duo) in [("plain", false), ("duo", true)] {
                let part = |what: &str| format!("search.{name}.{kind}.{what}");
                let linear = |rows| Linear { rows, mean_sq: &mean_sq, rounding };
                let linears = [linear(&weights[0]), linear(&weights[1])];
                let found = search("g", &mean_abs, &linears, duo).unwrap();
                let is_duo = i64::from(found.best.variant == AwqVariant::Duo);
                let chosen = vec![is_duo, i64::from(found.best.step)];
                assert_eq!(chosen, golden.i64(&part("chosen")), "{name} {kind}");
                let losses = [found.identity_loss, found.loss];
                for (loss, expected) in losses.iter().zip(golden.f64(&part("losses"))) {
                    assert!((loss / expected - 1.0).abs() < 1e-5, "{name} {kind}: {loss}");
                }
                for (s, expected) in found.best.scales.iter().zip(golden.f32(&part("scales"))) {
                    assert!((s / expected - 1.0).abs() < 1e-6, "{name} {kind}");
                }
            }
        }
    }

    #[test]
    fn the_search_lowers_the_loss_of_every_type() {
        let (rows, mean_abs, mean_sq) = problem(1, 24);
        for ty in [GgmlType::Q4_0, GgmlType::Q4_1, GgmlType::Q4_K, GgmlType::Q2_K] {
            let rounding = Rounding::Ggml(ty);
            let linear = Linear { rows: &rows, mean_sq: &mean_sq, rounding };
            let found = search("g", &mean_abs, &[linear], true).unwrap();
            assert!(found.loss < found.identity_loss, "{ty}");
            assert!(!found.is_identity() && found.loss > 0.0, "{ty}");
        }
        // F32 loses next to nothing, so that nothing is better than to leave it.
        let exact = Rounding::Ggml(GgmlType::F32);
        let linear = Linear { rows: &rows, mean_sq: &mean_sq, rounding: exact };
        let found = search("g", &mean_abs, &[linear], true).unwrap();
        assert!(found.is_identity());
        assert_eq!((found.loss, found.identity_loss, found.exponent()), (0.0, 0.0, 0.0));
    }

    #[test]
    fn neither_portions_nor_threads_change_what_is_found() {
        let (rows, mean_abs, mean_sq) = problem(2, 150);
        let rounding = Rounding::Ggml(GgmlType::Q4_0);
        let whole = Linear { rows: &rows, mean_sq: &mean_sq, rounding };
        let run = |n_threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
            pool.install(|| search("g", &mean_abs, &[whole], false).unwrap())
        };
        let expected = run(1);
        assert_eq!(run(4), expected);
        let mut search = AwqSearch::new("g", &mean_abs, None).unwrap();
        for rows in rows.chunks(7 * N_IN) {
            search.add(&Linear { rows, ..whole }).unwrap();
        }
        assert_eq!(search.best().unwrap(), expected);
    }

    #[test]
    fn what_is_no_number_is_an_error_that_names_the_group() {
        let (mut rows, mut mean_abs, mean_sq) = problem(3, 4);
        rows[300] = f32::NAN;
        let rounding = Rounding::Faithful(Scheme::Asymmetric);
        let linear = Linear { rows: &rows, mean_sq: &mean_sq, rounding };
        let error = search("blk.3.attn_norm", &mean_abs, &[linear], false).unwrap_err();
        assert!(error.to_string().contains("'blk.3.attn_norm'"), "{error}");
        mean_abs[5] = f32::INFINITY;
        let error = AwqSearch::new("g", &mean_abs, None).unwrap_err();
        assert!(error.to_string().contains("E|x_5|"), "{error}");
        let error = AwqSearch::new("g", &mean_abs[..4], Some(&[1.0; 3])).unwrap_err();
        assert!(matches!(error, Error::Length { .. }));
        let mut narrow = AwqSearch::new("g", &mean_abs[..4], None).unwrap();
        assert!(matches!(narrow.add(&linear), Err(Error::Length { .. })));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn scales_are_positive_and_identity_comes_first(
            means in prop::collection::vec(
                (prop_oneof![4 => 0f32..50.0, 1 => Just(0.0)], 0f32..1.0), 1..70)
        ) {
            let (mean_abs, weights): (Vec<f32>, Vec<f32>) = means.into_iter().unzip();
            let grid = candidates(&mean_abs, Some(&weights));
            prop_assert_eq!(grid.len(), 40);
            prop_assert!(grid[0].scales.iter().all(|s| *s == 1.0));
            prop_assert!(grid.iter().flat_map(|c| &c.scales).all(|s| s.is_finite() && *s > 0.0));
            // Channels that are alike are scaled alike: what ties columns, ties scales.
            for c in &grid {
                for j in 1..mean_abs.len() {
                    let alike = mean_abs[j] == mean_abs[0] && weights[j] == weights[0];
                    prop_assert!(!alike || c.scales[j] == c.scales[0]);
                }
            }
        }
    }
}
