//! Lines over layers, each named at its end.

use super::draw::{Anchor, Chart, spaced};
use super::marks::{Mark, Tone, dashes};
use super::scale::{Scale, nice_above};
use crate::report::text::three;

const WIDTH: f64 = 460.0;
const LEFT: f64 = 36.0;
const RIGHT: f64 = 320.0;
const TOP: f64 = 42.0;
/// The least height of the plot; every name needs a line.
const LEAST: f64 = 194.0;
const LINE: f64 = 15.0;
/// The distance of marked points: few enough to keep the lines apart, enough to see them.
const MARKED: usize = 4;

/// One line of the chart.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Series {
    /// The line's name.
    pub name: String,
    /// Its colour.
    pub tone: Tone,
    /// A number for each layer; None leaves a gap.
    pub values: Vec<Option<f64>>,
}

/// Draws `series` over layers, on an axis from 0 (or the lowest number) to 1; `layer` is marked.
pub(crate) fn line_chart(
    title: &str,
    what: &str,
    series: &[Series],
    layer: Option<usize>,
) -> Chart {
    let n = series.iter().map(|s| s.values.len()).max().unwrap_or(0);
    let lowest = series.iter().flat_map(|s| &s.values).flatten().copied().fold(0.0, f64::min);
    let low = if lowest < 0.0 { -nice_above(-lowest) } else { 0.0 };
    let x = Scale::linear((0.0, n.saturating_sub(1) as f64), (LEFT, RIGHT));
    let bottom = TOP + LEAST.max(LINE * series.len() as f64);
    let y = Scale::linear((low, 1.0), (bottom, TOP));
    let names: Vec<&str> = series.iter().map(|s| s.name.as_str()).collect();
    let summary = format!("{what} over {n} layers of {}", names.join(", "));
    let mut chart = Chart::new(title, &summary, WIDTH, bottom + 44.0);
    chart.y_axis(&y, (LEFT, RIGHT), &y.ticks(7), what);
    chart.x_axis(&x, bottom, &x.ticks(7), "layer");
    if let Some(layer) = layer {
        let at = x.at(layer as f64);
        chart.line((at, TOP), (at, bottom), "limit");
        chart.text((at, TOP - 6.0), Anchor::Middle, "muted", &format!("l = {layer}"));
    }
    for (i, one) in series.iter().enumerate() {
        draw(&mut chart, (&x, &y), i, one);
    }
    let last = |s: &Series| s.values.iter().rev().flatten().next().copied();
    let ends: Vec<f64> = series.iter().map(|s| y.at(last(s).unwrap_or(low))).collect();
    let places = spaced(&ends, LINE, (TOP + 4.0, bottom + 4.0));
    for (i, (one, at)) in series.iter().zip(places).enumerate() {
        let class = one.tone.class();
        chart.line((RIGHT + 3.0, ends[i]), (RIGHT + 12.0, at), &format!("whisker {class}"));
        chart.mark(Mark::nth(i), (RIGHT + 18.0, at), 3.5, class, "");
        let room = WIDTH - RIGHT - 28.0;
        chart.name((RIGHT + 26.0, at + 4.0), Anchor::Start, "", &one.name, room);
    }
    chart
}

fn draw(chart: &mut Chart, (x, y): (&Scale, &Scale), i: usize, one: &Series) {
    let class = one.tone.class();
    let place = |layer: usize, value: f64| (x.at(layer as f64), y.at(value));
    let mut whole: Vec<(f64, f64)> = Vec::new();
    for (layer, value) in one.values.iter().enumerate() {
        match value {
            Some(value) => whole.push(place(layer, *value)),
            None => chart.curve(&std::mem::take(&mut whole), class, dashes(i)),
        }
    }
    chart.curve(&whole, class, dashes(i));
    for (layer, value) in one.values.iter().enumerate() {
        let Some(value) = value else { continue };
        if layer % MARKED == i % MARKED {
            let tip = format!("{}, layer {layer}: {}", one.name, three(*value));
            chart.mark(Mark::nth(i), place(layer, *value), 3.5, class, &tip);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_breaks_where_there_is_no_number_and_is_named() {
        let values = vec![Some(1.0), Some(0.5), None, Some(-0.25), Some(0.1)];
        let series = Series { name: "wanda".into(), tone: Tone::Compressed, values };
        let svg = line_chart("t", "cosine", &[series], Some(3)).inline("i");
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(svg.contains(">wanda</text>") && svg.contains(">l = 3</text>"), "{svg}");
        // The axis goes down to the next round number.
        assert!(svg.contains(">−0.2</text>"), "{svg}");
        assert!(line_chart("t", "cosine", &[], None).inline("i").contains("0 layers"));
    }
}
