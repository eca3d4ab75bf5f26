//! The front of a search: refusals of harmful prompts upwards, of harmless ones to the right, so
//! that the best lie at the upper left.

use super::draw::{Anchor, Chart, fitted, width_of};
use super::marks::{Mark, Tone};
use super::scale::{Scale, nice_above};
use crate::report::text::three;

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 330.0;
const LEFT: f64 = 36.0;
const RIGHT: f64 = 444.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 286.0;

/// One candidate.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Dot {
    /// Its name in the tooltip.
    pub name: String,
    /// False refusals, per cent.
    pub x: f64,
    /// Refusals, per cent.
    pub y: f64,
    /// KL to the unrepaired model, nats; None if not measured.
    pub kl_nats: Option<f64>,
    /// Its role in the search.
    pub kind: DotKind,
    /// True if no other candidate beats it.
    pub on_front: bool,
}

/// The role of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DotKind {
    /// The model before the repair.
    Unrepaired,
    /// The candidate that was picked.
    Chosen,
    /// Within the budget.
    Allowed,
    /// Over the budget.
    OverBudget,
    /// No candidate: another model that was asked the same prompts.
    Other(Tone),
}

impl Dot {
    fn is_candidate(&self) -> bool {
        !matches!(self.kind, DotKind::Unrepaired | DotKind::Other(_))
    }
}

/// Draws `dots`, and a line at `limit`, the most false refusals that are allowed, per cent; `tone`
/// is the repair's.
pub(crate) fn front_chart(title: &str, dots: &[Dot], limit: f64, tone: Tone) -> Chart {
    let highest = dots.iter().map(|d| d.x).fold(limit, f64::max);
    let x = Scale::linear((0.0, nice_above(1.1 * highest).min(100.0)), (LEFT, RIGHT));
    let y = Scale::linear((0.0, 100.0), (BOTTOM, TOP));
    let mut chart = Chart::new(title, &summary(dots, limit), WIDTH, HEIGHT);
    let percents = [0.0, 25.0, 50.0, 75.0, 100.0];
    chart.y_axis(&y, (LEFT, RIGHT), &percents, "harmful prompts refused, %");
    chart.x_axis(&x, BOTTOM, &x.ticks(6), "harmless prompts refused, %");
    chart.line((x.at(limit), TOP), (x.at(limit), BOTTOM), "limit");
    let (anchor, gap) = aside(x.at(limit), "budget");
    chart.text((x.at(limit) + gap, TOP - 6.0), anchor, "muted", "budget");
    let mut front: Vec<&Dot> = dots.iter().filter(|d| d.on_front).collect();
    front.sort_by(|a, b| a.x.total_cmp(&b.x).then(a.y.total_cmp(&b.y)));
    let steps: Vec<(f64, f64)> = front.iter().map(|d| (x.at(d.x), y.at(d.y))).collect();
    if steps.len() > 1 {
        chart.curve(&steps, "quiet", "none");
    }
    // The chosen one last, so that nothing covers it.
    for chosen in [false, true] {
        for dot in dots.iter().filter(|d| (d.kind == DotKind::Chosen) == chosen) {
            draw(&mut chart, (x.at(dot.x), y.at(dot.y)), dot, tone);
        }
    }
    labels(&mut chart, &x, &y, dots);
    chart
}

fn summary(dots: &[Dot], limit: f64) -> String {
    let chosen = dots.iter().find(|d| d.kind == DotKind::Chosen).map_or_else(
        || "none was chosen".to_owned(),
        |d| format!("chosen: {} with {:.0} % and {:.0} % refused", d.name, d.y, d.x),
    );
    let n = dots.iter().filter(|d| d.is_candidate()).count();
    let mut text = format!(
        "{n} candidates; at most {limit:.0} % of harmless prompts may be refused; {chosen}"
    );
    for other in dots.iter().filter(|d| matches!(d.kind, DotKind::Other(_))) {
        text += &format!("; {}: {:.0} % and {:.0} % refused", other.name, other.y, other.x);
    }
    text
}

fn draw(chart: &mut Chart, place: (f64, f64), dot: &Dot, tone: Tone) {
    let allowed = format!("{} open", tone.class());
    let (mark, class, r) = match dot.kind {
        DotKind::Unrepaired => (Tone::Compressed.mark(), "variant", 5.0),
        DotKind::Chosen => (tone.mark(), tone.class(), 6.0),
        DotKind::Allowed => (Mark::Circle, allowed.as_str(), 4.5),
        DotKind::OverBudget => (Mark::Cross, "quiet", 4.5),
        DotKind::Other(other) => (other.mark(), other.class(), 5.0),
    };
    let mut tip = format!("{}: {:.0} % and {:.0} % refused", dot.name, dot.y, dot.x);
    if let Some(kl) = dot.kl_nats {
        tip += &format!(", KL {}", three(kl));
    }
    chart.mark(mark, place, r, class, &tip);
}

/// A part of the chart that a mark or a name takes up.
#[derive(Clone, Copy)]
struct Area {
    x: (f64, f64),
    y: (f64, f64),
}

impl Area {
    fn of_mark((x, y): (f64, f64)) -> Area {
        const HALF: f64 = 7.0;
        Area { x: (x - HALF, x + HALF), y: (y - HALF, y + HALF) }
    }

    /// Of a text beside `x`, on the baseline `y`.
    fn of_text(x: f64, y: f64, (anchor, gap): (Anchor, f64), text: &str) -> Area {
        let start = if anchor == Anchor::Start { x + gap } else { x + gap - width_of(text) };
        Area { x: (start, start + width_of(text)), y: (y - 11.0, y + 3.0) }
    }

    fn meets(&self, other: &Area) -> bool {
        let across = self.x.0 < other.x.1 && other.x.0 < self.x.1;
        across && self.y.0 < other.y.1 && other.y.0 < self.y.1
    }
}

/// Names of the points that matter, beside them: on the other side, above or below where something
/// else is in the way.
fn labels(chart: &mut Chart, x: &Scale, y: &Scale, dots: &[Dot]) {
    let named = || dots.iter().filter(|d| d.kind == DotKind::Chosen || !d.is_candidate());
    let place = |dot: &Dot| (x.at(dot.x), y.at(dot.y));
    let mut taken: Vec<Area> = named().map(|dot| Area::of_mark(place(dot))).collect();
    for dot in named() {
        let name = fitted(&dot.name, 170.0);
        let (at, middle) = place(dot);
        let (anchor, gap) = aside(at, &name);
        let other = if anchor == Anchor::Start { Anchor::End } else { Anchor::Start };
        let sides = [(anchor, 2.0 * gap), (other, -2.0 * gap)];
        let wanted = (middle + 4.0).clamp(TOP + 12.0, BOTTOM - 4.0);
        let heights = [0.0, -15.0, 15.0, -30.0, 30.0].map(|off| wanted + off);
        let heights = heights.into_iter().filter(|at| (TOP..=BOTTOM).contains(at));
        let free = heights.flat_map(|y| sides.map(|side| (y, side))).find(|(y, side)| {
            let area = Area::of_text(at, *y, *side, &name);
            let is_inside = area.x.0 > LEFT && area.x.1 < WIDTH;
            is_inside && !taken.iter().any(|other| other.meets(&area))
        });
        let (y, side) = free.unwrap_or((wanted, sides[0]));
        taken.push(Area::of_text(at, y, side, &name));
        chart.text((at + side.1, y), side.0, "strong", &name);
    }
}

/// To the right of `x`, or to its left if there is no room for `text`.
fn aside(x: f64, text: &str) -> (Anchor, f64) {
    match x + width_of(text) + 14.0 < WIDTH {
        true => (Anchor::Start, 5.0),
        false => (Anchor::End, -5.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_candidate_is_drawn_and_the_chosen_one_stands_out() {
        let dot = |y: f64, kind| Dot {
            name: "14 <alpha>".into(),
            x: 2.0,
            y,
            kl_nats: Some(0.05),
            kind,
            on_front: true,
        };
        let dots = [dot(20.0, DotKind::Allowed), dot(80.0, DotKind::Chosen)];
        let svg = front_chart("Front", &dots, 7.0, Tone::Repaired).file();
        assert_eq!(svg.matches("class=\"mark").count(), 2);
        assert_eq!(svg.matches("class=\"mark repaired\"").count(), 1);
        assert!(svg.contains("14 &lt;alpha&gt;: 80 % and 2 % refused, KL 0.050"), "{svg}");
        assert!(svg.contains("chosen: 14 &lt;alpha&gt; with 80 %"), "{svg}");
    }

    #[test]
    fn other_models_are_marks_of_their_own_and_no_candidates() {
        let dot = |name: &str, kind, y: f64| Dot {
            name: name.into(),
            x: 2.0,
            y,
            kl_nats: None,
            kind,
            on_front: false,
        };
        let dots = [
            dot("unrepaired", DotKind::Unrepaired, 79.0),
            dot("20", DotKind::Chosen, 81.0),
            dot("restored", DotKind::Other(Tone::Repaired2), 80.0),
        ];
        let svg = front_chart("Front", &dots, 7.0, Tone::Repaired).inline("i");
        assert!(svg.contains("class=\"mark repaired-2\"><title>restored: 80 %"), "{svg}");
        assert!(svg.contains("1 candidates") && !svg.contains(", KL"), "{svg}");
        // Their names, the last texts of the chart, are not one on another.
        let texts: Vec<&str> = svg.split("<text ").skip(1).collect();
        let begins: Vec<&str> = texts[texts.len() - 3..]
            .iter()
            .map(|text| text.split(" class").next().unwrap())
            .collect();
        assert!(begins[0] != begins[1] && begins[0] != begins[2] && begins[1] != begins[2]);
    }
}
