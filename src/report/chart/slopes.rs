//! The course of every variant: a share of the base, of the compressed and of the repaired model.

use super::draw::{Anchor, Chart, spaced};
use super::marks::{Tone, dashes};
use super::scale::Scale;
use crate::eval::interval::Rate;
use crate::report::text::{counts, interval, percent};

const WIDTH: f64 = 460.0;
const LEFT: f64 = 36.0;
const RIGHT: f64 = 278.0;
const TOP: f64 = 32.0;
/// The least height of the plot; every name needs a line.
const LEAST: f64 = 200.0;
const LINE: f64 = 16.0;
/// The horizontal places of base, compressed and repaired.
const STAGES: [(f64, Tone, &str); 3] = [
    (62.0, Tone::Base, "base"),
    (152.0, Tone::Compressed, "compressed"),
    (242.0, Tone::Repaired, "repaired"),
];
/// Distance between the intervals of several variants at one place, and their greatest total width.
const APART: f64 = 7.0;
const ASIDE: f64 = 44.0;

/// The course of one variant.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Slope {
    /// Its name.
    pub name: String,
    /// Shares of base, compressed and repaired; None if not measured.
    pub rates: [Option<Rate>; 3],
}

/// Draws `slopes` from 0 to 100 %.
pub(crate) fn slope_chart(title: &str, what: &str, slopes: &[Slope]) -> Chart {
    let bottom = TOP + LEAST.max(LINE * slopes.len() as f64);
    let y = Scale::linear((0.0, 100.0), (bottom, TOP));
    let mut chart = Chart::new(title, &summary(what, slopes), WIDTH, bottom + 36.0);
    let ticks = [0.0, 25.0, 50.0, 75.0, 100.0];
    chart.y_axis(&y, (LEFT, RIGHT), &ticks, &format!("{what}, %"));
    for (x, _, name) in STAGES {
        chart.text((x, bottom + 20.0), Anchor::Middle, "muted", name);
    }
    let points: Vec<[Option<(f64, f64)>; 3]> =
        slopes.iter().enumerate().map(|(i, s)| points(&y, s, i, slopes.len())).collect();
    for (i, points) in points.iter().enumerate() {
        let known: Vec<(f64, f64)> = points.iter().flatten().copied().collect();
        chart.curve(&known, "quiet", dashes(i));
    }
    for (slope, points) in slopes.iter().zip(&points) {
        draw(&mut chart, &y, slope, points);
    }
    // Each is named at its end, those that were not repaired too.
    let ends: Vec<(&Slope, f64, f64, Rate)> = slopes
        .iter()
        .zip(&points)
        .filter_map(|(slope, points)| {
            let last = (1..3).rev().find(|stage| points[*stage].is_some())?;
            Some((slope, points[last]?.0, points[last]?.1, slope.rates[last]?))
        })
        .collect();
    let wanted: Vec<f64> = ends.iter().map(|end| end.2).collect();
    let places = spaced(&wanted, LINE, (TOP, bottom));
    for ((slope, x, y, rate), at) in ends.into_iter().zip(places) {
        chart.line((x + 8.0, y), (RIGHT + 4.0, at), "leader");
        let share = percent(&rate);
        chart.text((RIGHT + 44.0, at + 4.0), Anchor::End, "strong", &share);
        let place = (RIGHT + 52.0, at + 4.0);
        chart.name(place, Anchor::Start, "", &slope.name, WIDTH - RIGHT - 54.0);
    }
    chart
}

fn points(y: &Scale, slope: &Slope, i: usize, n: usize) -> [Option<(f64, f64)>; 3] {
    let aside = APART.min(ASIDE / n as f64) * (i as f64 - (n as f64 - 1.0) / 2.0);
    [0, 1, 2].map(|stage| {
        // The base is the same for all.
        let x = STAGES[stage].0 + if stage == 0 { 0.0 } else { aside };
        let share = slope.rates[stage].as_ref()?.rate?;
        Some((x, y.at(100.0 * share)))
    })
}

fn draw(chart: &mut Chart, y: &Scale, slope: &Slope, points: &[Option<(f64, f64)>; 3]) {
    for ((point, rate), (_, tone, stage)) in points.iter().zip(&slope.rates).zip(STAGES) {
        let (Some((x, at)), Some(rate)) = (point, rate) else { continue };
        let (low, high) = (y.at(100.0 * rate.low), y.at(100.0 * rate.high));
        let class = tone.class();
        chart.line((*x, low), (*x, high), &format!("whisker {class}"));
        let (counts, interval) = (counts(rate), interval(rate));
        let tip = format!("{}, {stage}: {counts}, {interval} %", slope.name);
        chart.mark(tone.mark(), (*x, *at), 4.5, class, &tip);
    }
}

fn summary(what: &str, slopes: &[Slope]) -> String {
    let one = |slope: &Slope| {
        let stages = slope.rates.iter().zip(STAGES).map(|(rate, (_, _, stage))| {
            let share = rate.as_ref().map_or_else(|| "not measured".into(), percent);
            format!("{stage} {share}")
        });
        format!("{}: {}", slope.name, stages.collect::<Vec<_>>().join(", "))
    };
    format!("{what}. {}", slopes.iter().map(one).collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::interval::wilson;

    #[test]
    fn a_variant_without_a_repair_is_named_at_its_end_too() {
        let slope = |name: &str, repaired| Slope {
            name: name.into(),
            rates: [Some(wilson(4, 100)), Some(wilson(61, 100)), repaired],
        };
        let slopes = [slope("wanda", Some(wilson(11, 100))), slope("awq", None)];
        let svg = slope_chart("t", "attack success", &slopes).inline("i");
        for text in [">wanda</text>", ">awq</text>", ">11\u{a0}%</text>", ">61\u{a0}%</text>"] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
        assert_eq!(svg.matches("class=\"whisker").count(), 5);
        assert!(svg.contains("awq: base 4\u{a0}%, compressed 61\u{a0}%, repaired not"), "{svg}");
    }
}
