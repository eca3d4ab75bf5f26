//! The front of a search as a chart.

use super::chart::{Chart, Dot, DotKind, Tone, front_chart};
use super::search::{CountsReport, SearchReport};
use super::text::short;
use crate::eval::interval::Rate;

/// Another model that was asked the search's prompts.
pub(super) struct Beside<'a> {
    /// Its name in the chart.
    pub name: &'a str,
    /// What was done to it.
    pub tone: Tone,
    /// Its answers.
    pub counts: &'a CountsReport,
}

impl SearchReport {
    /// The front as a chart.
    pub fn front(&self) -> Chart {
        self.front_beside(Tone::Repaired, &[])
    }

    /// The front of a repair of that tone, beside other models.
    pub(super) fn front_beside(&self, tone: Tone, others: &[Beside<'_>]) -> Chart {
        let percent = |rate: &Rate| 100.0 * rate.rate.unwrap_or(0.0);
        let dot = |name: String, counts: &CountsReport, kl_nats, kind, on_front| Dot {
            name,
            x: percent(&counts.false_refusal),
            y: percent(&counts.refusal),
            kl_nats,
            kind,
            on_front,
        };
        let unrepaired = DotKind::Unrepaired;
        let mut dots =
            vec![dot("unrepaired".into(), &self.compressed, Some(0.0), unrepaired, false)];
        dots.extend(self.answered.iter().map(|a| {
            let name = format!("{} alpha {}", a.blocks.join(","), short(a.alpha));
            let kind = match (a.chosen, a.within_budget) {
                (true, _) => DotKind::Chosen,
                (false, true) => DotKind::Allowed,
                (false, false) => DotKind::OverBudget,
            };
            dot(name, &a.counts, Some(a.kl_nats), kind, a.on_front)
        }));
        dots.extend(others.iter().map(|other| {
            let kind = DotKind::Other(other.tone);
            dot(other.name.to_owned(), other.counts, None, kind, false)
        }));
        front_chart("Refusals against false refusals", &dots, self.limit(), tone)
    }
}
