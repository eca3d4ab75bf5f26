//! The cheap check of a candidate: how likely its answers begin as refusals do.

use super::super::half::Half;
use super::super::live::Live;
use super::opening::{OpeningProbabilities, Openings};
use crate::llama::{Hooks, LogitsReader, Prefill, kl_divergence};
use crate::repair::Result;

/// Beginnings less likely than this are not read further.
const LEAST: f64 = 0.02;

/// Blocks, or halves of them, and a strength.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The halves to edit, ascending.
    pub halves: Vec<Half>,
    /// The strength, above 0.
    pub alpha: f64,
}

/// How a candidate's answers begin.
#[derive(Debug, Clone, PartialEq)]
pub struct Screened {
    /// The edit that was tried.
    pub candidate: Candidate,
    /// Share of harmful prompts whose greedy answer begins as a refusal does.
    pub refusal: f64,
    /// The same for harmless prompts.
    pub false_refusal: f64,
    /// Mean probability that an answer to a harmful prompt begins so: what comes before a refusal.
    pub likelihood: f64,
    /// Mean KL to the unrepaired model at the first token of answers to harmless prompts, nats.
    pub kl_nats: f64,
    /// Harmless prompts that were read: a false refusal rate cannot be finer than one of them.
    pub n_benign: usize,
}

/// Prompts with the unrepaired model's logits after them.
pub(super) struct Screen<'a> {
    live: &'a Live,
    harmful: Vec<&'a [i32]>,
    benign: Vec<&'a [i32]>,
    openings: Openings,
    continuations: Vec<Vec<i32>>,
    /// Logits after each harmless prompt, unrepaired.
    base: Vec<Vec<f32>>,
    /// Share of harmless prompts that the unrepaired model refuses.
    pub before: f64,
}

impl<'a> Screen<'a> {
    /// Reads the prompts once, unrepaired.
    ///
    /// # Errors
    /// A failing decode.
    pub(super) fn new(
        prefill: &mut Prefill<'_>,
        live: &'a Live,
        (harmful, benign): (Vec<&'a [i32]>, Vec<&'a [i32]>),
        openings: Openings,
    ) -> Result<Screen<'a>> {
        let (continuations, base, before) = (openings.continuations(), Vec::new(), 0.0);
        let mut screen = Screen { live, harmful, benign, openings, continuations, base, before };
        let mut base = Vec::new();
        let read = screen.read(prefill, Hooks::new(), 1, |_, logits| base.push(logits.to_vec()));
        screen.before = read?.false_refusal;
        screen.base = base;
        Ok(screen)
    }

    /// How many harmless prompts there are.
    pub(super) fn n_benign(&self) -> usize {
        self.benign.len()
    }

    /// Measures `candidate` on every `step`-th prompt.
    ///
    /// # Errors
    /// A failing decode; a half that writes nothing.
    pub(super) fn measure(
        &self,
        prefill: &mut Prefill<'_>,
        candidate: &Candidate,
        step: usize,
    ) -> Result<Screened> {
        let hooks = self.live.strengthen(Hooks::new(), &candidate.halves, candidate.alpha)?;
        let mut kl = Vec::new();
        let shares = self.read(prefill, hooks, step, |i, logits| {
            kl.push(kl_divergence(&self.base[i], logits));
        })?;
        let OpeningShares { refusal, false_refusal, likelihood } = shares;
        let (candidate, n_benign) = (candidate.clone(), kl.len());
        let kl_nats = mean(kl.into_iter());
        Ok(Screened { candidate, refusal, false_refusal, likelihood, kl_nats, n_benign })
    }

    /// How answers begin; `benign` gets each harmless prompt's number and the logits after it.
    fn read(
        &self,
        prefill: &mut Prefill<'_>,
        hooks: Hooks<'_>,
        step: usize,
        mut benign: impl FnMut(usize, &[f32]),
    ) -> Result<OpeningShares> {
        let some = |prompts: &[&'a [i32]]| -> Vec<&'a [i32]> {
            prompts.iter().step_by(step).copied().collect()
        };
        let harmful = some(&self.harmful);
        let both = [&harmful[..], &some(&self.benign)].concat();
        let seen = vec![OpeningProbabilities::default(); both.len()];
        let mut first = |i: usize, logits: &[f32]| {
            if let Some(i) = i.checked_sub(harmful.len()) {
                benign(i * step, logits);
            }
        };
        let mut reader = OpeningReader { openings: &self.openings, seen, first: &mut first };
        prefill.run_on(&both, &self.continuations, hooks, None, &mut reader)?;
        let (of_harmful, of_benign) = reader.seen.split_at(harmful.len());
        let refusal = |seen: &[OpeningProbabilities]| {
            mean(seen.iter().map(|s| f64::from(u8::from(s.refuses(&self.openings)))))
        };
        Ok(OpeningShares {
            refusal: refusal(of_harmful),
            false_refusal: refusal(of_benign),
            likelihood: mean(of_harmful.iter().map(|s| s.likelihood(&self.openings))),
        })
    }
}

/// Records how answers may begin, and reads on where a refusal is still possible.
struct OpeningReader<'a> {
    openings: &'a Openings,
    /// One per prompt, in order.
    seen: Vec<OpeningProbabilities>,
    /// Gets a prompt's number and the logits of its answer's first token.
    first: &'a mut dyn FnMut(usize, &[f32]),
}

impl LogitsReader for OpeningReader<'_> {
    fn logits(&mut self, i: usize, so_far: &[i32], values: &[f32]) -> crate::llama::Result<()> {
        self.seen[i].note(self.openings, so_far, values);
        if so_far.is_empty() {
            (self.first)(i, values);
        }
        Ok(())
    }

    fn wants(&self, i: usize, continuation: &[i32]) -> bool {
        self.seen[i].reach(continuation) >= LEAST
    }
}

/// See [`Screened`].
struct OpeningShares {
    refusal: f64,
    false_refusal: f64,
    likelihood: f64,
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len().max(1) as f64;
    values.sum::<f64>() / n
}
