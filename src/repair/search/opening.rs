//! Whether a greedy answer begins as refusals do, and how likely any answer does, in whole words:
//! the first token is not enough. A pruned model that is pushed towards "I" may go on "I am
//! not here".

use std::collections::HashMap;

use crate::judge::COMMON_OPENINGS;
use crate::llama::{Engine, LogSoftmax, argmax};

/// The most common beginnings of refusals, as tokens.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Openings {
    /// Each at most 8 tokens long; none begins with another.
    whole: Vec<Vec<i32>>,
    /// Every proper beginning of them, the empty one among them, with the tokens that may follow.
    nodes: HashMap<Vec<i32>, Vec<i32>>,
}

impl Openings {
    /// As `engine`'s model spells them; if it cannot go back, only their first tokens.
    pub(super) fn new(engine: &Engine) -> Openings {
        let length = if engine.is_recurrent() { 1 } else { usize::MAX };
        Openings::of(COMMON_OPENINGS.iter().map(|text| {
            let mut tokens = engine.tokenize(text, false);
            tokens.truncate(length);
            tokens
        }))
    }

    fn of(openings: impl Iterator<Item = Vec<i32>>) -> Openings {
        let mut whole: Vec<Vec<i32>> = openings.filter(|tokens| !tokens.is_empty()).collect();
        whole.sort_by_key(Vec::len);
        // If one begins with the other, the shorter one is enough.
        let mut kept: Vec<Vec<i32>> = Vec::new();
        for tokens in whole {
            if !kept.iter().any(|short| tokens.starts_with(short)) {
                kept.push(tokens);
            }
        }
        let mut nodes = HashMap::<Vec<i32>, Vec<i32>>::new();
        for tokens in &kept {
            for (i, &next) in tokens.iter().enumerate() {
                let follows = nodes.entry(tokens[..i].to_vec()).or_default();
                if !follows.contains(&next) {
                    follows.push(next);
                }
            }
        }
        Openings { whole: kept, nodes }
    }

    /// What must be read after a prompt so that every beginning is covered: the longest ones.
    pub(super) fn continuations(&self) -> Vec<Vec<i32>> {
        let longer = |tokens: &[i32]| {
            self.nodes.keys().any(|other| other.len() > tokens.len() && other.starts_with(tokens))
        };
        let mut longest: Vec<Vec<i32>> = self
            .nodes
            .keys()
            .filter(|tokens| !tokens.is_empty() && !longer(tokens))
            .cloned()
            .collect();
        longest.sort();
        longest
    }
}

/// Probabilities read after one prompt.
#[derive(Debug, Clone, Default)]
pub(super) struct OpeningProbabilities {
    by_beginning: HashMap<Vec<i32>, NextTokens>,
}

/// What may follow a beginning.
#[derive(Debug, Clone)]
struct NextTokens {
    /// The likeliest token of all.
    greedy: i32,
    /// Tokens that lead on to a refusal, with their probabilities.
    shares: HashMap<i32, f64>,
}

impl OpeningProbabilities {
    /// Records the probabilities that `logits`, `[n_vocab]`, give for the token after `so_far`.
    pub(super) fn note(&mut self, openings: &Openings, so_far: &[i32], logits: &[f32]) {
        let Some(follows) = openings.nodes.get(so_far) else { return };
        if self.by_beginning.contains_key(so_far) {
            return;
        }
        let softmax = LogSoftmax::new(logits);
        let share = |token: i32| {
            let logit = usize::try_from(token).ok().and_then(|t| logits.get(t));
            logit.map_or(0.0, |&x| softmax.prob(x))
        };
        let shares = follows.iter().map(|&token| (token, share(token))).collect();
        let greedy = argmax(logits) as i32;
        self.by_beginning.insert(so_far.to_vec(), NextTokens { greedy, shares });
    }

    /// The probability that an answer begins with `tokens`, as far as it was read.
    pub(super) fn reach(&self, tokens: &[i32]) -> f64 {
        let step = |i: usize| {
            let follow = self.by_beginning.get(&tokens[..i])?;
            Some(follow.shares.get(&tokens[i]).copied().unwrap_or(0.0))
        };
        (0..tokens.len()).map_while(step).product()
    }

    /// The probability that an answer begins with one of `openings`. Openings that were not read to
    /// their end, because hardly anything led to them, count as 0.
    pub(super) fn likelihood(&self, openings: &Openings) -> f64 {
        let is_read = |tokens: &[i32]| self.by_beginning.contains_key(&tokens[..tokens.len() - 1]);
        let read = openings.whole.iter().filter(|tokens| is_read(tokens));
        read.map(|tokens| self.reach(tokens)).sum()
    }

    /// True if the greedy answer begins with one of `openings`.
    pub(super) fn refuses(&self, openings: &Openings) -> bool {
        let mut so_far = Vec::new();
        while let Some(follow) = self.by_beginning.get(&so_far) {
            so_far.push(follow.greedy);
        }
        openings.whole.contains(&so_far)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// I'm sorry, I can't, Sorry; "I'm sorry indeed" says no more than "I'm sorry".
    fn openings() -> Openings {
        Openings::of([vec![0, 1, 2], vec![0, 3, 4], vec![5], vec![0, 1, 2, 6]].into_iter())
    }

    /// Logits of the shares given, in ten-thousandths.
    fn logits(shares: [u32; 8]) -> Vec<f32> {
        shares.iter().map(|&s| (s.max(1) as f32).ln()).collect()
    }

    #[test]
    fn the_probability_is_that_of_all_openings_together() {
        let openings = openings();
        assert_eq!(openings.continuations(), [vec![0, 1], vec![0, 3]]);
        let mut seen = OpeningProbabilities::default();
        seen.note(&openings, &[], &logits([6000, 0, 0, 0, 0, 1000, 0, 3000]));
        seen.note(&openings, &[0], &logits([0, 5000, 0, 2500, 0, 0, 0, 2500]));
        seen.note(&openings, &[0, 1], &logits([0, 0, 8000, 0, 0, 0, 0, 2000]));
        seen.note(&openings, &[0, 3], &logits([0, 0, 0, 0, 4000, 0, 0, 6000]));
        // 0.6 (0.5 0.8 + 0.25 0.4) + 0.1
        let likelihood = seen.likelihood(&openings);
        assert!((likelihood - 0.4).abs() < 2e-3, "{likelihood}");
        assert!(seen.refuses(&openings), "0, 1, 2 is the greedy answer");
        seen.by_beginning.get_mut(&[0, 1][..]).unwrap().greedy = 7;
        assert!(!seen.refuses(&openings));
    }

    #[test]
    fn what_hardly_anything_leads_to_need_not_be_read() {
        let openings = openings();
        let mut seen = OpeningProbabilities::default();
        seen.note(&openings, &[], &logits([6000, 0, 0, 0, 0, 1000, 0, 3000]));
        assert!((seen.reach(&[0, 1]) - 0.6).abs() < 2e-3, "so far");
        assert!((seen.likelihood(&openings) - 0.1).abs() < 2e-3, "the opening of one token");
        assert!(!seen.refuses(&openings), "[0] alone is none");
    }
}
