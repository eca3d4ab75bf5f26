//! Samples from calibration text and from prompts with answers.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

use super::collect::Sample;
use super::error::{Error, Result};
use crate::gguf::hex;

/// Windows of `n_ctx` tokens from a text of tokens, the remainder left out. Each begins with `bos`
/// in place of its first token if the model wants one: llama-imatrix does the same.
///
/// # Errors
/// The text has fewer than `n_samples` windows; the error holds the numbers.
pub fn windows(
    tokens: &[i32],
    n_ctx: usize,
    n_samples: usize,
    bos: Option<i32>,
) -> Result<Vec<Sample>> {
    let windows = tokens.chunks_exact(n_ctx);
    if windows.len() < n_samples {
        let (found, needed) = (tokens.len(), n_samples.saturating_mul(n_ctx));
        return Err(Error::TooLittleText { found, needed, n_samples, n_ctx });
    }
    let sample = |window: &[i32]| {
        let mut tokens = window.to_vec();
        if let Some(bos) = bos {
            tokens[0] = bos;
        }
        Sample { tokens, counted_from: 0 }
    };
    Ok(windows.map(sample).collect())
}

/// `n` of `items`, drawn only by `seed`, in their own order; all if there are no more.
pub fn choose<T>(items: Vec<T>, n: usize, seed: u64) -> Vec<T> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut indices: Vec<usize> = (0..items.len()).collect();
    // The first n steps of a shuffle (Fisher and Yates).
    for i in 0..n.min(items.len()) {
        let j = i + (random.next_u64() % (items.len() - i) as u64) as usize;
        indices.swap(i, j);
    }
    indices.truncate(n);
    indices.sort_unstable();
    let mut wanted = indices.into_iter().peekable();
    let chosen = items.into_iter().enumerate().filter(|(i, _)| wanted.next_if_eq(i).is_some());
    chosen.map(|(_, item)| item).collect()
}

/// sha256 of the samples' tokens, in order.
pub fn samples_sha256(samples: &[Sample]) -> String {
    let mut digest = Sha256::new();
    for sample in samples {
        digest.update((sample.counted_from as u64).to_le_bytes());
        digest.update((sample.tokens.len() as u64).to_le_bytes());
        sample.tokens.iter().for_each(|t| digest.update(t.to_le_bytes()));
    }
    hex(&digest.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_follow_each_other_and_begin_with_bos() {
        let tokens: Vec<i32> = (10..20).collect();
        let windows = windows(&tokens, 4, 2, Some(1)).unwrap();
        let tokens: Vec<_> = windows.iter().map(|s| s.tokens.as_slice()).collect();
        assert_eq!(tokens, [[1, 11, 12, 13], [1, 15, 16, 17]]);
    }

    #[test]
    fn too_little_text_is_told_in_tokens() {
        let error = windows(&[1; 10], 4, 3, None).unwrap_err().to_string();
        assert!(error.contains("10 tokens") && error.contains("12"), "{error}");
    }

    #[test]
    fn a_choice_depends_on_its_seed_alone_and_keeps_order() {
        let items: Vec<usize> = (0..100).collect();
        let a = choose(items.clone(), 10, 7);
        assert_eq!(a, choose(items.clone(), 10, 7));
        assert_ne!(a, choose(items.clone(), 10, 8));
        assert!(a.is_sorted() && a.len() == 10);
        assert_eq!(choose(items.clone(), 100, 7), items);
        assert_eq!(choose(items.clone(), 1000, 7), items);
    }
}
