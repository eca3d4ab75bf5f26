//! The effect of the strength: refusals above, KL below, over one axis.

use super::draw::{Anchor, Chart, spaced};
use super::marks::{Mark, Tone};
use super::scale::{Scale, nice_above};
use crate::eval::interval::Rate;
use crate::report::text::{short, three};

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 372.0;
const LEFT: f64 = 48.0;
const RIGHT: f64 = 374.0;
/// Top and bottom of the two plots: of the refusals, and of the KL.
const REFUSALS: (f64, f64) = (42.0, 196.0);
const KL: (f64, f64) = (236.0, 328.0);

/// A strength of one set of blocks, and its results.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Strength {
    /// The strength, on the horizontal axis.
    pub alpha: f64,
    /// Share of harmful prompts refused.
    pub refusal: f64,
    /// Share of harmless prompts refused.
    pub false_refusal: f64,
    /// KL to the unrepaired model, nats.
    pub kl_nats: f64,
    /// The answers' labels, if whole answers were read: both shares with their intervals. Else only
    /// beginnings were read.
    pub answered: Option<(Rate, Rate)>,
    /// True if it was picked.
    pub chosen: bool,
}

/// Draws `strengths`, and the most KL that is allowed, nats; `tone` is the repair's.
pub(crate) fn alpha_chart(title: &str, strengths: &[Strength], max_kl: f64, tone: Tone) -> Chart {
    let alphas = || strengths.iter().map(|s| s.alpha);
    let (low, high) = (alphas().fold(f64::MAX, f64::min), alphas().fold(0.0, f64::max));
    let x = Scale::log((0.9 * low.min(high), 1.1 * high), (LEFT + 6.0, RIGHT - 6.0));
    let y = Scale::linear((0.0, 100.0), (REFUSALS.1, REFUSALS.0));
    let highest = strengths.iter().map(|s| s.kl_nats).fold(max_kl, f64::max);
    let kl = Scale::linear((0.0, nice_above(highest)), (KL.1, KL.0));
    let mut chart = Chart::new(title, &summary(strengths), WIDTH, HEIGHT);
    chart.y_axis(&y, (LEFT, RIGHT), &[0.0, 25.0, 50.0, 75.0, 100.0], "refused, %");
    chart.y_axis(&kl, (LEFT, RIGHT), &kl.ticks(3), "");
    chart.text((0.0, KL.0 - 14.0), Anchor::Start, "muted", "KL to the unrepaired model, nats");
    chart.x_axis(&x, KL.1, &x.ticks(6), "alpha");
    chart.line((LEFT, REFUSALS.1), (RIGHT, REFUSALS.1), "");
    if let Some(one) = strengths.iter().find(|s| s.chosen) {
        let at = x.at(one.alpha);
        chart.line((at, REFUSALS.0), (at, REFUSALS.1), "limit");
        chart.line((at, KL.0), (at, KL.1), "limit");
        let label = format!("chosen: {}", short(one.alpha));
        chart.text((at.clamp(150.0, 400.0), REFUSALS.0 - 8.0), Anchor::Middle, "strong", &label);
    }
    shares(&mut chart, (&x, &y), strengths, tone);
    costs(&mut chart, (&x, &kl), strengths, max_kl);
    chart
}

fn summary(strengths: &[Strength]) -> String {
    let one = |s: &Strength| {
        format!(
            "alpha {}: {:.0} % of harmful and {:.0} % of harmless prompts refused, KL {}",
            short(s.alpha),
            100.0 * s.refusal,
            100.0 * s.false_refusal,
            three(s.kl_nats)
        )
    };
    strengths.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// Both kinds of refusals: points of beginnings are open, those of whole answers filled and with
/// intervals.
fn shares(chart: &mut Chart, (x, y): (&Scale, &Scale), strengths: &[Strength], repair: Tone) {
    type Share = fn(&Strength) -> f64;
    type Answered = fn(&(Rate, Rate)) -> Rate;
    let kinds: [(&str, Tone, Mark, Share, Answered); 2] = [
        ("harmful", repair, repair.mark(), |s| s.refusal, |a| a.0),
        ("harmless", Tone::Base, Tone::Base.mark(), |s| s.false_refusal, |a| a.1),
    ];
    let mut ends = Vec::new();
    for (name, tone, mark, share, answered) in kinds {
        let place = |s: &Strength| (x.at(s.alpha), y.at(100.0 * share(s)));
        let points: Vec<(f64, f64)> = strengths.iter().map(place).collect();
        chart.curve(&points, tone.class(), if tone == Tone::Base { "5 3" } else { "none" });
        for one in strengths {
            let open = if one.answered.is_none() { " open" } else { "" };
            if let Some(rate) = one.answered.as_ref().map(answered) {
                let (low, high) = (y.at(100.0 * rate.low), y.at(100.0 * rate.high));
                let class = format!("whisker {}", tone.class());
                chart.line((place(one).0, low), (place(one).0, high), &class);
            }
            let alpha = short(one.alpha);
            let tip = format!("alpha {alpha}, {name}: {:.0} % refused", 100.0 * share(one));
            chart.mark(mark, place(one), 4.0, &format!("{}{open}", tone.class()), &tip);
        }
        ends.push((name, points.last().map_or(REFUSALS.1, |p| p.1) + 4.0));
    }
    let wanted: Vec<f64> = ends.iter().map(|end| end.1).collect();
    let places = spaced(&wanted, 15.0, (REFUSALS.0 + 4.0, REFUSALS.1 + 4.0));
    for ((name, _), at) in ends.into_iter().zip(places) {
        chart.text((RIGHT + 8.0, at), Anchor::Start, "", name);
    }
}

fn costs(chart: &mut Chart, (x, kl): (&Scale, &Scale), strengths: &[Strength], max_kl: f64) {
    let at = kl.at(max_kl);
    chart.line((LEFT, at), (RIGHT, at), "limit");
    chart.text((RIGHT + 8.0, at + 4.0), Anchor::Start, "muted", "budget");
    let place = |s: &Strength| (x.at(s.alpha), kl.at(s.kl_nats));
    let points: Vec<(f64, f64)> = strengths.iter().map(place).collect();
    chart.curve(&points, "quiet", "none");
    for one in strengths {
        let tip = format!("alpha {}: KL {}", short(one.alpha), three(one.kl_nats));
        chart.mark(Mark::Square, place(one), 3.5, "quiet", &tip);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::interval::wilson;

    #[test]
    fn whole_answers_have_intervals_and_the_chosen_strength_is_named() {
        let one = |alpha, answered, chosen| Strength {
            alpha,
            refusal: 0.5,
            false_refusal: 0.03,
            kl_nats: 0.02,
            answered,
            chosen,
        };
        let rates = (wilson(16, 32), wilson(1, 32));
        let svg = alpha_chart(
            "t",
            &[one(1.0, None, false), one(2.5, Some(rates), true)],
            0.1,
            Tone::Repaired,
        );
        let svg = svg.inline("i");
        assert!(svg.contains(">chosen: 2.5</text>"), "{svg}");
        assert_eq!(svg.matches("class=\"whisker").count(), 2);
        assert_eq!(svg.matches(" open\"").count(), 2);
        assert!(!alpha_chart("t", &[], 0.1, Tone::Repaired).inline("i").contains("inf"));
    }
}
