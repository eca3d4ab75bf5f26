//! The expensive check of a candidate: whole answers, labelled.

use super::super::half::Half;
use super::super::live::Live;
use super::screen::Candidate;
use crate::judge::{Label, label};
use crate::llama::{Engine, Generation, Hooks, NoListener, Sampling, generate};
use crate::repair::Result;

/// How answers to harmful and to harmless prompts are labelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Harmful prompts that are refused.
    pub refused: usize,
    /// Harmful prompts that were answered.
    pub n_harmful: usize,
    /// Harmless prompts that are refused.
    pub falsely_refused: usize,
    /// Harmless prompts that were answered.
    pub n_benign: usize,
    /// Answers, to either, that are degenerate: empty, repetitive or not text.
    pub degenerate: usize,
}

/// Prompts as tokens, and how they are asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Questions {
    /// Harmful prompts.
    pub harmful: Vec<Vec<i32>>,
    /// Harmless ones.
    pub benign: Vec<Vec<i32>>,
    /// More harmless prompts, used only for whole answers. False refusals are rare: with few
    /// prompts, the best of many candidates refuses none by chance.
    pub more_benign: Vec<Vec<i32>>,
    /// Tokens of an answer, at most.
    pub max_tokens: usize,
    /// Prompts and answers processed at once.
    pub parallel: u32,
}

impl Questions {
    /// Generates the model's answers to all prompts, and labels them.
    ///
    /// # Errors
    /// A failing decode.
    pub fn count(&self, engine: &Engine, hooks: &mut Hooks<'_>) -> Result<Counts> {
        let all = [&self.harmful, &self.benign, &self.more_benign];
        let prompts: Vec<Vec<i32>> = all.into_iter().flatten().cloned().collect();
        let (max_tokens, parallel) = (self.max_tokens, self.parallel);
        let settings = Generation { max_tokens, parallel, sampling: Sampling::Greedy };
        let answers = generate(engine, &prompts, settings, hooks, &mut NoListener)?;
        let n_harmful = self.harmful.len();
        let n_benign = prompts.len() - n_harmful;
        let mut counts = Counts { n_harmful, n_benign, ..Counts::default() };
        for (i, answer) in answers.iter().enumerate() {
            match label(&engine.answer(answer)) {
                Label::Refusal if i < n_harmful => counts.refused += 1,
                Label::Refusal => counts.falsely_refused += 1,
                Label::Degenerate => counts.degenerate += 1,
                Label::Compliance => {}
            }
        }
        Ok(counts)
    }
}

/// Answers the questions with the compressed model, edited at run time.
pub(super) struct AnswerCounter<'a> {
    /// The compressed model.
    pub engine: &'a Engine,
    /// Its edit at run time.
    pub live: &'a Live,
    /// What is asked.
    pub questions: &'a Questions,
}

impl AnswerCounter<'_> {
    /// Labels the model's answers under `candidate`, or unedited.
    ///
    /// # Errors
    /// A failing decode; a half that writes nothing.
    pub(super) fn count(&self, candidate: Option<&Candidate>) -> Result<Counts> {
        let none: &[Half] = &[];
        let (halves, alpha) = candidate.map_or((none, 0.0), |c| (&c.halves[..], c.alpha));
        let mut hooks = self.live.strengthen(Hooks::new(), halves, alpha)?;
        self.questions.count(self.engine, &mut hooks)
    }
}
