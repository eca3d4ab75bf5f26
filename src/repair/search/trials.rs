//! Which candidates are tried: every block once, the promising ones at several strengths, the best
//! of those by halves and together, and the best of all between the strengths tried. The best are
//! compared on all prompts.
//!
//! A model of n blocks has 2^(2n) sets of halves, and each trial costs a pass over the prompts. So
//! each stage keeps only the best few sets, the many first trials use few prompts, and a larger set
//! is only put together from sets that did well by themselves.

use std::collections::{BTreeMap, BTreeSet};

use super::rank::Ranked;
use super::screen::{Candidate, Screen, Screened};
use super::settings::Search;
use crate::gguf::Watch;
use crate::llama::Prefill;
use crate::repair::Result;
use crate::repair::half::Half;

/// The strength at which every block is tried once.
const PROBE: f64 = 2.0;
/// Blocks that are tried at several strengths.
const PROMISING: usize = 6;
/// Blocks whose halves are also tried separately.
const PARTED: usize = 2;
/// Factors to a block's best strength that are tried for one half of it.
const OF_HALF: [f64; 2] = [1.0, 1.5];
/// Blocks that are tried together with the best one.
const PARTNERS: usize = 3;
/// The strengths they are tried at, until one is over the budget.
const STRENGTHS: [f64; 4] = [1.0, 2.0, 4.0, 8.0];
/// Factors to a set's own best strength that are tried where another set joins it.
const SHARED: [f64; 2] = [0.75, 0.5];
/// Sets that are compared on all prompts: on few prompts, the best of many looks better than it is.
const COMPARED: usize = 5;
/// Factors to the best strength that are tried at the end.
const BETWEEN: [f64; 2] = [0.75, 1.25];
/// A set whose merit drops by this much at a greater strength is not tried at still greater ones.
const WORSE: f64 = 0.1;
/// First trials use every fourth prompt, the next every second: many candidates, few prompts.
const COARSE: usize = 4;
const MEDIUM: usize = 2;
const ALL: usize = 1;

/// The state of a search.
pub(super) struct Trials<'a, 'e> {
    search: &'a Search,
    screen: &'a Screen<'a>,
    prefill: &'a mut Prefill<'e>,
    /// Reports progress.
    pub watch: &'a dyn Watch,
    /// The latest measurement of each candidate that was tried.
    pub screened: Vec<Screened>,
}

impl<'a, 'e> Trials<'a, 'e> {
    /// A search in which nothing was tried yet.
    pub(super) fn new(
        search: &'a Search,
        screen: &'a Screen<'a>,
        prefill: &'a mut Prefill<'e>,
        watch: &'a dyn Watch,
    ) -> Trials<'a, 'e> {
        Trials { search, screen, prefill, watch, screened: Vec::new() }
    }

    /// Tries what may help; `ranked` shows which halves are aligned against the direction.
    ///
    /// # Errors
    /// A failing decode.
    pub(super) fn run(&mut self, ranked: &[Ranked]) -> Result<()> {
        let sets = match self.search.all_halves {
            true => vec![self.search.halves.clone()],
            false => self.promising(blocks(self.search, ranked))?,
        };
        for (done, halves) in sets.iter().enumerate() {
            self.watch.part("trying strengths", done, sets.len());
            self.strengths(halves)?;
        }
        if !self.search.all_halves {
            self.apart()?;
            self.compare()?;
            self.together()?;
        }
        self.refine()?;
        self.compare()
    }

    /// The sets of halves that are worth whole answers, each at its best strength, the best first.
    pub(super) fn finalists(&self) -> Vec<Candidate> {
        let mut sets: Vec<Candidate> = Vec::new();
        for look in self.best() {
            if !sets.iter().any(|c| c.halves == look.candidate.halves) {
                sets.push(look.candidate);
            }
        }
        sets
    }

    /// Measures one candidate on all prompts.
    ///
    /// # Errors
    /// A failing decode.
    pub(super) fn try_on_all_prompts(&mut self, candidate: &Candidate) -> Result<Screened> {
        self.try_candidate(&candidate.halves, candidate.alpha, ALL)
    }

    /// Tries every block once and returns the best few.
    fn promising(&mut self, blocks: Vec<Vec<Half>>) -> Result<Vec<Vec<Half>>> {
        let probe = self.search.alpha.unwrap_or(PROBE);
        for (done, halves) in blocks.iter().enumerate() {
            self.watch.part("trying blocks", done, blocks.len());
            self.try_candidate(halves, probe, COARSE)?;
        }
        let best = self.best().into_iter().map(|look| look.candidate.halves);
        Ok(best.take(PROMISING).collect())
    }

    /// Tries one set of halves at several strengths.
    fn strengths(&mut self, halves: &[Half]) -> Result<()> {
        if let Some(alpha) = self.search.alpha {
            return self.try_candidate(halves, alpha, MEDIUM).map(drop);
        }
        let mut best = f64::NEG_INFINITY;
        for alpha in STRENGTHS {
            let look = self.try_candidate(halves, alpha, MEDIUM)?;
            if self.over(&look) > 0.0 || self.merit(&look) < best - WORSE {
                break;
            }
            best = best.max(self.merit(&look));
        }
        Ok(())
    }

    /// Measures the best sets on all prompts, until the leading ones have all been measured so.
    fn compare(&mut self) -> Result<()> {
        let n_all = self.screen.n_benign();
        loop {
            let best = self.finalists();
            let hasty = best.into_iter().take(COMPARED).find(|set| {
                self.screened.iter().any(|look| look.candidate == *set && look.n_benign < n_all)
            });
            match hasty {
                Some(candidate) => self.try_on_all_prompts(&candidate)?,
                None => return Ok(()),
            };
        }
    }

    /// Tries the halves of the best blocks separately: one half may be enough, with less harm, and
    /// may need more strength than both.
    fn apart(&mut self) -> Result<()> {
        let sets = self.finalists().into_iter().filter(|set| set.halves.len() > 1);
        for set in sets.take(PARTED).collect::<Vec<Candidate>>() {
            for half in set.halves {
                for factor in self.search.alpha.map_or(OF_HALF.to_vec(), |_| vec![1.0]) {
                    let look = self.try_candidate(&[half], factor * set.alpha, MEDIUM)?;
                    if self.over(&look) > 0.0 {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Tries the best set with each of the next, and the best few all together. More blocks need
    /// less strength each.
    fn together(&mut self) -> Result<()> {
        let sets = self.finalists();
        let Some(best) = sets.first() else { return Ok(()) };
        let next = sets.iter().skip(1).filter(|set| is_apart(set, best));
        let next: Vec<&Candidate> = next.take(PARTNERS).collect();
        let pairs = next.iter().map(|&one| vec![best, one]);
        // Of two halves of a block, or a half and its block, one is enough.
        let mut crowd = vec![best];
        for &one in &next {
            if crowd.iter().all(|other| is_apart(one, other)) {
                crowd.push(one);
            }
        }
        let crowds = (3..=crowd.len()).map(|n| crowd[..n].to_vec());
        let unions: Vec<Vec<&Candidate>> = pairs.chain(crowds).collect();
        for (done, union) in unions.iter().enumerate() {
            self.watch.part("trying together", done, unions.len());
            let mut halves: Vec<Half> = union.iter().flat_map(|c| c.halves.clone()).collect();
            halves.sort_unstable();
            if n_blocks(&halves) > self.search.max_blocks {
                continue;
            }
            // As strong as the weakest of them by itself: the others tolerate more.
            let weakest = union.iter().map(|c| c.alpha).fold(f64::INFINITY, f64::min);
            let part = 2.0 / union.len() as f64;
            let shared = SHARED.map(|of| of * part * weakest).to_vec();
            for alpha in self.search.alpha.map_or(shared, |given| vec![given]) {
                self.try_candidate(&halves, alpha, MEDIUM)?;
            }
        }
        Ok(())
    }

    /// Tries the best set between the strengths tried so far.
    fn refine(&mut self) -> Result<()> {
        let best = self.finalists().into_iter().next();
        let Some(best) = best.filter(|_| self.search.alpha.is_none()) else { return Ok(()) };
        for factor in BETWEEN {
            self.try_candidate(&best.halves, best.alpha * factor, ALL)?;
        }
        Ok(())
    }

    fn try_candidate(&mut self, halves: &[Half], alpha: f64, step: usize) -> Result<Screened> {
        let candidate = Candidate { halves: halves.to_vec(), alpha };
        let n_benign = self.screen.n_benign().div_ceil(step);
        let seen = |one: &&Screened| one.candidate == candidate && one.n_benign >= n_benign;
        if let Some(look) = self.screened.iter().find(seen) {
            return Ok(look.clone());
        }
        let look = self.screen.measure(self.prefill, &candidate, step)?;
        // A measurement on more prompts replaces the one before.
        self.screened.retain(|one| one.candidate != candidate);
        self.screened.push(look.clone());
        Ok(look)
    }

    /// All measurements, the best first.
    fn best(&self) -> Vec<Screened> {
        let mut best = self.screened.clone();
        best.sort_by(|a, b| self.merit(b).total_cmp(&self.merit(a)));
        best
    }

    /// The share of refusals plus half their likelihood, minus the excess over the budget. The
    /// likelihood separates candidates of which no greedy answer refuses yet.
    fn merit(&self, look: &Screened) -> f64 {
        let merit = look.refusal + 0.5 * look.likelihood - self.over(look).max(0.0);
        if merit.is_finite() { merit } else { f64::NEG_INFINITY }
    }

    /// The excess over the budget, as a ratio: 0 is all that is allowed, 1 is twice as much.
    fn over(&self, look: &Screened) -> f64 {
        let budget = self.search.budget;
        let points = 100.0 * (look.false_refusal - self.screen.before);
        // With few prompts a single one is more points than the budget, and may be chance.
        let allowed = budget.max_false_refusal.max(100.0 / look.n_benign.max(1) as f64);
        let ratio = |cost: f64, allowed: f64| cost / allowed.max(1e-3) - 1.0;
        ratio(points, allowed).max(ratio(look.kl_nats, budget.max_kl))
    }
}

/// True if no block is in both.
fn is_apart(a: &Candidate, b: &Candidate) -> bool {
    !a.halves.iter().any(|half| b.halves.iter().any(|other| other.block == half.block))
}

fn n_blocks(halves: &[Half]) -> usize {
    halves.iter().map(|half| half.block).collect::<BTreeSet<u32>>().len()
}

/// Blocks with those of their halves whose c is above 0, the largest c first.
fn blocks(search: &Search, ranked: &[Ranked]) -> Vec<Vec<Half>> {
    let mut of_block = BTreeMap::<u32, (f64, Vec<Half>)>::new();
    for one in ranked.iter().filter(|r| r.c > 0.0 && search.halves.contains(&r.half)) {
        let (c, halves) = of_block.entry(one.half.block).or_default();
        *c += one.c;
        halves.push(one.half);
    }
    let mut blocks: Vec<(f64, Vec<Half>)> = of_block.into_values().collect();
    blocks.sort_by(|a, b| b.0.total_cmp(&a.0));
    blocks.into_iter().map(|(_, halves)| halves).collect()
}
