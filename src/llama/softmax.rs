//! Logits as log-probabilities, fast enough for thousands of rows: a vocabulary has a hundred
//! thousand entries, and each needs an exponential.

/// Numbers summed side by side, so that the compiler can use vector instructions.
const LANES: usize = 16;
/// Numbers summed in f32 before they are added to an f64.
const BLOCK: usize = 1024;
/// Below it e^x has no normal f32.
const LOWEST: f32 = -87.0;

/// Turns a logit into a log-probability: ln p = logit - `highest` - `ln_total`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogSoftmax {
    highest: f32,
    ln_total: f64,
}

impl LogSoftmax {
    /// Those of a row of `[n_vocab]` logits.
    pub fn new(logits: &[f32]) -> LogSoftmax {
        let highest = highest(logits);
        let total = sum(logits, |x| exp(x - highest));
        LogSoftmax { highest, ln_total: total.ln() }
    }

    /// ln p of a token with this logit, nats; NaN where the row has no finite highest logit.
    pub fn log_prob(&self, logit: f32) -> f64 {
        f64::from(logit) - f64::from(self.highest) - self.ln_total
    }

    /// p of a token with this logit.
    pub fn prob(&self, logit: f32) -> f64 {
        self.log_prob(logit).exp()
    }

    /// True if no logit of the row is higher.
    pub fn is_top(&self, logit: f32) -> bool {
        logit == self.highest
    }
}

/// KL(p || q) of two rows of logits, nats: the sum of p ln(p / q); not below 0, NaN if a logit is.
pub fn kl_divergence(p: &[f32], q: &[f32]) -> f64 {
    let (of_p, of_q) = (LogSoftmax::new(p), LogSoftmax::new(q));
    // With logits a of p and b of q: the mean of a - b under p, and the difference of the totals.
    let (high_p, high_q) = (of_p.highest, of_q.highest);
    let blocks = p.chunks(BLOCK).zip(q.chunks(BLOCK));
    // What has p = 0 costs nothing, also where its logit is minus infinity.
    let term = |(&a, &b): (&f32, &f32)| {
        let a = a - high_p;
        let cost = exp(a) * (a - (b - high_q));
        if a <= LOWEST { 0.0 } else { cost }
    };
    let weighted = blocks.map(|(p, q)| {
        let (lanes_p, lanes_q) = (p.chunks_exact(LANES), q.chunks_exact(LANES));
        let rest: f32 = lanes_p.remainder().iter().zip(lanes_q.remainder()).map(term).sum();
        let mut sums = [0.0f32; LANES];
        for (p, q) in lanes_p.zip(lanes_q) {
            for ((sum, a), b) in sums.iter_mut().zip(p).zip(q) {
                *sum += term((a, b));
            }
        }
        f64::from(sums.iter().sum::<f32>() + rest)
    });
    let mean = weighted.sum::<f64>() / of_p.ln_total.exp();
    let kl = mean + of_q.ln_total - of_p.ln_total;
    // Rounding may lead below 0; NaN stays what it is.
    if kl < 0.0 { 0.0 } else { kl }
}

fn highest(values: &[f32]) -> f32 {
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder().iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = if x > *lane { x } else { *lane };
        }
    }
    lanes.into_iter().fold(rest, f32::max)
}

fn sum(values: &[f32], term: impl Fn(f32) -> f32) -> f64 {
    let block = |block: &[f32]| {
        let chunks = block.chunks_exact(LANES);
        let rest: f32 = chunks.remainder().iter().map(|&x| term(x)).sum();
        let mut lanes = [0.0f32; LANES];
        for chunk in chunks {
            for (lane, &x) in lanes.iter_mut().zip(chunk) {
                *lane += term(x);
            }
        }
        f64::from(lanes.iter().sum::<f32>() + rest)
    };
    values.chunks(BLOCK).map(block).sum()
}

/// e^x for x <= 0, within 2e-7 of it; 0 far below.
///
/// e^x = 2^n e^r with n = round(x / ln 2) and |r| <= ln 2 / 2, and e^r by its Taylor series to r^7.
fn exp(x: f32) -> f32 {
    // ln 2 in two parts, so that n ln 2 loses nothing: the first has few bits.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Adding 1.5 * 2^23 leaves no bits for a fraction: the sum is rounded to an integer.
    const ROUND: f32 = 12_582_912.0;
    let clamped = if x > LOWEST { x } else { LOWEST };
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = clamped - n * LN_2_HIGH - n * LN_2_LOW;
    let mut series = 1.0 / 5040.0;
    for factor in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        series = series * r + factor;
    }
    // n is in the sum's lowest bits; 127 is the exponent's bias.
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127);
    let scaled = series * f32::from_bits(exponent << 23);
    if x > LOWEST { scaled } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_exact_to_a_few_bits() {
        for i in 0..87_000 {
            let x = -i as f32 / 1000.0;
            let (found, expected) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((found / expected - 1.0).abs() < 2e-7, "{x}: {found} {expected}");
        }
        assert_eq!((exp(0.0), exp(-100.0), exp(f32::NEG_INFINITY)), (1.0, 0.0, 0.0));
    }

    fn row(seed: u32) -> Vec<f32> {
        (0..5003u32).map(|i| (i.wrapping_mul(seed) % 997) as f32 / 50.0 - 7.0).collect()
    }

    fn slow(logits: &[f32]) -> Vec<f64> {
        let total: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
        logits.iter().map(|&x| f64::from(x) - total.ln()).collect()
    }

    #[test]
    fn log_probabilities_are_those_of_the_definition() {
        let logits = row(2_654_435_761);
        let softmax = LogSoftmax::new(&logits);
        for (&logit, expected) in logits.iter().zip(slow(&logits)) {
            assert!((softmax.log_prob(logit) - expected).abs() < 1e-6);
        }
        assert!(softmax.is_top(highest(&logits)));
        assert!(LogSoftmax::new(&[f32::NAN; 40]).log_prob(f32::NAN).is_nan());
    }

    #[test]
    fn the_divergence_is_that_of_the_definition() {
        let (p, q) = (row(2_654_435_761), row(40_503));
        let pairs = slow(&p).into_iter().zip(slow(&q));
        let expected: f64 = pairs.map(|(p, q)| p.exp() * (p - q)).sum();
        assert!((kl_divergence(&p, &q) - expected).abs() < 1e-5 * expected);
        assert_eq!(kl_divergence(&p, &p), 0.0);
        assert!(kl_divergence(&[f32::NAN; 40], &[0.0; 40]).is_nan());
    }
}
