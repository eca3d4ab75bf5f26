//! Log-likelihoods: how likely a model finds the given continuations of a text.
//!
//! The texts of a group begin with the same tokens. These are decoded once, and each text goes on
//! from there in its own sequence. Many groups are decoded together. Only logits that predict a
//! scored token are computed, and no text's last token is decoded: nothing comes after it.

use rayon::prelude::*;

use super::engine::Engine;
use super::error::{Error, Result};
use super::session::{Input, Session, Size};
use super::softmax::LogSoftmax;

/// Tokens per decode.
const N_BATCH: u32 = 512;
/// Tokens in memory at once, unless one group has more: attention reads all of them for every
/// token.
const N_CTX: usize = 1024;
/// Sequences that llama.cpp keeps apart at most (LLAMA_MAX_SEQ in src/llama-cparams.h).
const MAX_SEQUENCES: u32 = 256;

/// A text of which the end is scored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// All of its tokens.
    pub tokens: Vec<i32>,
    /// How many of them are given; those after them are scored. At least 1.
    pub n_given: usize,
}

/// The result for one scored token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenScore {
    /// ln p of the token, given those before it, nats.
    pub log_prob: f64,
    /// True if no other token is likelier.
    pub is_top: bool,
}

/// A context for scoring texts.
pub struct Scorer<'e> {
    session: Session<'e>,
    n_tokens: u64,
}

/// A token to decode, and the scored tokens that its logits predict.
struct DecodedToken {
    input: Input,
    scored_tokens: Vec<ScoredToken>,
}

/// A scored token: the text, counted over all groups; the token's place after the given ones.
struct ScoredToken {
    text: usize,
    place: usize,
    token: i32,
}

impl<'e> Scorer<'e> {
    /// A context with room for each of `groups`, and for `parallel` texts at once.
    ///
    /// # Errors
    /// Not enough memory; a group's text is longer than the model reads.
    pub fn new(engine: &'e Engine, groups: &[Vec<Text>], parallel: u32) -> Result<Scorer<'e>> {
        let most = groups.iter().map(Vec::len).max().unwrap_or(1) as u32;
        let n_seq = parallel.max(most).clamp(1, MAX_SEQUENCES);
        let n_ctx = groups.iter().map(|g| cells(g)).max().unwrap_or(1).max(N_CTX) as u32;
        let longest = groups.iter().flatten().map(|t| t.tokens.len()).max().unwrap_or(1);
        let most = engine.n_ctx_train() as usize + 1;
        if longest > most {
            return Err(Error::TextTooLong { n_tokens: longest, most });
        }
        let n_ctx = n_ctx.next_multiple_of(256);
        let size = Size { n_ctx, n_batch: N_BATCH, n_seq, unified: true };
        Ok(Scorer { session: Session::new(engine, size)?, n_tokens: 0 })
    }

    /// Tokens decoded so far.
    pub fn n_tokens(&self) -> u64 {
        self.n_tokens
    }

    /// The scored tokens of every text of every group.
    ///
    /// # Errors
    /// A text without a given token; a group that [`Scorer::new`] did not get; llama.cpp's.
    pub fn score(&mut self, groups: &[Vec<Text>]) -> Result<Vec<Vec<Vec<TokenScore>>>> {
        let mut scored = Vec::with_capacity(groups.len());
        while scored.len() < groups.len() {
            let wave = self.wave(&groups[scored.len()..]);
            if let Some(index) = wave.iter().position(|g| g.iter().any(|t| t.n_given == 0)) {
                return Err(Error::EmptyPrompt { index: scored.len() + index });
            }
            scored.extend(self.score_wave(wave)?);
        }
        Ok(scored)
    }

    /// The groups that fit into memory together, one at least.
    fn wave<'g>(&self, groups: &'g [Vec<Text>]) -> &'g [Vec<Text>] {
        let size = self.session.size();
        let (mut n_cells, mut n_texts) = (0, 0);
        let fits = |group: &&Vec<Text>| {
            n_cells += cells(group);
            n_texts += group.len();
            n_cells <= size.n_ctx as usize && n_texts <= size.n_seq as usize
        };
        let n = groups.iter().take_while(fits).count();
        &groups[..n.max(1)]
    }

    fn score_wave(&mut self, wave: &[Vec<Text>]) -> Result<Vec<Vec<Vec<TokenScore>>>> {
        let none = TokenScore { log_prob: f64::NAN, is_top: false };
        let blank = |text: &Text| vec![none; text.tokens.len() - text.n_given];
        let mut scores: Vec<Vec<TokenScore>> = wave.iter().flatten().map(blank).collect();
        let (mut shared, mut own, mut copies) = (Vec::new(), Vec::new(), Vec::new());
        let mut first = 0;
        for group in wave {
            let n_shared = n_shared(group);
            shared.extend((0..n_shared).map(|position| {
                row(group[0].tokens[position], position, first, group.iter().zip(first..))
            }));
            for (text, number) in group.iter().zip(first..) {
                copies.extend((number > first).then_some((first as u32, number as u32)));
                own.extend((n_shared..text.tokens.len().saturating_sub(1)).map(|position| {
                    row(text.tokens[position], position, number, std::iter::once((text, number)))
                }));
            }
            first += group.len();
        }
        self.session.clear();
        self.decode(&shared, &mut scores)?;
        for (source, target) in copies {
            self.session.share(source, target);
        }
        self.decode(&own, &mut scores)?;
        let mut scores = scores.into_iter();
        Ok(wave.iter().map(|group| scores.by_ref().take(group.len()).collect()).collect())
    }

    fn decode(&mut self, rows: &[DecodedToken], scores: &mut [Vec<TokenScore>]) -> Result<()> {
        for rows in rows.chunks(self.session.size().n_batch as usize) {
            let inputs: Vec<Input> = rows.iter().map(|row| row.input).collect();
            self.session.decode(&inputs, None)?;
            self.n_tokens += inputs.len() as u64;
            let wanted = rows.iter().enumerate().filter(|(_, row)| row.input.logits);
            let mut wanted_logits: Vec<(&[f32], &[ScoredToken])> = Vec::new();
            for (i, row) in wanted {
                wanted_logits.push((self.session.logits(i)?, &row.scored_tokens));
            }
            let softmaxes: Vec<LogSoftmax> =
                wanted_logits.par_iter().map(|(logits, _)| LogSoftmax::new(logits)).collect();
            for ((logits, scored_tokens), softmax) in wanted_logits.into_iter().zip(softmaxes) {
                for ScoredToken { text, place, token } in scored_tokens {
                    let logit = logits[*token as usize];
                    let (log_prob, is_top) = (softmax.log_prob(logit), softmax.is_top(logit));
                    scores[*text][*place] = TokenScore { log_prob, is_top };
                }
            }
        }
        Ok(())
    }
}

/// The row of `token` at `position`, which `texts` have in common, in sequence `sequence`.
fn row<'t>(
    token: i32,
    position: usize,
    sequence: usize,
    texts: impl Iterator<Item = (&'t Text, usize)>,
) -> DecodedToken {
    let next = position + 1;
    let scored = texts.filter(|(text, _)| text.n_given <= next);
    let scored_tokens = |(text, number): (&Text, usize)| {
        Some(ScoredToken {
            text: number,
            place: next - text.n_given,
            token: *text.tokens.get(next)?,
        })
    };
    let scored_tokens: Vec<ScoredToken> = scored.filter_map(scored_tokens).collect();
    let logits = !scored_tokens.is_empty();
    let (position, sequence) = (position as u32, sequence as u32);
    DecodedToken { input: Input { token, position, sequence, logits }, scored_tokens }
}

/// Tokens that all texts of a group begin with. The last token of a text is never decoded or
/// counted.
fn n_shared(group: &[Text]) -> usize {
    let Some(first) = group.first() else { return 0 };
    let shared = |text: &Text| {
        let decoded = &text.tokens[..text.tokens.len().saturating_sub(1)];
        first.tokens.iter().zip(decoded).take_while(|(a, b)| a == b).count()
    };
    group.iter().map(shared).min().unwrap_or(0)
}

/// Tokens that a group takes up in memory.
fn cells(group: &[Text]) -> usize {
    let shared = n_shared(group);
    let own = |text: &Text| text.tokens.len().saturating_sub(1) - shared;
    shared + group.iter().map(own).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(tokens: &[i32], n_given: usize) -> Text {
        Text { tokens: tokens.to_vec(), n_given }
    }

    #[test]
    fn what_texts_share_is_counted_once_and_last_tokens_never() {
        let group = [text(&[1, 2, 3, 4, 5], 3), text(&[1, 2, 3, 6], 3), text(&[1, 2, 3, 6, 7], 3)];
        assert_eq!((n_shared(&group), cells(&group)), (3, 5));
        // Choices of one token each: nothing is decoded but the context.
        let group = [text(&[1, 2, 8], 2), text(&[1, 2, 9], 2)];
        assert_eq!((n_shared(&group), cells(&group)), (2, 2));
        // Contexts that differ at once.
        let group = [text(&[5, 2, 8], 2), text(&[6, 2, 8], 2)];
        assert_eq!((n_shared(&group), cells(&group)), (0, 4));
    }

    #[test]
    fn a_row_is_asked_about_the_tokens_behind_it() {
        let texts = [text(&[1, 2, 8], 2), text(&[1, 2, 3], 1)];
        let scored_tokens = |position: usize| {
            let row = row(texts[0].tokens[position], position, 0, texts.iter().zip(0..));
            assert_eq!(row.input.logits, !row.scored_tokens.is_empty());
            row.scored_tokens.iter().map(|a| (a.text, a.place, a.token)).collect::<Vec<_>>()
        };
        assert_eq!(scored_tokens(0), [(1, 0, 2)]);
        assert_eq!(scored_tokens(1), [(0, 0, 8), (1, 1, 3)]);
    }
}
