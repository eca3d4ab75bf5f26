//! Counts items: shares with intervals, and comparisons of models on the same items.

use serde::{Deserialize, Serialize};

use super::super::interval::{Rate, float, mcnemar, wilson};
use super::Task;
use super::score::Scored;

/// A rule that decides whether an item was answered correctly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// The highest log-likelihood.
    Acc,
    /// The highest log-likelihood per character of the choice.
    AccNorm,
    /// The highest log-likelihood per token of the choice.
    AccPerToken,
}

impl Metric {
    /// The metrics of `task`.
    pub fn of(task: &dyn Task) -> Vec<Metric> {
        let all = [
            (Metric::Acc, true),
            (Metric::AccNorm, task.has_norm()),
            (Metric::AccPerToken, task.has_per_token()),
        ];
        all.into_iter().filter_map(|(metric, has)| has.then_some(metric)).collect()
    }

    /// As it is written in reports.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Acc => "acc",
            Metric::AccNorm => "acc_norm",
            Metric::AccPerToken => "acc_per_token",
        }
    }

    /// True if the item was answered correctly.
    pub fn is_right(self, item: &Scored) -> bool {
        let picked = match self {
            Metric::Acc => item.picked,
            Metric::AccNorm => item.picked_norm,
            Metric::AccPerToken => item.picked_per_token,
        };
        picked == item.gold
    }

    fn rate(self, items: &[Scored]) -> Rate {
        wilson(items.iter().filter(|item| self.is_right(item)).count(), items.len())
    }
}

/// A model's figures in a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Number of items.
    pub n: usize,
    /// Share whose right choice has the highest log-likelihood.
    pub acc: Rate,
    /// The same of log-likelihood a character; null where the harness has no such figure.
    pub acc_norm: Option<Rate>,
    /// The same of log-likelihood a token, llama-perplexity's figure; null but for hellaswag.
    pub acc_per_token: Option<Rate>,
    /// Items whose context lost its beginning, because it did not fit into the model's context.
    pub n_cut: usize,
}

/// Counts `items` of `task`.
pub fn tally(task: &dyn Task, items: &[Scored]) -> Tally {
    let metrics = Metric::of(task);
    let rate = |metric: Metric| metrics.contains(&metric).then(|| metric.rate(items));
    Tally {
        n: items.len(),
        acc: Metric::Acc.rate(items),
        acc_norm: rate(Metric::AccNorm),
        acc_per_token: rate(Metric::AccPerToken),
        n_cut: items.iter().filter(|item| item.n_cut > 0).count(),
    }
}

/// The change from one model to another on the same items.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Number of items that both models answered.
    pub n: usize,
    /// Change in percentage points.
    #[serde(deserialize_with = "float")]
    pub points: f64,
    /// Items that only the first model answers correctly.
    pub lost: usize,
    /// Items that only the second model answers correctly.
    pub gained: usize,
    /// McNemar's exact two-sided p.
    #[serde(deserialize_with = "float")]
    pub p: f64,
}

/// What changed by `metric` from model `a` to model `b`, whose items are the same.
pub fn difference(metric: Metric, a: &[Scored], b: &[Scored]) -> Difference {
    let right = || a.iter().zip(b).map(|(a, b)| (metric.is_right(a), metric.is_right(b)));
    let lost = right().filter(|(a, b)| *a && !*b).count();
    let gained = right().filter(|(a, b)| !*a && *b).count();
    let n = a.len().min(b.len());
    let points = 100.0 * (gained as f64 - lost as f64) / n.max(1) as f64;
    Difference { n, points, lost, gained, p: mcnemar(lost, gained) }
}

#[cfg(test)]
mod tests {
    use super::super::task;
    use super::*;

    fn item(picked: usize, picked_norm: usize) -> Scored {
        Scored {
            line: 1,
            gold: 0,
            picked,
            picked_norm,
            picked_per_token: 0,
            log_likelihood: vec![],
            n_tokens: vec![],
            greedy: vec![],
            n_cut: picked,
        }
    }

    #[test]
    fn tasks_have_the_figures_that_the_harness_has() {
        let items = [item(0, 1), item(1, 0), item(1, 1)];
        let rte = tally(task("rte").unwrap(), &items);
        assert_eq!((rte.n, rte.acc.k, rte.acc_norm, rte.n_cut), (3, 1, None, 2));
        let arc = tally(task("arc_easy").unwrap(), &items);
        assert_eq!((arc.acc_norm.unwrap().k, arc.acc_per_token), (1, None));
        assert_eq!(tally(task("hellaswag").unwrap(), &items).acc_per_token.unwrap().k, 3);
    }

    #[test]
    fn a_difference_counts_both_ways() {
        let a = [item(0, 0), item(0, 0), item(0, 0), item(1, 0)];
        let b = [item(0, 0), item(1, 0), item(1, 0), item(0, 0)];
        let difference = difference(Metric::Acc, &a, &b);
        assert_eq!((difference.lost, difference.gained, difference.points), (2, 1, -25.0));
        assert_eq!(difference.p, 1.0);
    }
}
