//! Perplexity of a text, and the divergence of a model's predictions in it from another model's.
//!
//! llama-perplexity's rule (tools/perplexity/perplexity.cpp): consecutive windows of `n_ctx`
//! tokens, BOS in place of each one's first token if the model wants one, and only the second half
//! of each window scored.

use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::{Error, Result};
use super::interval::{Mean, Rate, bootstrap, wilson_of};
use super::segments;
use crate::gguf::Watch;
use crate::llama::{Engine, Input, LogSoftmax, Session, Size, argmax, cpu_features, kl_divergence};
use crate::prompts::TextFile;

/// Tokens per decode.
const N_BATCH: usize = 512;
/// The seed of bootstraps over windows.
const SEED: u64 = 0;

/// A text in windows of tokens for a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Windows {
    /// Tokens of each window.
    pub n_ctx: usize,
    /// sha256 of the text's file.
    pub sha256: String,
    windows: Vec<Vec<i32>>,
    /// Tokens of the whole text.
    n_tokens: usize,
    /// Tokens that the model has.
    n_vocab: usize,
}

impl Windows {
    /// The first `n_chunks` windows of `text`, all of them if it has no more.
    ///
    /// # Errors
    /// It has fewer tokens than one window.
    pub fn new(engine: &Engine, text: &TextFile, n_ctx: usize, n_chunks: usize) -> Result<Windows> {
        let tokens = engine.tokenize_plain(&text.text);
        if tokens.len() < n_ctx {
            let (path, found) = (text.path.clone(), tokens.len());
            return Err(Error::TooLittleText { path, found, expected: n_ctx, n_ctx });
        }
        let bos = engine.bos_if_wanted();
        let window = |window: &[i32]| {
            let mut window = window.to_vec();
            window[0] = bos.unwrap_or(window[0]);
            window
        };
        let windows = tokens.chunks_exact(n_ctx).take(n_chunks).map(window).collect();
        let n_tokens = tokens.len();
        let (sha256, n_vocab) = (text.sha256.clone(), engine.n_vocab());
        Ok(Windows { n_ctx, sha256, windows, n_tokens, n_vocab })
    }

    /// Number of windows.
    pub fn len(&self) -> usize {
        self.windows.len()
    }

    /// True if there are no windows.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    /// Tokens of the whole text, in windows or not.
    pub fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// Checks that `reference`'s model reads the text as the same tokens.
    ///
    /// # Errors
    /// It does not.
    pub fn check_same(&self, reference: &Windows) -> Result<()> {
        let (found, expected) = (reference.n_vocab, self.n_vocab);
        match self == reference {
            true => Ok(()),
            false => Err(Error::OtherVocabulary { found, expected }),
        }
    }

    /// Tokens that are scored.
    pub fn n_scored(&self) -> usize {
        self.len() * (self.n_ctx - 1 - self.n_ctx / 2)
    }
}

/// A text's perplexity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Perplexity {
    /// e to the mean negative log-likelihood of a scored token.
    pub ppl: f64,
    /// Its standard error, by llama-perplexity's formula.
    pub ppl_error: f64,
    /// Mean negative log-likelihood, nats; the interval is over windows.
    pub nll: Mean,
    /// Tokens of a window.
    pub n_ctx: usize,
    /// Number of windows.
    pub n_chunks: usize,
    /// Number of scored tokens.
    pub n_tokens: usize,
}

/// How much predictions differ from a reference's, over scored tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kl {
    /// Mean KL(reference || model), nats; the interval is over windows.
    pub mean: Mean,
    /// The value that half of the tokens do not exceed, nats.
    pub median: f64,
    /// The value that 90 % do not exceed, nats.
    pub p90: f64,
    /// The value that 95 % do not exceed, nats.
    pub p95: f64,
    /// The value that 99 % do not exceed, nats.
    pub p99: f64,
    /// The highest value, nats.
    pub max: f64,
    /// Share of tokens for which both models find the same next token likeliest; the interval is
    /// that of as many independent cases as there are windows.
    pub same_top: Rate,
    /// Number of scored tokens.
    pub n_tokens: usize,
}

/// A window's likelihood: a line of a results file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct WindowLikelihood {
    /// Negative log-likelihood of the scored tokens, summed, nats.
    nll: f64,
    /// The sum of their squares.
    nll_squares: f64,
}

/// A window's distance to the reference: a line of a results file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct WindowDistance {
    /// KL(reference || model) at every scored token, nats.
    kl: Vec<f64>,
    /// Tokens for which both models find the same next token likeliest.
    same_top: usize,
}

/// A model with its sha256.
#[derive(Clone, Copy)]
pub struct Measured<'a> {
    /// The model, loaded.
    pub engine: &'a Engine,
    /// sha256 of the model's file.
    pub sha256: &'a str,
}

/// The perplexity of `windows` to a model, its windows kept in `results`.
///
/// # Errors
/// The results were made with other settings; a score is NaN or infinite; the engine's.
pub fn perplexity(
    model: Measured<'_>,
    windows: &Windows,
    results: Option<&Path>,
    watch: &dyn Watch,
) -> Result<Perplexity> {
    let mut reader = None;
    let settings = settings("perplexity", model, None, windows);
    let make = |segment: std::ops::Range<usize>| {
        watch.part("perplexity", segment.start, windows.len());
        let reader = match &mut reader {
            Some(reader) => reader,
            none => none.insert(WindowReader::new(model.engine, windows)?),
        };
        let made = windows.windows[segment].iter().map(|window| likelihood(reader, window));
        made.collect()
    };
    let parts: Vec<WindowLikelihood> = segments::run(results, &settings, (windows.len(), 1), make)?;
    watch.part("perplexity", windows.len(), windows.len());
    let n = windows.n_scored() as f64;
    let mean = parts.iter().map(|p| p.nll).sum::<f64>() / n;
    let variance = parts.iter().map(|p| p.nll_squares).sum::<f64>() / n - mean * mean;
    let ppl = mean.exp();
    let a_window = n / windows.len() as f64;
    let nlls: Vec<f64> = parts.iter().map(|p| p.nll / a_window).collect();
    Ok(Perplexity {
        ppl,
        // One scored token has no spread: 0, not 0 / 0.
        ppl_error: ppl * (variance.max(0.0) / (n - 1.0).max(1.0)).sqrt(),
        nll: bootstrap(&nlls, SEED),
        n_ctx: windows.n_ctx,
        n_chunks: windows.len(),
        n_tokens: windows.n_scored(),
    })
}

fn likelihood(reader: &mut WindowReader<'_>, window: &[i32]) -> Result<WindowLikelihood> {
    let mut likelihood = WindowLikelihood { nll: 0.0, nll_squares: 0.0 };
    reader.session.clear();
    for first in (0..window.len()).step_by(N_BATCH) {
        let rows = reader.decode(window, first)?;
        let nll = |(position, logits): &Predicted<'_>| {
            let logit = logits[window[position + 1] as usize];
            -LogSoftmax::new(logits).log_prob(logit)
        };
        let nlls: Vec<f64> = rows.par_iter().map(nll).collect();
        likelihood.nll += nlls.iter().sum::<f64>();
        likelihood.nll_squares += nlls.iter().map(|x| x * x).sum::<f64>();
    }
    if !likelihood.nll.is_finite() {
        return Err(Error::NoNumbers { what: "perplexity of the text".into() });
    }
    likelihood.nll = rounded(likelihood.nll);
    likelihood.nll_squares = rounded(likelihood.nll_squares);
    Ok(likelihood)
}

/// The distance of a model's predictions in `windows` to those of `reference`.
///
/// # Errors
/// The two read the text as different tokens; else as [`perplexity`].
pub fn kl(
    model: Measured<'_>,
    reference: Measured<'_>,
    (windows, of_reference): (&Windows, &Windows),
    results: Option<&Path>,
    watch: &dyn Watch,
) -> Result<Kl> {
    windows.check_same(of_reference)?;
    let mut readers = None;
    let settings = settings("kl", model, Some(reference), windows);
    let make = |segment: std::ops::Range<usize>| {
        watch.part("KL", segment.start, windows.len());
        let (model, reference) = match &mut readers {
            Some(readers) => readers,
            none => none.insert((
                WindowReader::new(model.engine, windows)?,
                WindowReader::new(reference.engine, windows)?,
            )),
        };
        let made = windows.windows[segment].iter().map(|window| distance(model, reference, window));
        made.collect()
    };
    let parts: Vec<WindowDistance> = segments::run(results, &settings, (windows.len(), 1), make)?;
    watch.part("KL", windows.len(), windows.len());
    let mut all: Vec<f64> = parts.iter().flat_map(|p| p.kl.iter().copied()).collect();
    all.sort_by(f64::total_cmp);
    let means: Vec<f64> =
        parts.iter().map(|p| p.kl.iter().sum::<f64>() / p.kl.len() as f64).collect();
    let same_top = parts.iter().map(|p| p.same_top).sum();
    Ok(Kl {
        mean: bootstrap(&means, SEED),
        median: percentile(&all, 0.5),
        p90: percentile(&all, 0.9),
        p95: percentile(&all, 0.95),
        p99: percentile(&all, 0.99),
        max: percentile(&all, 1.0),
        // Tokens of a window are not independent: this interval, too, is for as many cases as
        // windows.
        same_top: wilson_of(same_top, all.len(), parts.len()),
        n_tokens: all.len(),
    })
}

/// A position of a window, and the logits after it.
type Predicted<'a> = (usize, &'a [f32]);

fn distance(
    model: &mut WindowReader<'_>,
    reference: &mut WindowReader<'_>,
    window: &[i32],
) -> Result<WindowDistance> {
    let mut distance = WindowDistance { kl: Vec::new(), same_top: 0 };
    model.session.clear();
    reference.session.clear();
    for first in (0..window.len()).step_by(N_BATCH) {
        let (ours, theirs) = (model.decode(window, first)?, reference.decode(window, first)?);
        let compare = |((_, q), (_, p)): (&Predicted<'_>, &Predicted<'_>)| {
            (rounded(kl_divergence(p, q)), argmax(p) == argmax(q))
        };
        let compared: Vec<(f64, bool)> = ours.par_iter().zip(&theirs).map(compare).collect();
        distance.kl.extend(compared.iter().map(|(kl, _)| kl));
        distance.same_top += compared.iter().filter(|(_, same)| *same).count();
    }
    match distance.kl.iter().all(|x| x.is_finite()) {
        true => Ok(distance),
        false => Err(Error::NoNumbers { what: "KL to the reference".into() }),
    }
}

/// A context that reads windows.
struct WindowReader<'e> {
    session: Session<'e>,
    /// The first position whose logits are wanted.
    first_scored: usize,
}

impl<'e> WindowReader<'e> {
    fn new(engine: &'e Engine, windows: &Windows) -> Result<WindowReader<'e>> {
        let n_ctx = windows.n_ctx.next_multiple_of(256) as u32;
        let n_batch = N_BATCH.min(windows.n_ctx) as u32;
        let size = Size { n_ctx, n_batch, n_seq: 1, unified: true };
        Ok(WindowReader { session: Session::new(engine, size)?, first_scored: windows.n_ctx / 2 })
    }

    /// Decodes a batch of `window` from `first` on; returns the positions after which a token is
    /// scored, with the logits after them.
    fn decode(&mut self, window: &[i32], first: usize) -> Result<Vec<Predicted<'_>>> {
        let end = window.len().min(first + N_BATCH);
        let wanted = |position: usize| position >= self.first_scored && position + 1 < window.len();
        let input = |position: usize| Input {
            token: window[position],
            position: position as u32,
            sequence: 0,
            logits: wanted(position),
        };
        let inputs: Vec<Input> = (first..end).map(input).collect();
        let positions: Vec<usize> = (first..end).filter(|&position| wanted(position)).collect();
        self.session.decode(&inputs, None)?;
        let logits = |position: usize| Ok((position, self.session.logits(position - first)?));
        positions.into_iter().map(logits).collect()
    }
}

fn settings(
    measure: &str,
    model: Measured<'_>,
    reference: Option<Measured<'_>>,
    windows: &Windows,
) -> Value {
    json!({
        "build": crate::BUILD,
        "cpu": cpu_features(),
        "measure": measure,
        "model_sha256": model.sha256,
        "reference_sha256": reference.map(|r| r.sha256),
        "text_sha256": windows.sha256,
        "n_ctx": windows.n_ctx,
        "n_chunks": windows.len(),
        "placement": model.engine.options().placement(),
    })
}

/// Rounded to six decimal places, which a file returns unchanged.
fn rounded(x: f64) -> f64 {
    (x * 1e6).round() / 1e6
}

/// The value below which `share` of the sorted `values` lie, interpolated between two of them.
fn percentile(values: &[f64], share: f64) -> f64 {
    let Some(last) = values.len().checked_sub(1) else { return f64::NAN };
    let at = share * last as f64;
    let (below, above) = (values[at as usize], values[(at as usize + 1).min(last)]);
    below + (above - below) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_lie_between_values() {
        let values = [0.0, 1.0, 2.0, 3.0];
        assert_eq!(percentile(&values, 0.5), 1.5);
        assert_eq!((percentile(&values, 0.0), percentile(&values, 1.0)), (0.0, 3.0));
        assert!(percentile(&[], 0.5).is_nan());
    }
}
