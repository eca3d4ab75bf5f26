//! What a restore reads: requests with the original's own answers, and text of any kind.

use std::path::Path;

use crate::gguf::Watch;
use crate::llama::{AnswerCount, Engine, Generation, Hooks, Sampling, generate};
use crate::prompts::{self, Part, TextFile};
use crate::stats::Sample;
use crate::verbs::chat::Chat;
use crate::verbs::error::{Error, Result};

/// Tokens of an answer.
const ANSWER_TOKENS: usize = 64;
/// Tokens of a piece of text, and of the shortest that is read.
const PIECE: usize = 256;
const LEAST_PIECE: usize = 64;
/// Answers under way at once.
const PARALLEL: u32 = 48;

/// All texts, and how many tokens they have.
pub(super) struct Texts {
    pub samples: Vec<Sample>,
    /// Tokens of requests and answers.
    pub n_safety: usize,
    /// Tokens of general text.
    pub n_general: usize,
}

/// How much of what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mix {
    /// Tokens in all.
    pub n_tokens: usize,
    /// Part of them that is requests with answers.
    pub safety_share: f64,
}

/// The training prompts with the original's own answers, and general text: from `file`, or aird's
/// own.
pub(super) fn texts(
    watch: &dyn Watch,
    engine: &Engine,
    chat: &Chat,
    file: Option<&Path>,
    mix: Mix,
) -> Result<Texts> {
    // What is wrong with the file is reported before minutes of answers.
    let general = match file {
        Some(path) => from_file(engine, path)?,
        None => pieces(engine, &[prompts::reading().to_owned()]),
    };
    let wanted = (mix.n_tokens as f64 * mix.safety_share) as usize;
    let safety = answered(watch, engine, chat, wanted)?;
    let n_safety = count(&safety);
    let part = mix.n_tokens.saturating_sub(n_safety) as f64 / count(&general).max(1) as f64;
    let general = cut(general, part);
    let n_general = count(&general);
    let samples = mixed(safety, general);
    Ok(Texts { samples, n_safety, n_general })
}

fn count(samples: &[Sample]) -> usize {
    samples.iter().map(|s| s.tokens.len()).sum()
}

/// A part of them, spread over all.
fn cut(samples: Vec<Sample>, part: f64) -> Vec<Sample> {
    let mut taken = 0.0;
    let keep = |_: &Sample| {
        taken += part.min(1.0);
        let keeps = taken >= 1.0 - 1e-9;
        taken -= f64::from(u8::from(keeps));
        keeps
    };
    samples.into_iter().filter(keep).collect()
}

/// Both kinds through each other, evenly: held-out texts then are of both.
fn mixed(a: Vec<Sample>, b: Vec<Sample>) -> Vec<Sample> {
    let place = |n: usize| move |(i, s): (usize, Sample)| ((i as f64 + 0.5) / n as f64, s);
    let (n_a, n_b) = (a.len(), b.len());
    let mut all: Vec<(f64, Sample)> = a.into_iter().enumerate().map(place(n_a)).collect();
    all.extend(b.into_iter().enumerate().map(place(n_b)));
    all.sort_by(|x, y| x.0.total_cmp(&y.0));
    all.into_iter().map(|(_, sample)| sample).collect()
}

/// Of aird's own training prompts, harmful, harmless and borderline, as many as have that many
/// tokens with the model's greedy answers.
fn answered(
    watch: &dyn Watch,
    engine: &Engine,
    chat: &Chat,
    n_tokens: usize,
) -> Result<Vec<Sample>> {
    let sets = [prompts::harmful, prompts::harmless, prompts::borderline];
    let kinds = sets.map(|set| -> Result<Vec<Sample>> {
        let set = set(Part::Train);
        let tokens = set.texts().map(|text| chat.tokens(engine, text));
        tokens.map(|tokens| Ok(Sample { tokens: tokens?, counted_from: 0 })).collect()
    });
    // Through each other, so that any part of them has all kinds.
    let mut all = Vec::new();
    for kind in kinds {
        all = mixed(all, kind?);
    }
    let with_answers = count(&all) + all.len() * ANSWER_TOKENS;
    let part = (n_tokens as f64 / with_answers.max(1) as f64).min(1.0);
    let asked = cut(all, part);
    let prompts = asked.into_iter().map(|sample| sample.tokens).collect();
    let settings =
        Generation { max_tokens: ANSWER_TOKENS, parallel: PARALLEL, sampling: Sampling::Greedy };
    continued(watch, engine, prompts, settings)
}

fn continued(
    watch: &dyn Watch,
    engine: &Engine,
    prompts: Vec<Vec<i32>>,
    settings: Generation,
) -> Result<Vec<Sample>> {
    let mut written = AnswerCount::new(watch, "writing texts", 0, prompts.len());
    let answers = generate(engine, &prompts, settings, &mut Hooks::new(), &mut written)?;
    let joined = prompts.into_iter().zip(answers).map(|(mut tokens, answer)| {
        tokens.extend(answer);
        Sample { tokens, counted_from: 0 }
    });
    Ok(joined.collect())
}

/// Pieces of a text, or of the texts of a file of records.
fn from_file(engine: &Engine, path: &Path) -> Result<Vec<Sample>> {
    let file = TextFile::read(path)?;
    let texts: Vec<String> = match file.holds_records() {
        true => file.prompts(Some("text"))?.texts().map(str::to_owned).collect(),
        false => vec![file.filled()?],
    };
    let samples = pieces(engine, &texts);
    match samples.is_empty() {
        true => Err(Error::Sentence(format!(
            "{}: no text of {LEAST_PIECE} tokens or more",
            path.display()
        ))),
        false => Ok(samples),
    }
}

/// Texts cut into pieces, each after a BOS where the model wants one.
fn pieces(engine: &Engine, texts: &[String]) -> Vec<Sample> {
    let bos = engine.bos_if_wanted();
    let mut samples = Vec::new();
    for text in texts {
        let tokens = engine.tokenize(text, false);
        for piece in tokens.chunks(PIECE - 1).filter(|piece| piece.len() >= LEAST_PIECE) {
            let tokens = bos.into_iter().chain(piece.iter().copied()).collect();
            samples.push(Sample { tokens, counted_from: 0 });
        }
    }
    samples
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(kind: i32, n: usize) -> Vec<Sample> {
        (0..n).map(|_| Sample { tokens: vec![kind; 10], counted_from: 0 }).collect()
    }

    #[test]
    fn a_part_of_the_texts_is_spread_over_all_of_them() {
        assert_eq!(cut(samples(1, 100), 0.3).len(), 30);
        assert_eq!(cut(samples(1, 10), 7.0).len(), 10);
        assert_eq!(cut(samples(1, 10), 0.0).len(), 0);
    }

    #[test]
    fn two_kinds_of_text_are_mixed_evenly() {
        let kinds: Vec<i32> =
            mixed(samples(1, 4), samples(2, 8)).iter().map(|s| s.tokens[0]).collect();
        for part in kinds.chunks(3) {
            assert_eq!(part.iter().filter(|k| **k == 1).count(), 1, "{kinds:?}");
        }
    }
}
