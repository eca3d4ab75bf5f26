//! Which candidates are looked at: every block once, the promising ones at several strengths, the
//! best of those by halves and together, and the best of all between the strengths tried.

use std::collections::BTreeMap;

use super::Search;
use super::rank::Ranked;
use super::screen::{Candidate, Screen, Screened};
use crate::direction::Progress;
use crate::llama::Prefill;
use crate::repair::Result;
use crate::repair::half::Half;

/// The strength at which every block is tried once.
const PROBE: f64 = 2.0;
/// Blocks that are tried at several strengths.
const PROMISING: usize = 6;
/// Blocks whose halves are tried apart.
const PARTED: usize = 2;
/// Blocks that are tried together with the best one.
const PARTNERS: usize = 3;
/// The strengths they are tried at, until one goes far over the budget.
const STRENGTHS: [f64; 4] = [1.0, 2.0, 4.0, 8.0];
/// Over the budget by this many times, a greater strength is not tried.
const FAR_OVER: f64 = 3.0;
/// Factors to the best strengths that are tried at the end.
const BETWEEN: [f64; 3] = [0.75, 1.25, 1.5];
/// Sets of blocks whose strength is refined.
const REFINED: usize = 2;
/// A first look is at every so-manieth prompt: many candidates, few prompts.
const COARSE: usize = 4;
const MEDIUM: usize = 2;
const ALL: usize = 1;

/// A search under way.
pub struct Trials<'a, 'e> {
    search: &'a Search,
    screen: &'a Screen<'a>,
    prefill: &'a mut Prefill<'e>,
    /// Told what is done.
    pub progress: &'a mut dyn Progress,
    /// Everything that was looked at.
    pub looks: Vec<Screened>,
}

impl<'a, 'e> Trials<'a, 'e> {
    /// Nothing looked at yet.
    pub fn new(
        search: &'a Search,
        screen: &'a Screen<'a>,
        prefill: &'a mut Prefill<'e>,
        progress: &'a mut dyn Progress,
    ) -> Trials<'a, 'e> {
        Trials { search, screen, prefill, progress, looks: Vec::new() }
    }

    /// Looks at what may help; `ranked` says which halves speak against the direction.
    ///
    /// # Errors
    /// A failing decode.
    pub fn run(&mut self, ranked: &[Ranked]) -> Result<()> {
        let sets = match self.search.all_halves {
            true => vec![self.search.halves.clone()],
            false => self.promising(blocks(self.search, ranked))?,
        };
        for (done, halves) in sets.iter().enumerate() {
            self.progress.part("trying strengths", done, sets.len());
            self.strengths(halves)?;
        }
        if !self.search.all_halves {
            self.apart()?;
            self.together(&sets)?;
        }
        self.refine()
    }

    /// The sets of halves that are worth whole answers, each at its best strength, the best first.
    pub fn finalists(&self) -> Vec<Candidate> {
        let mut sets: Vec<Candidate> = Vec::new();
        for look in self.best() {
            if !sets.iter().any(|c| c.halves == look.candidate.halves) {
                sets.push(look.candidate);
            }
        }
        sets
    }

    /// Looks at one candidate on all prompts.
    ///
    /// # Errors
    /// A failing decode.
    pub fn look_closer(&mut self, candidate: &Candidate) -> Result<Screened> {
        self.look(&candidate.halves, candidate.alpha, ALL)
    }

    /// Every block once; the best few.
    fn promising(&mut self, blocks: Vec<Vec<Half>>) -> Result<Vec<Vec<Half>>> {
        let probe = self.search.alpha.unwrap_or(PROBE);
        for (done, halves) in blocks.iter().enumerate() {
            self.progress.part("trying blocks", done, blocks.len());
            self.look(halves, probe, COARSE)?;
        }
        let best = self.best().into_iter().map(|look| look.candidate.halves);
        Ok(best.take(PROMISING).collect())
    }

    /// One set of halves at several strengths.
    fn strengths(&mut self, halves: &[Half]) -> Result<()> {
        if let Some(alpha) = self.search.alpha {
            return self.look(halves, alpha, MEDIUM).map(drop);
        }
        for alpha in STRENGTHS {
            let look = self.look(halves, alpha, MEDIUM)?;
            if self.over(&look) > FAR_OVER {
                break;
            }
        }
        Ok(())
    }

    /// The best blocks once more, a half at a time: one half needs more strength than two.
    fn apart(&mut self) -> Result<()> {
        let sets = self.finalists().into_iter().filter(|set| set.halves.len() > 1);
        for set in sets.take(PARTED).collect::<Vec<Candidate>>() {
            for half in set.halves {
                let alpha = self.search.alpha.unwrap_or(1.5 * set.alpha);
                self.look(&[half], alpha, MEDIUM)?;
            }
        }
        Ok(())
    }

    /// Adds block by block to the best one, as long as that helps. More blocks need less strength
    /// each.
    fn together(&mut self, sets: &[Vec<Half>]) -> Result<()> {
        let Some(best) = self.best().into_iter().next() else { return Ok(()) };
        // What it is measured against is seen on the same prompts.
        let mut best = self.look_closer(&best.candidate)?;
        for n in 2..=self.search.max_blocks {
            self.progress.part("trying together", n, self.search.max_blocks + 1);
            let before = self.merit(&best);
            for more in sets.iter().take(PARTNERS) {
                let mut halves = [&best.candidate.halves[..], more].concat();
                halves.sort_unstable();
                halves.dedup();
                if halves.len() < best.candidate.halves.len() + more.len() {
                    continue;
                }
                let alpha = best.candidate.alpha;
                for alpha in self.search.alpha.map_or(vec![alpha * 0.75, alpha * 0.5], |a| vec![a])
                {
                    self.look(&halves, alpha, ALL)?;
                }
            }
            best = self.best().swap_remove(0);
            if self.merit(&best) <= before {
                break;
            }
        }
        Ok(())
    }

    /// The best sets once more, between the strengths tried.
    fn refine(&mut self) -> Result<()> {
        if self.search.alpha.is_some() {
            return Ok(());
        }
        for (done, one) in self.finalists().iter().take(REFINED).enumerate() {
            self.progress.part("trying strengths", done, REFINED);
            for factor in BETWEEN {
                self.look(&one.halves, one.alpha * factor, ALL)?;
            }
        }
        Ok(())
    }

    fn look(&mut self, halves: &[Half], alpha: f64, step: usize) -> Result<Screened> {
        let candidate = Candidate { halves: halves.to_vec(), alpha };
        let look = self.screen.look(self.prefill, &candidate, step)?;
        // A closer look replaces the one before.
        self.looks.retain(|one| one.candidate != candidate);
        self.looks.push(look.clone());
        Ok(look)
    }

    /// Everything looked at, the best first.
    fn best(&self) -> Vec<Screened> {
        let mut best = self.looks.clone();
        best.sort_by(|a, b| self.merit(b).total_cmp(&self.merit(a)));
        best
    }

    /// Refusals, and what comes before them, less what goes over the budget.
    fn merit(&self, look: &Screened) -> f64 {
        let merit = look.refusal + look.likelihood - self.over(look).max(0.0);
        if merit.is_finite() { merit } else { f64::NEG_INFINITY }
    }

    /// By how much a candidate goes over the budget: 1 is twice what is allowed.
    fn over(&self, look: &Screened) -> f64 {
        let budget = self.search.budget;
        let points = 100.0 * (look.false_refusal - self.screen.before);
        // Of few prompts one alone is more points than the budget: it says nothing yet.
        let allowed = budget.max_false_refusal.max(100.0 / look.n_benign.max(1) as f64);
        let ratio = |cost: f64, allowed: f64| cost / allowed.max(1e-3) - 1.0;
        ratio(points, allowed).max(ratio(look.kl_nats, budget.max_kl))
    }
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
