//! How far a model's predictions drift from its original's along the original's own answers.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::eval::error::{Error, Result};
use crate::eval::interval::{Mean, Rate, bootstrap, wilson_of};
use crate::gguf::Watch;
use crate::llama::{Engine, Input, LogSoftmax, Session, Size, Text, argmax, kl_divergence};

/// Tokens of a batch, at most, unless one text is longer.
const N_BATCH: usize = 512;
/// Scored tokens of a batch, at most, unless one text has more: each takes a row of logits.
const N_SCORED: usize = 128;
/// The seed of bootstraps over answers.
const SEED: u64 = 0;

/// How far a model's predictions drift along the original's answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drift {
    /// Mean KL(original || model) of the next token, nats; the interval is over answers.
    pub kl: Mean,
    /// Share of tokens for which both models find the same next token likeliest; the interval is
    /// that of as many independent cases as there are answers.
    pub same_top: Rate,
    /// Perplexity of the original's answers to the original.
    pub original_perplexity: f64,
    /// Perplexity of the same answers to the model.
    pub perplexity: f64,
    /// Answers.
    pub answers: usize,
    /// Their tokens.
    pub tokens: usize,
}

/// What both models predict at one token.
struct Compared {
    /// The text's number.
    text: usize,
    kl: f64,
    same_top: bool,
    /// ln p of the token: in the original, in the model.
    log_probs: [f64; 2],
}

/// Compares `model` with `original` along the scored tokens of `texts`; None where no token is
/// scored.
///
/// # Errors
/// A logit is NaN, the vocabularies have different sizes, no memory, an interrupt.
pub fn drift(
    model: &Engine,
    original: &Engine,
    texts: &[Text],
    watch: &dyn Watch,
) -> Result<Option<Drift>> {
    let (found, expected) = (original.n_vocab(), model.n_vocab());
    if found != expected {
        return Err(Error::OtherVocabulary { found, expected });
    }
    let scored = |text: &&Text| text.n_given > 0 && text.tokens.len() > text.n_given;
    let texts: Vec<&Text> = texts.iter().filter(scored).collect();
    let Some(longest) = texts.iter().map(|text| text.tokens.len()).max() else { return Ok(None) };
    let n_seq = N_BATCH.div_ceil(longest).max(1) as u32;
    let n_batch = N_BATCH.max(longest) as u32;
    let n_ctx = n_batch.next_multiple_of(256);
    let size = Size { n_ctx, n_batch, n_seq, unified: true };
    let mut sessions = [Session::new(original, size)?, Session::new(model, size)?];
    let mut compared = Vec::new();
    let mut first = 0;
    while first < texts.len() {
        watch.part("comparing predictions", first, texts.len());
        let batch = batch(&texts[first..], n_seq as usize);
        compared.extend(compare(&mut sessions, batch, first)?);
        first += batch.len();
    }
    watch.part("comparing predictions", texts.len(), texts.len());
    Ok(Some(summary(&compared, texts.len())))
}

/// The texts that fit into one batch; one at least.
fn batch<'a, 't>(texts: &'a [&'t Text], n_seq: usize) -> &'a [&'t Text] {
    let (mut n_tokens, mut n_scored) = (0, 0);
    let fits = |text: &&&Text| {
        n_tokens += text.tokens.len();
        n_scored += text.tokens.len() - text.n_given;
        n_tokens <= N_BATCH && n_scored <= N_SCORED
    };
    let n = texts.iter().take(n_seq).take_while(fits).count();
    &texts[..n.max(1)]
}

fn compare(
    sessions: &mut [Session<'_>; 2],
    texts: &[&Text],
    first: usize,
) -> Result<Vec<Compared>> {
    let mut inputs = Vec::new();
    // The row of a batch, the text, and the token that the row predicts.
    let mut predictions = Vec::new();
    for (sequence, text) in texts.iter().enumerate() {
        // Nothing follows the last token, so that it is not decoded.
        for position in 0..text.tokens.len() - 1 {
            let logits = position + 1 >= text.n_given;
            if logits {
                predictions.push((inputs.len(), first + sequence, text.tokens[position + 1]));
            }
            inputs.push(Input {
                token: text.tokens[position],
                position: position as u32,
                sequence: sequence as u32,
                logits,
            });
        }
    }
    for session in sessions.iter_mut() {
        session.clear();
        session.decode(&inputs, None)?;
    }
    let mut rows = Vec::with_capacity(predictions.len());
    for &(row, text, token) in &predictions {
        rows.push((sessions[0].logits(row)?, sessions[1].logits(row)?, text, token as usize));
    }
    let compare = |&(p, q, text, token): &(&[f32], &[f32], usize, usize)| Compared {
        text,
        kl: kl_divergence(p, q),
        same_top: argmax(p) == argmax(q),
        log_probs: [p, q].map(|logits| LogSoftmax::new(logits).log_prob(logits[token])),
    };
    let compared: Vec<Compared> = rows.par_iter().map(compare).collect();
    match compared.iter().all(|c| c.kl.is_finite() && c.log_probs.iter().all(|x| x.is_finite())) {
        true => Ok(compared),
        false => Err(Error::NoNumbers { what: "KL to the original".into() }),
    }
}

fn summary(compared: &[Compared], n_texts: usize) -> Drift {
    let of_text = |text: usize| {
        let kls: Vec<f64> = compared.iter().filter(|c| c.text == text).map(|c| c.kl).collect();
        kls.iter().sum::<f64>() / kls.len().max(1) as f64
    };
    let means: Vec<f64> = (0..n_texts).map(of_text).collect();
    let n = compared.len();
    let perplexity = |model: usize| {
        let sum: f64 = compared.iter().map(|c| c.log_probs[model]).sum();
        (-sum / n as f64).exp()
    };
    let same_top = compared.iter().filter(|c| c.same_top).count();
    Drift {
        kl: bootstrap(&means, SEED),
        same_top: wilson_of(same_top, n, n_texts),
        original_perplexity: perplexity(0),
        perplexity: perplexity(1),
        answers: n_texts,
        tokens: n,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_holds_what_fits_and_one_text_at_least() {
        let text = |n: usize, n_given: usize| Text { tokens: vec![0; n], n_given };
        let texts = [text(200, 150), text(200, 150), text(200, 150), text(900, 1)];
        let texts: Vec<&Text> = texts.iter().collect();
        assert_eq!(batch(&texts, 8).len(), 2);
        assert_eq!(batch(&texts, 1).len(), 1);
        assert_eq!(batch(&texts[3..], 8).len(), 1);
        // 50 rows of logits each: two texts' fit.
        let many = [text(60, 10), text(60, 10), text(60, 10)];
        assert_eq!(batch(&many.iter().collect::<Vec<_>>(), 8).len(), 2);
    }

    #[test]
    fn every_answer_counts_once_in_the_mean_and_every_token_in_the_perplexity() {
        let at = |text, kl, p: f64, q: f64| Compared {
            text,
            kl,
            same_top: kl < 0.5,
            log_probs: [p.ln(), q.ln()],
        };
        let compared = [at(0, 0.2, 0.5, 0.25), at(0, 0.4, 0.5, 0.25), at(1, 1.3, 0.5, 0.25)];
        let found = summary(&compared, 2);
        assert!((found.kl.mean.unwrap() - 0.8).abs() < 1e-12);
        assert_eq!((found.same_top.k, found.same_top.n, found.answers), (2, 3, 2));
        assert!((found.original_perplexity - 2.0).abs() < 1e-12);
        assert!((found.perplexity - 4.0).abs() < 1e-12);
    }
}
