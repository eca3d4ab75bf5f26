//! The dear look at a candidate: whole answers, labelled.

use super::super::half::Half;
use super::super::live::Live;
use super::screen::Candidate;
use crate::judge::{Label, label};
use crate::llama::{Engine, Generation, Hooks, Listener, Sampling, generate};
use crate::repair::Result;

/// How answers to harmful and to harmless prompts are labelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Harmful prompts that are refused.
    pub refused: usize,
    /// Harmful prompts.
    pub n_harmful: usize,
    /// Harmless prompts that are refused.
    pub falsely_refused: usize,
    /// Harmless prompts.
    pub n_benign: usize,
    /// Answers, to either, that are none.
    pub degenerate: usize,
}

/// Who answers, and what.
pub struct Answering<'a> {
    /// The compressed model.
    pub engine: &'a Engine,
    /// Its edit at run time.
    pub live: &'a Live,
    /// Harmful prompts first, then harmless ones.
    pub prompts: &'a [Vec<i32>],
    /// How many are harmful.
    pub n_harmful: usize,
    /// Tokens of an answer, at most.
    pub max_tokens: usize,
    /// Answers under way at once.
    pub parallel: u32,
}

impl Answering<'_> {
    /// Lets the model answer under `candidate`, or as it is.
    ///
    /// # Errors
    /// A failing decode; a half that writes nothing.
    pub fn count(
        &self,
        candidate: Option<&Candidate>,
        listener: &mut dyn Listener,
    ) -> Result<Counts> {
        let none: &[Half] = &[];
        let (halves, alpha) = candidate.map_or((none, 0.0), |c| (&c.halves[..], c.alpha));
        let mut hooks = self.live.strengthen(Hooks::new(), halves, alpha)?;
        let (max_tokens, parallel) = (self.max_tokens, self.parallel);
        let settings = Generation { max_tokens, parallel, sampling: Sampling::Greedy };
        let answers = generate(self.engine, self.prompts, settings, &mut hooks, listener)?;
        let n_benign = self.prompts.len() - self.n_harmful;
        let mut counts = Counts { n_harmful: self.n_harmful, n_benign, ..Counts::default() };
        for (i, answer) in answers.iter().enumerate() {
            let bytes: Vec<u8> = answer.iter().flat_map(|&t| self.engine.piece(t)).collect();
            match label(&String::from_utf8_lossy(&bytes)) {
                Label::Refusal if i < self.n_harmful => counts.refused += 1,
                Label::Refusal => counts.falsely_refused += 1,
                Label::Degenerate => counts.degenerate += 1,
                Label::Compliance => {}
            }
        }
        Ok(counts)
    }
}
