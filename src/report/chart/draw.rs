//! An SVG being built: shapes by class, text that is escaped and fits, axes.

use std::fmt::Write;

use super::STYLE;
use super::marks::Mark;
use super::scale::Scale;
use crate::report::text::{escaped, short};

/// Width of a letter, relative to the font's size, in the widest font that a system may have.
const LETTER: f64 = 0.63;
/// The font's size, the same as in `chart.css`.
const SIZE: f64 = 12.0;
/// Space for the title and the margin of a chart that is a file.
const HEADING: f64 = 34.0;
const MARGIN: f64 = 12.0;

/// Which end of a text lies at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// Its beginning.
    Start,
    /// Its middle.
    Middle,
    /// Its end.
    End,
}

/// A chart: its size, its summary, its shapes.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    title: String,
    summary: String,
    width: f64,
    height: f64,
    body: String,
}

impl Chart {
    /// An empty chart. `summary` describes the chart in words, for readers who cannot see it.
    pub fn new(title: &str, summary: &str, width: f64, height: f64) -> Chart {
        let (title, summary) = (title.to_owned(), summary.to_owned());
        Chart { title, summary, width, height, body: String::new() }
    }

    /// For a page whose style holds `chart.css`; `id` must be unique in it. The chart is never
    /// drawn so small that its letters cannot be read: its container scrolls.
    pub fn inline(&self, id: &str) -> String {
        let (width, height) = (self.width, self.height);
        let least = (0.8 * width).round();
        format!(
            "<svg class=\"chart\" role=\"img\" aria-labelledby=\"{id}-t {id}-d\" \
             viewBox=\"0 0 {width} {height}\" style=\"width:{width}px;min-width:{least}px\">\n\
             <title id=\"{id}-t\">{}</title>\n<desc id=\"{id}-d\">{}</desc>\n{}</svg>",
            escaped(&self.title),
            escaped(&self.summary),
            self.body
        )
    }

    /// As a separate file, with its title and colours.
    pub fn file(&self) -> String {
        let (width, height) = (self.width + 2.0 * MARGIN, self.height + HEADING + MARGIN);
        // The title is larger and bolder than the text that widths are estimated for.
        let title = fitted(&self.title, self.width * SIZE / 15.0);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" role=\"img\" \
             aria-labelledby=\"t d\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\">\n<title id=\"t\">{}</title>\n<desc id=\"d\">{}</desc>\n\
             <style>{STYLE}</style>\n\
             <rect width=\"100%\" height=\"100%\" style=\"fill:var(--paper)\"/>\n\
             <text class=\"title\" x=\"{MARGIN}\" y=\"22\">{}</text>\n\
             <g transform=\"translate({MARGIN} {HEADING})\">\n{}</g>\n</svg>\n",
            escaped(&self.title),
            escaped(&self.summary),
            escaped(&title),
            self.body
        )
    }

    /// A text whose baseline is at `y`.
    pub fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, class: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let _ = writeln!(
            self.body,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" class=\"{class}\">{}</text>",
            escaped(text)
        );
    }

    /// A text that is shortened to `room` pixels; all of it is its tooltip.
    pub fn name(&mut self, (x, y): (f64, f64), anchor: Anchor, class: &str, text: &str, room: f64) {
        let shown = fitted(text, room);
        if shown == text {
            return self.text((x, y), anchor, class, text);
        }
        let _ = writeln!(self.body, "<g><title>{}</title>", escaped(text));
        self.text((x, y), anchor, class, &shown);
        self.body += "</g>\n";
    }

    /// A straight line.
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        self.dash(from, to, class, "");
    }

    /// A short line with a tooltip.
    pub fn dash(&mut self, from: (f64, f64), to: (f64, f64), class: &str, tip: &str) {
        let _ = writeln!(
            self.body,
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" class=\"{class}\"{}",
            from.0,
            from.1,
            to.0,
            to.1,
            closed("line", tip)
        );
    }

    /// A line through `points`.
    pub fn curve(&mut self, points: &[(f64, f64)], class: &str, dashes: &str) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            self.body,
            "<polyline points=\"{}\" class=\"curve {class}\" stroke-dasharray=\"{dashes}\"/>",
            points.join(" ")
        );
    }

    /// A filled rectangle, `opacity` of its colour, with a tooltip if there is one.
    pub fn rect(
        &mut self,
        (x, y): (f64, f64),
        (width, height): (f64, f64),
        class: &str,
        opacity: Option<f64>,
        tip: &str,
    ) {
        let opacity = opacity.map_or(String::new(), |o| format!(" fill-opacity=\"{o:.2}\""));
        let _ = writeln!(
            self.body,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" \
             class=\"{class}\"{opacity}{}",
            width.max(0.0),
            height.max(0.0),
            closed("rect", tip)
        );
    }

    /// A mark at a point, `r` its radius, with a tooltip.
    pub fn mark(&mut self, mark: Mark, (x, y): (f64, f64), r: f64, class: &str, tip: &str) {
        let _ = writeln!(
            self.body,
            "<path d=\"{}\" class=\"mark {class}\"{}",
            mark.path(x, y, r),
            closed("path", tip)
        );
    }

    /// Ticks with numbers below `bottom`, and the axis's name under them.
    pub fn x_axis(&mut self, scale: &Scale, bottom: f64, ticks: &[f64], name: &str) {
        let (left, right) = scale.range();
        self.line((left, bottom), (right, bottom), "");
        for tick in ticks {
            let x = scale.at(*tick);
            self.line((x, bottom), (x, bottom + 4.0), "");
            self.text((x, bottom + 17.0), Anchor::Middle, "muted", &short(*tick));
        }
        let middle = (left + right) / 2.0;
        self.text((middle, bottom + 33.0), Anchor::Middle, "muted", name);
    }

    /// Thin lines across from `left` to `right` with numbers before them; the axis's name stands
    /// horizontally in the chart's corner, where it is easy to read.
    pub fn y_axis(&mut self, scale: &Scale, (left, right): (f64, f64), ticks: &[f64], name: &str) {
        for tick in ticks {
            let y = scale.at(*tick);
            self.line((left, y), (right, y), "grid");
            self.text((left - 7.0, y + 4.0), Anchor::End, "muted", &short(*tick));
        }
        self.text((0.0, SIZE), Anchor::Start, "muted", name);
    }
}

/// The rest of an element: its tooltip and its end.
fn closed(element: &str, tip: &str) -> String {
    match tip {
        "" => "/>".into(),
        tip => format!("><title>{}</title></{element}>", escaped(tip)),
    }
}

/// The greatest width of a text, pixels.
pub(super) fn width_of(text: &str) -> f64 {
    // Hangul, and from the CJK radicals on all characters that are as wide as high.
    let is_wide = |c: char| matches!(c as u32, 0x1100..=0x11ff | 0x2e80..);
    SIZE * text.chars().map(|c| if is_wide(c) { 1.05 } else { LETTER }).sum::<f64>()
}

/// `text` in at most `room` pixels: the middle is left out, because names differ at their ends.
pub(super) fn fitted(text: &str, room: f64) -> String {
    let letters: Vec<char> = text.chars().collect();
    if width_of(text) <= room {
        return text.to_owned();
    }
    let cut = |kept: usize| -> String {
        let (front, back) = (kept.div_ceil(2), kept / 2);
        let tail = &letters[letters.len() - back..];
        letters[..front].iter().chain(&['…']).chain(tail).collect()
    };
    let fits = |kept: &usize| width_of(&cut(*kept)) <= room;
    (0..letters.len()).rev().find(fits).map_or_else(|| "…".into(), cut)
}

/// Labels at heights `wanted`, moved apart until they are `apart` pixels from each other and
/// between `top` and `bottom`.
pub(super) fn spaced(wanted: &[f64], apart: f64, (top, bottom): (f64, f64)) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|&a, &b| wanted[a].total_cmp(&wanted[b]));
    let mut places = vec![0.0; wanted.len()];
    let mut next = top;
    for &i in &order {
        places[i] = wanted[i].max(next);
        next = places[i] + apart;
    }
    let mut last = bottom;
    for &i in order.iter().rev() {
        places[i] = places[i].min(last);
        last = places[i] - apart;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_their_middle() {
        assert_eq!(fitted("short", 100.0), "short");
        let cut = fitted("wanda-align-50-percent-repaired", 120.0);
        assert!(cut.starts_with("wanda-a") && cut.ends_with("epaired"), "{cut}");
        assert!(width_of(&cut) <= 120.0 && cut.contains('…'), "{cut}");
        assert_eq!(fitted("ß日本語のモデル", 30.0).chars().count(), 3);
        assert_eq!(fitted("anything", 1.0), "…");
    }

    #[test]
    fn labels_move_apart_and_stay_in_the_chart() {
        let places = spaced(&[10.0, 12.0, 11.0, 95.0], 10.0, (5.0, 96.0));
        assert_eq!(places, [10.0, 30.0, 20.0, 95.0]);
        let places = spaced(&[95.0, 96.0], 10.0, (0.0, 96.0));
        assert_eq!(places, [86.0, 96.0]);
    }

    #[test]
    fn a_chart_is_named_and_escaped_both_ways() {
        let mut chart = Chart::new("a < b", "c & d", 100.0, 50.0);
        chart.mark(Mark::Diamond, (5.0, 5.0), 4.0, "base", "<tip>");
        for svg in [chart.inline("f1"), chart.file()] {
            assert!(svg.contains("role=\"img\"") && svg.contains(">a &lt; b</title>"), "{svg}");
            assert!(svg.contains("c &amp; d</desc>") && svg.contains("&lt;tip&gt;"), "{svg}");
        }
        assert!(chart.file().contains("prefers-color-scheme:dark"));
        assert!(!chart.inline("f1").contains("style>"));
    }
}
