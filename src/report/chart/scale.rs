//! Maps numbers to pixels.

/// A linear or logarithmic map from numbers to pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    domain: (f64, f64),
    range: (f64, f64),
    log: bool,
}

impl Scale {
    /// `low` lies at `range.0`, `high` at `range.1`.
    pub fn linear((low, high): (f64, f64), range: (f64, f64)) -> Scale {
        // For a single number the scale is 1 wide.
        let high = if high > low { high } else { low + 1.0 };
        Scale { domain: (low, high), range, log: false }
    }

    /// The same by logarithms; both ends are above 0.
    pub fn log((low, high): (f64, f64), range: (f64, f64)) -> Scale {
        let low = low.max(f64::MIN_POSITIVE);
        let high = if high > low { high } else { 2.0 * low };
        Scale { domain: (low, high), range, log: true }
    }

    /// The pixel of `x`; a number beyond an end is drawn at the end, so that nothing lies outside.
    pub fn at(&self, x: f64) -> f64 {
        let of = |x: f64| if self.log { x.max(f64::MIN_POSITIVE).ln() } else { x };
        let (low, high) = (of(self.domain.0), of(self.domain.1));
        let share = (of(x) - low) / (high - low);
        let share = if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) };
        self.range.0 + share * (self.range.1 - self.range.0)
    }

    /// The two ends in pixels.
    pub fn range(&self) -> (f64, f64) {
        self.range
    }

    /// Round numbers inside, some `n` of them.
    pub fn ticks(&self, n: usize) -> Vec<f64> {
        let (low, high) = self.domain;
        if self.log {
            return doublings(low, high, n);
        }
        let step = nice_step((high - low) / n.max(1) as f64);
        let first = (low / step - 1e-9).ceil() as i64;
        let last = (high / step + 1e-9).floor() as i64;
        (first..=last).map(|i| i as f64 * step).collect()
    }
}

/// Powers of two within the ends; if there are many, only every so manieth.
fn doublings(low: f64, high: f64, n: usize) -> Vec<f64> {
    let (first, last) = ((low.log2() - 1e-9).ceil() as i32, (high.log2() + 1e-9).floor() as i32);
    let step = ((last - first).max(0) as usize / n.max(1)) + 1;
    (first..=last).step_by(step).map(|i| f64::from(i).exp2()).collect()
}

/// 1, 2 or 5 times a power of ten, at least `rough`.
fn nice_step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.max(f64::MIN_POSITIVE).log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|f| f * power >= rough * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

/// The next round number above `x`, for an axis that ends there.
pub(super) fn nice_above(x: f64) -> f64 {
    let step = nice_step(x.max(1e-6) / 4.0);
    (x.max(1e-6) / step - 1e-9).ceil() * step
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_meet_ends_and_nothing_lies_beyond() {
        let scale = Scale::linear((0.0, 50.0), (100.0, 200.0));
        assert_eq!(
            [0.0, 25.0, 50.0, 99.0, -9.0].map(|x| scale.at(x)),
            [100.0, 150.0, 200.0, 200.0, 100.0]
        );
        assert_eq!(scale.at(f64::NAN), 100.0);
        let log = Scale::log((1.0, 16.0), (0.0, 100.0));
        assert_eq!((log.at(4.0), log.at(0.0)), (50.0, 0.0));
        assert!(Scale::linear((3.0, 3.0), (0.0, 1.0)).at(3.0).is_finite());
    }

    #[test]
    fn ticks_are_round() {
        let ticks = |low, high, n| Scale::linear((low, high), (0.0, 1.0)).ticks(n);
        assert_eq!(ticks(0.0, 100.0, 4), [0.0, 50.0, 100.0]);
        assert_eq!(ticks(0.0, 100.0, 5), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(ticks(-1.0, 1.0, 4), [-1.0, -0.5, 0.0, 0.5, 1.0]);
        assert_eq!(Scale::log((0.5, 8.0), (0.0, 1.0)).ticks(6), [0.5, 1.0, 2.0, 4.0, 8.0]);
        assert_eq!([0.0413, 7.0, 31.0].map(nice_above), [0.06, 8.0, 40.0]);
    }
}
