//! The front of a search as a chart.

use super::chart::{Chart, Dot, DotKind, front_chart};
use super::search::{CountsReport, SearchReport};
use super::text::short;
use crate::eval::interval::Rate;

impl SearchReport {
    /// The front as a chart.
    pub fn front(&self) -> Chart {
        let percent = |rate: &Rate| 100.0 * rate.rate.unwrap_or(0.0);
        let dot = |name: String, counts: &CountsReport, kl: f64, kind, on_front| Dot {
            name,
            x: percent(&counts.false_refusal),
            y: percent(&counts.refusal),
            kl_nats: kl,
            kind,
            on_front,
        };
        let mut dots =
            vec![dot("unrepaired".into(), &self.compressed, 0.0, DotKind::Unrepaired, false)];
        dots.extend(self.answered.iter().map(|a| {
            let name = format!("{} alpha {}", a.blocks.join(","), short(a.alpha));
            let kind = match (a.chosen, a.within_budget) {
                (true, _) => DotKind::Chosen,
                (false, true) => DotKind::Allowed,
                (false, false) => DotKind::OverBudget,
            };
            dot(name, &a.counts, a.kl_nats, kind, a.on_front)
        }));
        front_chart("Refusals against false refusals", &dots, self.limit())
    }
}
