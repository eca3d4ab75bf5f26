//! Which token comes next: the likeliest, or one drawn by temperature.
//!
//! Each sequence has its own generator, seeded by the run's seed and the sequence's own number: its
//! draws do not depend on what else is in the batch.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// How tokens are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sampling {
    /// The token of the highest logit; of equal ones the first.
    Greedy,
    /// A draw from softmax(logits / temperature).
    Temperature {
        /// Divides the logits; above 0.
        temperature: f32,
        /// The run's seed.
        seed: u64,
    },
}

/// Chooses one sequence's tokens.
#[derive(Debug, Clone)]
pub struct Sampler {
    sampling: Sampling,
    random: ChaCha8Rng,
}

impl Sampler {
    /// A sampler for the sequence numbered `stream`.
    pub fn new(sampling: Sampling, stream: u64) -> Sampler {
        let seed = match sampling {
            Sampling::Greedy => 0,
            Sampling::Temperature { seed, .. } => seed,
        };
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(stream);
        Sampler { sampling, random }
    }

    /// The next token; `[n_vocab]` logits.
    pub fn next(&mut self, logits: &[f32]) -> i32 {
        match self.sampling {
            Sampling::Greedy => argmax(logits) as i32,
            Sampling::Temperature { temperature, .. } => {
                // 53 random bits: each double of that precision in [0, 1) is equally likely.
                let draw = (self.random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
                pick(logits, temperature, draw) as i32
            }
        }
    }
}

/// Index of the highest value, the first of equal ones; NaN never wins.
pub fn argmax(values: &[f32]) -> usize {
    let mut best = 0;
    for (i, &value) in values.iter().enumerate() {
        if value > values[best] || values[best].is_nan() {
            best = i;
        }
    }
    best
}

/// The index whose share of softmax(logits / temperature), added up in order, covers `draw`.
fn pick(logits: &[f32], temperature: f32, draw: f64) -> usize {
    let highest = f64::from(logits[argmax(logits)]);
    let weight = |logit: f32| ((f64::from(logit) - highest) / f64::from(temperature)).exp();
    let total: f64 = logits.iter().map(|&logit| weight(logit)).sum();
    let mut left = draw * total;
    for (i, &logit) in logits.iter().enumerate() {
        left -= weight(logit);
        if left < 0.0 {
            return i;
        }
    }
    argmax(logits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_logits_is_taken_and_nan_never() {
        assert_eq!(argmax(&[f32::NAN, 1.0, 3.0, 3.0]), 2);
        assert_eq!(Sampler::new(Sampling::Greedy, 9).next(&[0.5, 2.0]), 1);
    }

    #[test]
    fn draws_follow_the_softmax() {
        // Shares 0.25 and 0.75.
        let logits = [0.0, 3f32.ln()];
        assert_eq!((pick(&logits, 1.0, 0.2499), pick(&logits, 1.0, 0.2501)), (0, 1));
        let sampling = Sampling::Temperature { temperature: 1.0, seed: 1 };
        let mut sampler = Sampler::new(sampling, 0);
        let ones: i32 = (0..4000).map(|_| sampler.next(&logits)).sum();
        assert!((2880..3120).contains(&ones), "{ones}");
    }

    #[test]
    fn a_sequences_draws_depend_on_seed_and_number_alone() {
        let sampling = Sampling::Temperature { temperature: 1.0, seed: 7 };
        let draws = |stream| {
            let mut sampler = Sampler::new(sampling, stream);
            (0..32).map(|_| sampler.next(&[0.0; 50])).collect::<Vec<_>>()
        };
        assert_eq!(draws(3), draws(3));
        assert_ne!(draws(3), draws(4));
    }
}
