//! The uncertainty of figures: intervals for shares and means, exact p-values for pairs.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Number;

/// The normal distribution's 97.5 % quantile.
const Z: f64 = 1.959_963_984_540_054;
/// Resamples of a bootstrap.
const RESAMPLES: usize = 2000;

/// A share of `n` cases with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// Cases that are counted: the numerator.
    pub k: usize,
    /// All cases: the denominator.
    pub n: usize,
    /// `k / n`; null if there are no cases.
    #[serde(deserialize_with = "float_or_null")]
    pub rate: Option<f64>,
    /// Lower end of the interval.
    #[serde(deserialize_with = "float")]
    pub low: f64,
    /// Upper end of the interval.
    #[serde(deserialize_with = "float")]
    pub high: f64,
}

/// A float of a struct that may be flattened into another. Serde keeps such fields aside; where any
/// crate of the build has serde_json keep numbers as text (its feature `arbitrary_precision`), a
/// plain f64 does not take them back.
pub(crate) fn float<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    let missing = || D::Error::custom("expected a number, found null");
    float_or_null(from)?.ok_or_else(missing)
}

fn float_or_null<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    let too_large = || D::Error::custom("a number is too large");
    let number = Option::<Number>::deserialize(from)?;
    number.map(|number| number.as_f64().ok_or_else(too_large)).transpose()
}

/// `k` of `n` with the Wilson score interval, 95 % (Wilson 1927; method 3 of Newcombe 1998).
pub fn wilson(k: usize, n: usize) -> Rate {
    wilson_of(k, n, n)
}

/// As [`wilson`], where only `independent` of the `n` cases are: all samples of one prompt may get
/// the same label. The interval is that of the same share of so many cases.
pub fn wilson_of(k: usize, n: usize, independent: usize) -> Rate {
    if n == 0 || independent == 0 {
        return Rate { k, n, rate: None, low: 0.0, high: 1.0 };
    }
    let (p, m) = (k as f64 / n as f64, independent as f64);
    let centre = p + Z * Z / (2.0 * m);
    let half = Z * (p * (1.0 - p) / m + Z * Z / (4.0 * m * m)).sqrt();
    let scale = 1.0 + Z * Z / m;
    // At the ends the interval touches 0 and 1 exactly, which floats miss by a little.
    let low = if k == 0 { 0.0 } else { (centre - half) / scale };
    let high = if k == n { 1.0 } else { (centre + half) / scale };
    Rate { k, n, rate: Some(p), low, high }
}

/// The exact two-sided p-value of McNemar's test: pairs that changed one way (`b`) and the other
/// (`c`), under the binomial distribution with one half (McNemar 1947; exact form, Fay 2010).
pub fn mcnemar(b: usize, c: usize) -> f64 {
    let n = b + c;
    // ln C(n, i) grows from ln C(n, 0) = 0 by ln((n - i) / (i + 1)).
    let mut ln_choose = 0.0;
    let mut total = 0.0;
    for i in 0..=b.min(c) {
        total += (ln_choose - n as f64 * std::f64::consts::LN_2).exp();
        ln_choose += ((n - i) as f64 / (i + 1) as f64).ln();
    }
    (2.0 * total).min(1.0)
}

/// A p-value in a sentence: `p = 0.046`, `p < 0.0001`.
pub fn p_text(p: f64) -> String {
    match p_value(p) {
        value if value.starts_with('<') => format!("p {value}"),
        value => format!("p = {value}"),
    }
}

/// A p-value in a table, with two digits that count where it is small: `0.046`, `< 0.0001`.
pub fn p_value(p: f64) -> String {
    match p {
        p if p < 0.0001 => "< 0.0001".into(),
        p if p < 0.000_995 => format!("{p:.5}"),
        p if p < 0.009_95 => format!("{p:.4}"),
        p if p < 0.0995 => format!("{p:.3}"),
        p => format!("{p:.2}"),
    }
}

/// A mean with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    /// Number of values.
    pub n: usize,
    /// Their mean; null if there are no values.
    pub mean: Option<f64>,
    /// Lower end of the interval; null with fewer than two values, which have no spread.
    #[serde(deserialize_with = "float_or_null")]
    pub low: Option<f64>,
    /// Upper end, or null.
    #[serde(deserialize_with = "float_or_null")]
    pub high: Option<f64>,
}

/// The mean of `values` with its percentile bootstrap interval, 95 % (Efron 1979); of differences
/// between pairs, too. The same seed gives the same interval.
pub fn bootstrap(values: &[f64], seed: u64) -> Mean {
    let n = values.len();
    let mean = (n > 0).then(|| values.iter().sum::<f64>() / n as f64);
    if n < 2 {
        return Mean { n, mean, low: None, high: None };
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let drawn = (0..n).map(|_| values[(random.next_u64() % n as u64) as usize]);
            drawn.sum::<f64>() / n as f64
        })
        .collect();
    means.sort_by(f64::total_cmp);
    let at = |share: f64| Some(means[(share * (RESAMPLES - 1) as f64).round() as usize]);
    Mean { n, mean, low: at(0.025), high: at(0.975) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_p_values_keep_two_digits() {
        for (p, expected) in [
            (1.0, "p = 1.00"),
            (0.0996, "p = 0.10"),
            (0.0525, "p = 0.052"),
            (0.0461, "p = 0.046"),
            (0.004_13, "p = 0.0041"),
            (0.000_123, "p = 0.00012"),
            (0.000_099, "p < 0.0001"),
        ] {
            assert_eq!(p_text(p), expected);
        }
    }

    fn near(a: f64, b: f64, within: f64) -> bool {
        (a - b).abs() <= within
    }

    /// Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    #[test]
    fn wilson_intervals_are_the_published_ones() {
        for (k, n, low, high) in [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ] {
            let rate = wilson(k, n);
            assert!(near(rate.low, low, 5e-5) && near(rate.high, high, 5e-5), "{rate:?}");
        }
        assert_eq!((wilson(0, 0).rate, wilson(0, 0).high, wilson(4, 4).high), (None, 1.0, 1.0));
    }

    /// By hand: 2 (C(10,0) + C(10,1)) / 2^10, 2 * 1 / 2^5. The third is the example of Fay's
    /// vignette on his exact test (R package exact2x2): b = 2, c = 9, p = 0.06543.
    #[test]
    fn mcnemar_is_exact_and_as_published() {
        assert!(near(mcnemar(2, 9), 0.06543, 5e-6));
        assert!(near(mcnemar(9, 1), 22.0 / 1024.0, 1e-12));
        assert!(near(mcnemar(0, 5), 2.0 / 32.0, 1e-12));
        assert_eq!((mcnemar(0, 0), mcnemar(3, 3)), (1.0, 1.0));
        assert!(mcnemar(0, 2000) < 1e-300);
    }

    /// Efron and Tibshirani, An Introduction to the Bootstrap (1993): survival times of the seven
    /// treated mice, days. Table 2.2: their mean is 86.86, its bootstrap standard error, of ever
    /// more resamples, 23.36.
    #[test]
    fn a_bootstrap_of_the_mouse_data_has_the_published_spread() {
        let treated = [94.0, 197.0, 16.0, 38.0, 99.0, 141.0, 23.0];
        let mean = bootstrap(&treated, 1);
        let (low, high) = (mean.low.unwrap(), mean.high.unwrap());
        assert!(near(mean.mean.unwrap(), 86.86, 0.005), "{mean:?}");
        assert!(near((high - low) / (2.0 * Z), 23.36, 1.2), "{mean:?}");
    }

    #[test]
    fn of_less_than_two_values_no_spread_is_known_and_json_keeps_that() {
        for values in [&[][..], &[0.5]] {
            let mean = bootstrap(values, 1);
            assert_eq!((mean.n, mean.low, mean.high), (values.len(), None, None));
            let json = serde_json::to_string(&mean).unwrap();
            assert_eq!(serde_json::from_str::<Mean>(&json).unwrap(), mean, "{json}");
        }
    }

    #[test]
    fn what_goes_through_json_comes_back_flattened_or_not() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Flat {
            #[serde(flatten)]
            rate: Rate,
            mean: Mean,
        }
        for (rate, mean) in
            [(wilson(1, 3), bootstrap(&[0.25, 0.75], 1)), (wilson(0, 0), bootstrap(&[], 1))]
        {
            let flat = Flat { rate, mean };
            let json = serde_json::to_string(&flat).unwrap();
            assert_eq!(serde_json::from_str::<Flat>(&json).unwrap(), flat, "{json}");
        }
        let said = serde_json::from_str::<Rate>(r#"{"k":0,"n":0,"rate":null,"low":null,"high":1}"#);
        assert!(said.unwrap_err().to_string().contains("expected a number, found null"));
    }

    #[test]
    fn a_bootstrap_is_as_wide_as_the_normal_interval_and_repeats_itself() {
        let values: Vec<f64> = (0..400).map(|i| f64::from(i % 2)).collect();
        let mean = bootstrap(&values, 1);
        // Of a fair coin: 1.96 * 0.5 / 20.
        let (low, high) = (mean.low.unwrap(), mean.high.unwrap());
        assert!(near(low, 0.451, 0.006) && near(high, 0.549, 0.006), "{mean:?}");
        assert_eq!((mean, mean.mean), (bootstrap(&values, 1), Some(0.5)));
        assert_eq!(bootstrap(&[], 1).mean, None);
    }
}
