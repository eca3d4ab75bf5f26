//! Magnitude pruning's one threshold per matrix: `sorted(|W|)[int(numel * ratio)]`; what is not
//! above it becomes zero (ties overshoot, as in the reference).
//!
//! Exact, in two passes and memory that does not grow: `|w|`'s bits are in `|w|`'s order, so the
//! first pass counts their high 16, the second the low 16 of those whose high 16 are the
//! threshold's.
//!
//! ```text
//! 0 eeeeeeee mmmmmmm | mmmmmmmmmmmmmmmm     f32 without its sign: high (15 bits), low
//! ```
//! Counts add up, so threads may count parts of the matrix each.

/// Values of the high half: the sign is gone.
const N_HIGH: usize = 1 << 15;
/// Values of the low half.
const N_LOW: usize = 1 << 16;

fn halves(w: f32) -> (usize, usize) {
    let bits = w.abs().to_bits();
    ((bits >> 16) as usize, (bits & 0xffff) as usize)
}

/// Place of the threshold among `n` sorted elements: `int(n * ratio)`.
pub fn threshold_rank(n: u64, ratio: f64) -> u64 {
    ((n as f64 * ratio) as u64).min(n.saturating_sub(1))
}

/// First pass: how often each high half occurs.
#[derive(Debug, Clone, PartialEq)]
pub struct HighCounts(Vec<u64>);

impl Default for HighCounts {
    fn default() -> HighCounts {
        HighCounts(vec![0; N_HIGH])
    }
}

impl HighCounts {
    /// Counts more elements of the matrix.
    pub fn add(&mut self, values: &[f32]) {
        values.iter().for_each(|&w| self.0[halves(w).0] += 1);
    }

    /// Adds the counts of another part.
    pub fn merge(&mut self, other: &HighCounts) {
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a += b);
    }

    /// What the second pass must count for the element at `rank`, from 0; None if there are no
    /// more than `rank` elements.
    pub fn narrow(&self, rank: u64) -> Option<LowCounts> {
        let (high, rank) = walk(&self.0, rank)?;
        Some(LowCounts { high, rank, counts: vec![0; N_LOW] })
    }
}

/// Second pass: how often each low half occurs under the threshold's high half.
#[derive(Debug, Clone, PartialEq)]
pub struct LowCounts {
    high: usize,
    /// The threshold's place among the elements of this high half.
    rank: u64,
    counts: Vec<u64>,
}

impl LowCounts {
    /// Counts more elements of the matrix: the same ones as the first pass did.
    pub fn add(&mut self, values: &[f32]) {
        for &w in values {
            let (high, low) = halves(w);
            self.counts[low] += u64::from(high == self.high);
        }
    }

    /// Adds the counts of another part.
    pub fn merge(&mut self, other: &LowCounts) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(a, b)| *a += b);
    }

    /// The threshold; None if the two passes did not count the same elements.
    pub fn threshold(&self) -> Option<f32> {
        let (low, _) = walk(&self.counts, self.rank)?;
        Some(f32::from_bits((self.high << 16 | low) as u32))
    }
}

/// The bin in which the element at `rank` lies, and its place there.
fn walk(counts: &[u64], rank: u64) -> Option<(usize, u64)> {
    let mut left = rank;
    for (bin, &count) in counts.iter().enumerate() {
        if left < count {
            return Some((bin, left));
        }
        left -= count;
    }
    None
}

/// Zeroes what is not above `threshold`; NaN stays.
pub fn zero_up_to(values: &mut [f32], threshold: f32) {
    values.iter_mut().for_each(|w| *w = if w.abs() <= threshold { 0.0 } else { *w });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::compress::golden::Golden;

    fn select(parts: &[&[f32]], rank: u64) -> Option<f32> {
        let mut high = HighCounts::default();
        for part in parts {
            let mut own = HighCounts::default();
            own.add(part);
            high.merge(&own);
        }
        let mut low = high.narrow(rank)?;
        for part in parts {
            let mut own = high.narrow(rank)?;
            own.add(part);
            low.merge(&own);
        }
        low.threshold()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn counting_is_sorting(
            (values, rank) in prop::collection::vec(
                prop_oneof![any::<f32>(), (-4i8..4).prop_map(|i| f32::from(i) / 8.0)],
                1..200,
            ).prop_flat_map(|v| { let n = v.len(); (Just(v), 0..n) }),
            cut in 0f64..1.0,
        ) {
            let (a, b) = values.split_at((values.len() as f64 * cut) as usize);
            let mut sorted: Vec<f32> = values.iter().map(|w| w.abs()).collect();
            sorted.sort_by(f32::total_cmp);
            let found = select(&[a, b], rank as u64).unwrap();
            prop_assert_eq!(found.to_bits(), sorted[rank].to_bits());
        }
    }

    #[test]
    fn thresholds_and_masks_are_the_references() {
        let golden = Golden::open("masks");
        let weight = golden.f16("weight");
        for (name, ratio) in [("r40", 0.4), ("r50", 0.5), ("r37", 0.37)] {
            let rank = threshold_rank(weight.len() as u64, ratio);
            let threshold = select(&[&weight[..100], &weight[100..]], rank).unwrap();
            assert_eq!([threshold], golden.f32(&format!("whole.{name}.threshold"))[..]);
            let mut pruned = weight.clone();
            zero_up_to(&mut pruned, threshold);
            let kept = golden.u8(&format!("whole.{name}"));
            let expected: Vec<f32> =
                weight.iter().zip(kept).map(|(w, kept)| w * f32::from(kept)).collect();
            assert_eq!(pruned, expected, "{name}");
        }
    }

    #[test]
    fn what_is_not_there_has_no_threshold() {
        assert_eq!(select(&[&[1.0, 2.0]], 2), None);
        assert_eq!(threshold_rank(0, 0.5), 0);
        assert_eq!(threshold_rank(10, 1.0), 9);
        let low = HighCounts::default();
        assert_eq!(low.narrow(0), None);
    }
}
