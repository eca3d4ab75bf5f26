//! Which candidate is the refusal direction: the one whose removal lets harmful prompts through
//! most, whose addition makes the model refuse harmless ones, and which changes harmless answers
//! little (Arditi et al. 2024, appendix C).
//!
//! Instead of evaluating every candidate on every held-out prompt, successive halving evaluates all
//! candidates on few prompts, and the remaining ones on more.

use super::capture::Grid;
use super::error::{Error, Result};
use super::intervene::{ablate, add, unit};
use super::score::refusal_score;
use crate::gguf::Watch;
use crate::llama::graph::Structure;
use crate::llama::{Hooks, Prefill, kl_divergence};

/// Layers from this share of the model's on are too late to be picked.
const LATEST_LAYER: f64 = 0.8;
/// Where no candidate passes, the limit on KL becomes the next of these, in nats.
const WIDER_KL: [f64; 3] = [0.2, 0.5, 1.0];
/// Prompts of each kind that a candidate has been evaluated on, and how many candidates go on.
const RUNGS: [(usize, usize); 3] = [(4, 24), (8, 12), (16, 6)];

/// A layer and a position counted back from the last token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// The input of this block.
    pub layer: usize,
    /// 0 is the prompt's last token: position -1.
    pub behind: usize,
}

/// The effects of a candidate, averaged over `n` prompts of each kind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scores {
    /// The candidate.
    pub cell: Cell,
    /// Prompts of each kind.
    pub n: usize,
    /// Mean refusal score of harmful prompts without the direction; low is good.
    pub bypass: f64,
    /// Mean refusal score of harmless prompts with it added; above 0 is good.
    pub induce: f64,
    /// Mean KL at the last token of harmless prompts without it, nats.
    pub kl_nats: f64,
}

/// The held-out prompts that the filter leaves, and what they are scored by.
pub struct Judges<'a> {
    /// Harmful prompts that the model refuses.
    pub harmful: Vec<&'a [i32]>,
    /// Harmless prompts that it does not refuse.
    pub harmless: Vec<&'a [i32]>,
    /// First tokens of refusals.
    pub refusal_tokens: &'a [i32],
    /// Of the model that is asked.
    pub structure: &'a Structure,
}

/// How strict to be, and how thorough.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// KL above which a candidate is dropped, nats.
    pub max_kl: f64,
    /// Never widen that limit.
    pub strict: bool,
    /// Evaluate every candidate on every prompt.
    pub exhaustive: bool,
}

/// The result of the selection.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    /// The pick.
    pub pick: Scores,
    /// The limit that it passed, nats.
    pub max_kl: f64,
    /// Every candidate that was evaluated, by layer and position, on as many prompts as it was.
    pub scores: Vec<Scores>,
    /// Tokens decoded by the selection.
    pub n_tokens: u64,
    /// Tokens that the exhaustive search decodes.
    pub n_tokens_exhaustive: u64,
}

/// Picks among `candidates`; `progress` gets how many evaluations are done, of how many.
///
/// # Errors
/// [`Error::NonePasses`], or a failing decode.
pub fn select(
    prefill: &mut Prefill<'_>,
    candidates: &Grid<f32>,
    judges: &Judges<'_>,
    limits: Limits,
    watch: &dyn Watch,
) -> Result<Selection> {
    let start = prefill.n_tokens();
    let evaluator = Evaluator::new(prefill, candidates, judges)?;
    let all: Vec<Cell> = (0..candidates.n_layer)
        .flat_map(|layer| (0..candidates.n_pos).map(move |behind| Cell { layer, behind }))
        .collect();
    let n_prompts = judges.harmful.len().min(judges.harmless.len());
    let full = Prefill::cost(&judges.harmful) + 2 * Prefill::cost(&judges.harmless);
    let mut tallies: Vec<Tally> = all.iter().map(|&cell| Tally::new(cell)).collect();
    let latest = LATEST_LAYER * candidates.n_layer as f64;
    if !limits.exhaustive {
        // Whatever their score, these cannot be picked.
        tallies.retain(|t| (t.cell.layer as f64) < latest);
    }
    let rungs = RUNGS.iter().filter(|(n, _)| !limits.exhaustive && *n < n_prompts);
    let rungs: Vec<(usize, usize)> = rungs.copied().chain([(n_prompts, usize::MAX)]).collect();
    let mut left: Vec<usize> = (0..tallies.len()).collect();
    for (n, go_on) in rungs {
        for (done, &i) in left.iter().enumerate() {
            watch.part("trying candidates", done, left.len());
            evaluator.evaluate(prefill, &mut tallies[i], n)?;
        }
        left.sort_by(|&a, &b| {
            tallies[a].rank(limits.max_kl).total_cmp(&tallies[b].rank(limits.max_kl))
        });
        left.truncate(go_on);
    }
    let finalists: Vec<Scores> = left.iter().map(|&i| tallies[i].scores()).collect();
    let scores: Vec<Scores> = tallies.iter().map(Tally::scores).collect();
    let eligible = |s: &Scores| (s.cell.layer as f64) < latest;
    let (pick, max_kl) = pick(&finalists, &scores, limits, eligible)?;
    let n_tokens = prefill.n_tokens() - start;
    let n_tokens_exhaustive = full * all.len() as u64;
    Ok(Selection { pick, max_kl, scores, n_tokens, n_tokens_exhaustive })
}

/// The lowest bypass among those that pass, under the published limit or the first wider one.
fn pick(
    finalists: &[Scores],
    all: &[Scores],
    limits: Limits,
    eligible: impl Fn(&Scores) -> bool,
) -> Result<(Scores, f64)> {
    let wider = WIDER_KL.iter().copied().filter(|&kl| kl > limits.max_kl && !limits.strict);
    for max_kl in std::iter::once(limits.max_kl).chain(wider) {
        let passing = finalists.iter().filter(|s| eligible(s) && passes(s, max_kl));
        if let Some(best) = passing.min_by(|a, b| a.bypass.total_cmp(&b.bypass)) {
            return Ok((*best, max_kl));
        }
    }
    let count = |of: &dyn Fn(&Scores) -> bool| all.iter().filter(|s| of(s)).count();
    let finite = |s: &Scores| s.bypass.is_finite() && s.induce.is_finite() && s.kl_nats.is_finite();
    Err(Error::NonePasses {
        of: all.len(),
        not_finite: count(&|s| !finite(s)),
        late: count(&|s| finite(s) && !eligible(s)),
        induce: count(&|s| finite(s) && eligible(s) && s.induce < 0.0),
        kl: count(&|s| finite(s) && eligible(s) && s.induce >= 0.0 && s.kl_nats > limits.max_kl),
        max_kl: limits.max_kl,
    })
}

fn passes(s: &Scores, max_kl: f64) -> bool {
    s.bypass.is_finite() && s.induce >= 0.0 && s.kl_nats <= max_kl
}

/// Sums for one candidate over the first `n` prompts of each kind.
#[derive(Debug, Clone, Copy)]
struct Tally {
    cell: Cell,
    n: usize,
    bypass: f64,
    induce: f64,
    kl: f64,
}

impl Tally {
    fn new(cell: Cell) -> Tally {
        Tally { cell, n: 0, bypass: 0.0, induce: 0.0, kl: 0.0 }
    }

    fn scores(&self) -> Scores {
        let n = self.n as f64;
        let (bypass, induce, kl_nats) = (self.bypass / n, self.induce / n, self.kl / n);
        Scores { cell: self.cell, n: self.n, bypass, induce, kl_nats }
    }

    /// Low is good: first the limit on KL that is passed, then the bypass. Few prompts are noisy: a
    /// candidate just above a limit is not yet distinguishable from one just below it.
    fn rank(&self, max_kl: f64) -> f64 {
        let s = self.scores();
        if !(s.bypass.is_finite() && s.induce.is_finite() && s.kl_nats.is_finite()) {
            return f64::INFINITY;
        }
        let slack = 1.0 + 2.0 / self.n as f64;
        let limits = std::iter::once(max_kl).chain(WIDER_KL);
        let level = limits.take_while(|kl| s.kl_nats > kl * slack).count();
        let level = level + if s.induce < -2.0 / (self.n as f64).sqrt() { 10 } else { 0 };
        // Scores are log odds of at least 1e-8: within 20 of zero.
        level as f64 * 100.0 + s.bypass
    }
}

/// What every candidate is evaluated against.
struct Evaluator<'a> {
    candidates: &'a Grid<f32>,
    judges: &'a Judges<'a>,
    /// Logits after each harmless prompt, unchanged.
    base: Vec<Vec<f32>>,
}

impl<'a> Evaluator<'a> {
    fn new(
        prefill: &mut Prefill<'_>,
        candidates: &'a Grid<f32>,
        judges: &'a Judges<'a>,
    ) -> Result<Evaluator<'a>> {
        let mut base = Vec::new();
        prefill.run(&judges.harmless, Hooks::new(), None, |_, logits| {
            base.push(logits.to_vec());
            Ok(())
        })?;
        Ok(Evaluator { candidates, judges, base })
    }

    /// Brings `tally` to `n` prompts of each kind.
    fn evaluate(&self, prefill: &mut Prefill<'_>, tally: &mut Tally, n: usize) -> Result<()> {
        let Cell { layer, behind } = tally.cell;
        let raw = self.candidates.at(layer, behind);
        let Some(unit) = unit(raw) else {
            (tally.n, tally.bypass, tally.induce, tally.kl) = (n, f64::NAN, f64::NAN, f64::NAN);
            return Ok(());
        };
        let new = tally.n..n;
        let (harmful, harmless) =
            (&self.judges.harmful[new.clone()], &self.judges.harmless[new.clone()]);
        let tokens = self.judges.refusal_tokens;
        // One run for both kinds: the removal is the same.
        let both: Vec<&[i32]> = harmful.iter().chain(harmless).copied().collect();
        prefill.run(&both, ablate(Hooks::new(), &unit), None, |i, logits| {
            match i.checked_sub(harmful.len()) {
                None => tally.bypass += refusal_score(logits, tokens),
                Some(i) => tally.kl += kl_divergence(&self.base[new.start + i], logits),
            }
            Ok(())
        })?;
        let with_it = add(Hooks::new(), self.judges.structure, raw, layer as u32);
        prefill.run(harmless, with_it, None, |_, logits| {
            tally.induce += refusal_score(logits, tokens);
            Ok(())
        })?;
        tally.n = n;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(layer: usize, bypass: f64, induce: f64, kl_nats: f64) -> Scores {
        Scores { cell: Cell { layer, behind: 0 }, n: 32, bypass, induce, kl_nats }
    }

    fn limits(strict: bool) -> Limits {
        Limits { max_kl: 0.1, strict, exhaustive: false }
    }

    #[test]
    fn the_lowest_bypass_that_passes_is_picked() {
        let all =
            [scores(1, -9.0, -1.0, 0.0), scores(2, -3.0, 1.0, 0.05), scores(3, -5.0, 1.0, 0.2)];
        let (best, max_kl) = pick(&all, &all, limits(false), |_| true).unwrap();
        assert_eq!((best.cell.layer, max_kl), (2, 0.1));
    }

    #[test]
    fn the_limit_widens_in_named_steps_unless_strict() {
        let all = [scores(2, -3.0, 1.0, 0.4), scores(3, -5.0, 1.0, 0.9), scores(9, -5.0, 1.0, 0.0)];
        let (best, max_kl) = pick(&all, &all, limits(false), |s| s.cell.layer < 9).unwrap();
        assert_eq!((best.cell.layer, max_kl), (2, 0.5));
        let error = pick(&all, &all, limits(true), |s| s.cell.layer < 9).unwrap_err();
        assert!(matches!(error, Error::NonePasses { of: 3, late: 1, kl: 2, induce: 0, .. }));
    }
}
