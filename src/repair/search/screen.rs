//! The cheap look at a candidate: what the first token of each answer says.

use super::super::half::Half;
use super::super::live::Live;
use crate::direction::{kl_nats, refusal_probability};
use crate::llama::{Hooks, Prefill};
use crate::repair::Result;

/// Blocks, or halves of them, and a strength.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Ascending.
    pub halves: Vec<Half>,
    /// Above 0.
    pub alpha: f64,
}

/// A candidate's first tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Screened {
    /// What was tried.
    pub candidate: Candidate,
    /// Mean probability that an answer to a harmful prompt begins as refusals do.
    pub refusal: f64,
    /// The same for harmless prompts.
    pub false_refusal: f64,
    /// Mean KL to the unrepaired model at the first token of answers to harmless prompts, nats.
    pub kl_nats: f64,
}

/// Prompts with what the unrepaired model says to them.
pub struct Screen<'a> {
    live: &'a Live,
    harmful: Vec<&'a [i32]>,
    benign: Vec<&'a [i32]>,
    refusal_tokens: &'a [i32],
    /// Logits behind each harmless prompt, unrepaired.
    base: Vec<Vec<f32>>,
    /// The unrepaired model's own first tokens: refusal, false refusal.
    pub before: (f64, f64),
}

impl<'a> Screen<'a> {
    /// Reads the prompts once, unrepaired.
    ///
    /// # Errors
    /// A failing decode.
    pub fn new(
        prefill: &mut Prefill<'_>,
        live: &'a Live,
        (harmful, benign): (Vec<&'a [i32]>, Vec<&'a [i32]>),
        refusal_tokens: &'a [i32],
    ) -> Result<Screen<'a>> {
        let (mut base, mut refusal) = (Vec::new(), Vec::new());
        let both: Vec<&[i32]> = harmful.iter().chain(&benign).copied().collect();
        let run = prefill.run(&both, Hooks::new(), None, |i, logits| {
            refusal.push(refusal_probability(logits, refusal_tokens));
            if i >= harmful.len() {
                base.push(logits.to_vec());
            }
            Ok(())
        });
        run?;
        let (of_harmful, of_benign) = refusal.split_at(harmful.len());
        let before = (mean(of_harmful), mean(of_benign));
        Ok(Screen { live, harmful, benign, refusal_tokens, base, before })
    }

    /// What `candidate` does, seen on every `step`-th prompt.
    ///
    /// # Errors
    /// A failing decode; a half that writes nothing.
    pub fn look(
        &self,
        prefill: &mut Prefill<'_>,
        candidate: &Candidate,
        step: usize,
    ) -> Result<Screened> {
        let harmful: Vec<&[i32]> = self.harmful.iter().step_by(step).copied().collect();
        let benign: Vec<&[i32]> = self.benign.iter().step_by(step).copied().collect();
        let both: Vec<&[i32]> = harmful.iter().chain(&benign).copied().collect();
        let (mut refusal, mut kl) = (Vec::new(), Vec::new());
        let hooks = self.live.strengthen(Hooks::new(), &candidate.halves, candidate.alpha)?;
        prefill.run(&both, hooks, None, |i, logits| {
            refusal.push(refusal_probability(logits, self.refusal_tokens));
            if let Some(i) = i.checked_sub(harmful.len()) {
                kl.push(kl_nats(&self.base[i * step], logits));
            }
            Ok(())
        })?;
        let (of_harmful, of_benign) = refusal.split_at(harmful.len());
        Ok(Screened {
            candidate: candidate.clone(),
            refusal: mean(of_harmful),
            false_refusal: mean(of_benign),
            kl_nats: mean(&kl),
        })
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}
