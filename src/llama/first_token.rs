//! A first check of a model: one token decoded, and what is wrong with its logits.

use serde::{Deserialize, Serialize};

use super::engine::Engine;
use super::error::{Error, Result};
use super::session::{Session, Size, prompt_inputs};

/// Tokens of context for the check.
const PROBE_CTX: u32 = 64;
/// A beginning that any language model continues; the token that follows is shown to the user.
const PROBE_PROMPT: &str = "The capital of France is";

/// The result of decoding one token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FirstToken {
    /// The token of the highest logit.
    pub token: i32,
    /// Its text, invalid bytes replaced.
    pub text: String,
    /// How many logits are NaN or plus infinity: 0 in a sound model.
    pub non_finite: usize,
    /// Highest minus lowest logit: 0 where all are equal, which no trained model does.
    pub spread: f32,
}

impl FirstToken {
    /// What is wrong with these logits, if anything.
    pub fn complaint(&self) -> Option<&'static str> {
        match (self.non_finite, self.spread == 0.0) {
            (0, false) => None,
            (0, true) => Some("all logits are equal"),
            _ => Some("logits are NaN or infinite"),
        }
    }
}

impl Engine {
    /// Decodes a short prompt and checks the logits.
    ///
    /// # Errors
    /// No vocabulary, no memory for a context, or llama.cpp cannot run the graph.
    pub fn first_token(&self) -> Result<FirstToken> {
        let n_vocab = self.model().vocab().n_tokens();
        if n_vocab <= 0 {
            return Err(Error::NoVocabulary);
        }
        let size = Size { n_ctx: PROBE_CTX, n_batch: PROBE_CTX, n_seq: 1, unified: true };
        let mut tokens = match self.has_tokenizer() {
            true => self.tokenize(PROBE_PROMPT, true),
            false => Vec::new(),
        };
        tokens.retain(|t| (0..n_vocab).contains(t));
        if tokens.is_empty() {
            tokens.push(0);
        }
        tokens.truncate(PROBE_CTX as usize);
        let mut session = Session::new(self, size)?;
        session.decode(&prompt_inputs(&tokens, 0, 0), None)?;
        Ok(self.read_logits(session.raw_logits(tokens.len() - 1)))
    }

    fn read_logits(&self, logits: &[f32]) -> FirstToken {
        let mut best = (0, f32::NEG_INFINITY);
        let mut lowest = f32::INFINITY;
        for (i, &x) in logits.iter().enumerate().filter(|(_, x)| x.is_finite()) {
            if x > best.1 {
                best = (i, x);
            }
            lowest = lowest.min(x);
        }
        let token = best.0 as i32;
        let piece = if self.has_tokenizer() { self.piece(token) } else { Vec::new() };
        FirstToken {
            token,
            text: String::from_utf8_lossy(&piece).into_owned(),
            // Minus infinity is how some models rule a token out.
            non_finite: logits.iter().filter(|x| x.is_nan() || **x == f32::INFINITY).count(),
            spread: if best.1 > lowest { best.1 - lowest } else { 0.0 },
        }
    }
}
