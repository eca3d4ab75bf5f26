//! Values of named things, compared with the intended value.

use super::draw::{Anchor, Chart, width_of};
use super::marks::Tone;
use super::scale::Scale;
use crate::report::text::{short, three};

const WIDTH: f64 = 460.0;
const NAMES: f64 = 196.0;
const RIGHT: f64 = 396.0;
const TOP: f64 = 30.0;
const ROW: f64 = 18.0;

/// A thing and its number.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NamedValue {
    /// Its name.
    pub name: String,
    /// Its number.
    pub value: f64,
}

/// Draws `values` around `meant`; the axis reaches a fifth to each side, or as far as the values
/// do; `tone` is the repair's.
pub(crate) fn value_chart(
    title: &str,
    what: &str,
    tone: Tone,
    (values, meant): (&[NamedValue], f64),
) -> Chart {
    let off = values.iter().map(|v| (v.value - meant).abs()).filter(|off| off.is_finite());
    let off = off.fold(meant.abs() / 5.0, f64::max) * 1.1;
    let longest = values.iter().map(|v| width_of(&v.name)).fold(0.0, f64::max);
    let left = (longest + 14.0).min(NAMES);
    let x = Scale::linear((meant - off, meant + off), (left, RIGHT));
    let bottom = TOP + ROW * values.len() as f64 + 4.0;
    let summary = format!("{what} of {} tensors, {} was meant", values.len(), short(meant));
    let mut chart = Chart::new(title, &summary, WIDTH, bottom + 42.0);
    let at = x.at(meant);
    chart.line((at, TOP - 4.0), (at, bottom), "limit");
    chart.text((at, TOP - 10.0), Anchor::Middle, "muted", &format!("asked: {}", short(meant)));
    for (i, one) in values.iter().enumerate() {
        let y = TOP + ROW * (i as f64 + 0.5);
        chart.line((left, y), (RIGHT, y), "grid");
        chart.name((0.0, y + 4.0), Anchor::Start, "", &one.name, left - 12.0);
        let tip = format!("{}: {}", one.name, three(one.value));
        chart.mark(tone.mark(), (x.at(one.value), y), 4.5, tone.class(), &tip);
        chart.text((WIDTH - 2.0, y + 4.0), Anchor::End, "", &three(one.value));
    }
    chart.x_axis(&x, bottom, &x.ticks(3), what);
    chart
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_drawn_against_the_one_that_was_meant() {
        let value = |value| NamedValue { name: "blk.18.attn_output.weight".into(), value };
        let svg = value_chart("t", "alpha", Tone::Repaired, (&[value(2.97), value(f64::NAN)], 3.0));
        let svg = svg.inline("i");
        assert!(svg.contains(">asked: 3</text>") && svg.contains(">2.970</text>"), "{svg}");
        assert_eq!(svg.matches("class=\"mark").count(), 2);
        assert!(!svg.contains("\"NaN"), "{svg}");
    }
}
