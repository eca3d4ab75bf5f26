//! Which candidates' whole answers are read: each of the best sets of halves once, then weaker or
//! stronger versions of the most promising set, until its best strength within the budget is known,
//! or the weakest that refuses enough.

use super::answers::Counts;
use super::front::{Answered, Budget, reaches};
use super::screen::Candidate;
use crate::repair::half::Half;

/// Sets of halves that are tried.
const SETS: usize = 4;
/// No set is tried more often than this if there are several.
const TRIES: usize = 3;
/// Factor to the next strength of a set that is within the budget.
const STRONGER: f64 = 1.25;
/// Factor to the next strength of a set that is over the budget.
const WEAKER: f64 = 0.8;
/// The same if it is known how much is enough: the best strength by first tokens is far too strong.
const MUCH_WEAKER: f64 = 0.5;
/// Strengths closer than this factor count as equal.
const NEAR: f64 = 1.05;

/// What a candidate may cost and when it is strong enough.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds<'a> {
    /// What it may cost.
    pub budget: &'a Budget,
    /// Answers of the unrepaired model.
    pub before: &'a Counts,
    /// Number of refusals that is enough, if known.
    pub enough: Option<usize>,
}

/// The next candidate to read, given what was read; None if no candidate is worth it. `finalists`
/// are the sets at their best strength by first tokens, the best first.
pub(super) fn next(
    finalists: &[Candidate],
    answered: &[Answered],
    bounds: Bounds<'_>,
    is_strength_given: bool,
) -> Option<Candidate> {
    let is_tried = |set: &&Candidate| of_set(answered, &set.halves).next().is_some();
    let sets = &finalists[..finalists.len().min(SETS)];
    if let Some(untried) = sets.iter().find(|set| !is_tried(set)) {
        return Some(untried.clone());
    }
    if is_strength_given {
        return None;
    }
    let promise = |set: &Candidate| {
        let worth = |one| bounds.budget.worth(one, bounds.before, bounds.enough);
        let worths = of_set(answered, &set.halves).map(worth);
        worths.fold(f64::NEG_INFINITY, f64::max)
    };
    let is_open =
        |set: &&Candidate| sets.len() == 1 || of_set(answered, &set.halves).count() < TRIES;
    let mut open: Vec<(f64, Candidate)> = sets
        .iter()
        .filter(is_open)
        .filter_map(|set| {
            let alpha = strength(answered, &set.halves, bounds.enough)?;
            Some((promise(set), Candidate { halves: set.halves.clone(), alpha }))
        })
        .collect();
    // Of equals the one that began better stays first.
    open.sort_by(|a, b| b.0.total_cmp(&a.0));
    open.into_iter().next().map(|(_, candidate)| candidate)
}

/// The strength to try next: stronger while the budget holds and too little is refused, weaker
/// while not, then between.
fn strength(answered: &[Answered], halves: &[Half], enough: Option<usize>) -> Option<f64> {
    let alphas = |may_grow: bool| {
        of_set(answered, halves)
            .filter(move |one| (one.within_budget && !reaches(one, enough)) == may_grow)
            .map(|one| one.candidate.alpha)
    };
    if is_past_peak(answered, halves) {
        return None;
    }
    let held = alphas(true).fold(f64::NEG_INFINITY, f64::max);
    // A strength that broke the budget below one that held it is noise, not a bound.
    let broke = alphas(false).filter(|&alpha| alpha > held).fold(f64::INFINITY, f64::min);
    match (held.is_finite(), broke.is_finite()) {
        (true, true) => (broke / held > NEAR).then(|| (held * broke).sqrt()),
        (true, false) => Some(held * STRONGER),
        (false, true) if enough.is_some() => Some(broke * MUCH_WEAKER),
        (false, true) => Some(broke * WEAKER),
        (false, false) => None,
    }
}

/// True if the two strongest that are within the budget refuse less than a weaker one.
fn is_past_peak(answered: &[Answered], halves: &[Half]) -> bool {
    let mut held: Vec<&Answered> =
        of_set(answered, halves).filter(|one| one.within_budget).collect();
    held.sort_by(|a, b| b.candidate.alpha.total_cmp(&a.candidate.alpha));
    let refused: Vec<usize> = held.iter().map(|one| one.counts.refused).collect();
    let [first, second, weaker @ ..] = &refused[..] else { return false };
    weaker.iter().any(|more| more > first && more > second)
}

fn of_set<'a>(answered: &'a [Answered], halves: &'a [Half]) -> impl Iterator<Item = &'a Answered> {
    answered.iter().filter(move |one| one.candidate.halves == halves)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llama::graph::Part;

    const BUDGET: Budget = Budget { max_false_refusal: 5.0, max_kl: 0.1 };
    const BEFORE: Counts =
        Counts { refused: 6, n_harmful: 32, falsely_refused: 0, n_benign: 40, degenerate: 0 };
    const BOUNDS: Bounds<'_> = Bounds { budget: &BUDGET, before: &BEFORE, enough: None };

    fn set(block: u32, alpha: f64) -> Candidate {
        Candidate { halves: vec![Half { block, part: Part::Mlp }], alpha }
    }

    fn counts(refused: usize, falsely_refused: usize) -> Counts {
        Counts { refused, n_harmful: 32, falsely_refused, n_benign: 40, degenerate: 0 }
    }

    fn answered(candidate: Candidate, refused: usize, falsely_refused: usize) -> Answered {
        let counts = counts(refused, falsely_refused);
        let within_budget = BUDGET.allows(&counts, 0.01, &BEFORE);
        Answered { candidate, counts, kl_nats: 0.01, within_budget, on_front: false }
    }

    /// What is read next, of sets 3, 5 and 7.
    fn after(answered: &[Answered]) -> Option<Candidate> {
        let sets = [set(3, 2.0), set(5, 1.0), set(7, 4.0)];
        next(&sets, answered, BOUNDS, false)
    }

    #[test]
    fn every_set_is_tried_once_before_one_is_tried_again() {
        let mut all = Vec::new();
        for expected in [set(3, 2.0), set(5, 1.0), set(7, 4.0)] {
            let one = after(&all).unwrap();
            assert_eq!(one, expected);
            all.push(answered(one, 10, 0));
        }
        assert_eq!(after(&all), Some(set(3, 2.5)), "of equals the one in front");
        let given = next(&[set(3, 2.0)], &all, BOUNDS, true);
        assert_eq!(given, None, "the strength is given");
    }

    #[test]
    fn the_set_that_refuses_most_for_its_cost_is_tried_again() {
        // 20 refused at 6 prompts over the budget of 2 are worth less than 18 within it.
        let mut all = vec![
            answered(set(3, 2.0), 15, 1),
            answered(set(5, 1.0), 20, 8),
            answered(set(7, 4.0), 18, 2),
        ];
        assert_eq!(after(&all), Some(set(7, 5.0)));
        all.push(answered(set(7, 5.0), 19, 4));
        let between = after(&all).unwrap();
        assert!((between.alpha - 20f64.sqrt()).abs() < 1e-12, "{between:?}");
        all.push(answered(between, 18, 3));
        assert_eq!(after(&all), Some(set(3, 2.5)), "three tries are enough");
    }

    #[test]
    fn a_set_over_the_budget_is_weakened_and_one_past_its_peak_is_left() {
        let over = [answered(set(3, 2.0), 15, 9)];
        assert_eq!(strength(&over, &over[0].candidate.halves, None), Some(1.6));
        let falling = [
            answered(set(3, 1.0), 15, 0),
            answered(set(3, 1.25), 14, 0),
            answered(set(3, 1.6), 13, 0),
        ];
        assert_eq!(strength(&falling, &falling[0].candidate.halves, None), None);
        assert_eq!(strength(&falling[..2], &falling[0].candidate.halves, None), Some(1.5625));
    }

    #[test]
    fn a_strength_that_refuses_enough_is_weakened_until_it_does_not() {
        let strong = answered(set(3, 2.0), 20, 1);
        let halves = strong.candidate.halves.clone();
        let next = |all: &[Answered]| strength(all, &halves, Some(18));
        assert_eq!(next(std::slice::from_ref(&strong)), Some(1.0));
        let weak = answered(set(3, 1.0), 17, 1);
        let between = next(&[strong.clone(), weak.clone()]).unwrap();
        assert!((between - 2f64.sqrt()).abs() < 1e-12, "{between}");
        assert_eq!(next(&[weak]), Some(1.25), "too little is refused");
    }
}
