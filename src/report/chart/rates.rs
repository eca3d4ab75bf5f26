//! Shares as bars from 0 to 100 %, grouped by model, each with its interval.

use super::draw::{Anchor, Chart};
use super::marks::Tone;
use super::scale::Scale;
use crate::eval::interval::Rate;
use crate::report::text::{counts, interval, percent};

const WIDTH: f64 = 380.0;
const LEFT: f64 = 92.0;
const RIGHT: f64 = 330.0;
const TOP: f64 = 8.0;
const ROW: f64 = 20.0;
const HEADING: f64 = 18.0;
const GAP: f64 = 8.0;

/// One bar.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bar {
    /// Its name: compressed, repaired.
    pub label: String,
    /// Its colour and shape.
    pub tone: Tone,
    /// The share; None if it was not measured.
    pub rate: Option<Rate>,
}

/// Bars that belong together, e.g. a model and its repair.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BarGroup {
    /// The group's name, above the bars; empty for none.
    pub name: String,
    /// The bars.
    pub bars: Vec<Bar>,
}

/// Draws `groups` from top to bottom.
pub(crate) fn rate_chart(title: &str, what: &str, groups: &[BarGroup]) -> Chart {
    let heading = |group: &BarGroup| if group.name.is_empty() { 0.0 } else { HEADING };
    let height_of = |group: &BarGroup| heading(group) + ROW * group.bars.len() as f64 + GAP;
    let bottom = TOP + groups.iter().map(height_of).sum::<f64>();
    let x = Scale::linear((0.0, 100.0), (LEFT, RIGHT));
    let mut chart = Chart::new(title, &summary(what, groups), WIDTH, bottom + 42.0);
    for tick in [0.0, 25.0, 50.0, 75.0, 100.0] {
        chart.line((x.at(tick), TOP), (x.at(tick), bottom), "grid");
    }
    let mut y = TOP;
    for group in groups {
        if !group.name.is_empty() {
            chart.name((0.0, y + 13.0), Anchor::Start, "strong", &group.name, WIDTH - 4.0);
        }
        y += heading(group);
        for bar in &group.bars {
            draw(&mut chart, &x, y, bar, &group.name);
            y += ROW;
        }
        y += GAP;
    }
    chart.x_axis(&x, bottom, &[0.0, 25.0, 50.0, 75.0, 100.0], &format!("{what}, %"));
    chart
}

fn summary(what: &str, groups: &[BarGroup]) -> String {
    let of = |group: &BarGroup| {
        let bars = group.bars.iter().map(|bar| {
            let number = bar.rate.as_ref().map_or_else(|| "not measured".into(), percent);
            format!("{} {number}", bar.label)
        });
        let bars: Vec<String> = bars.collect();
        match group.name.as_str() {
            "" => bars.join(", "),
            name => format!("{name}: {}", bars.join(", ")),
        }
    };
    format!("{what}. {}", groups.iter().map(of).collect::<Vec<_>>().join("; "))
}

fn draw(chart: &mut Chart, x: &Scale, y: f64, bar: &Bar, group: &str) {
    let middle = y + ROW / 2.0;
    chart.name((LEFT - 10.0, middle + 4.0), Anchor::End, "muted", &bar.label, LEFT - 12.0);
    let Some((rate, share)) = bar.rate.as_ref().and_then(|r| Some((r, r.rate?))) else {
        chart.text((LEFT + 6.0, middle + 4.0), Anchor::Start, "muted", "not measured");
        return;
    };
    let class = bar.tone.class();
    let at = |share: f64| x.at(100.0 * share);
    let tip = format!("{group} {}: {}, {} % [95 %]", bar.label, counts(rate), interval(rate));
    let size = (at(share) - at(0.0), ROW - 8.0);
    chart.rect((at(0.0), y + 4.0), size, &format!("bar {class}"), None, &tip);
    let whisker = format!("whisker {class}");
    chart.line((at(rate.low), middle), (at(rate.high), middle), &whisker);
    for end in [rate.low, rate.high] {
        chart.line((at(end), middle - 3.0), (at(end), middle + 3.0), &whisker);
    }
    chart.mark(bar.tone.mark(), (at(share), middle), 4.0, class, &tip);
    chart.text((WIDTH - 2.0, middle + 4.0), Anchor::End, "", &percent(rate));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::interval::wilson;

    #[test]
    fn every_bar_has_its_interval_and_a_missing_one_is_said() {
        let bar = |label: &str, tone, rate| Bar { label: label.into(), tone, rate };
        let group = BarGroup {
            name: "wanda".into(),
            bars: vec![
                bar("compressed", Tone::Compressed, Some(wilson(67, 100))),
                bar("repaired", Tone::Repaired, None),
            ],
        };
        let svg = rate_chart("t", "attack success", &[group]).inline("i");
        assert_eq!(svg.matches("\"whisker variant\"").count(), 3);
        assert!(svg.contains(">not measured</text>"), "{svg}");
        assert!(svg.contains("67 of 100, 57–75 %"), "{svg}");
        assert!(svg.contains("wanda: compressed 67\u{a0}%, repaired not measured"), "{svg}");
    }
}
