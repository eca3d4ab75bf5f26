//! The course of every variant: a share of the base, of the compressed and of the repaired models.

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
const PLACES: [(f64, &str); 3] = [(62.0, "base"), (152.0, "compressed"), (242.0, "repaired")];
/// Distance between the intervals of several variants at one place, and their greatest total width.
const APART: f64 = 7.0;
const ASIDE: f64 = 44.0;

/// The course of one variant.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Slope {
    /// Its name.
    pub name: String,
    /// The base's share; None if not measured.
    pub base: Option<Rate>,
    /// The compressed model's.
    pub compressed: Option<Rate>,
    /// Those of the repaired models.
    pub repaired: Vec<End>,
}

/// A repaired model, at the end of a variant's course.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct End {
    /// The word for the repair.
    pub title: String,
    /// Its colour and shape.
    pub tone: Tone,
    /// Its share; None if not measured.
    pub rate: Option<Rate>,
}

/// A share in the chart.
struct Point<'a> {
    place: (f64, f64),
    rate: Rate,
    tone: Tone,
    title: &'a str,
}

/// The points of a slope, as far as they were measured.
struct Course<'a> {
    name: &'a str,
    /// Of the base, of the compressed model.
    start: Vec<Point<'a>>,
    /// Of the repaired models.
    ends: Vec<Point<'a>>,
    /// How many repairs were tried.
    n_repairs: usize,
}

/// Draws `slopes` from 0 to 100 %.
pub(crate) fn slope_chart(title: &str, what: &str, slopes: &[Slope]) -> Chart {
    let n_names: usize = slopes.iter().map(n_ends).sum();
    let bottom = TOP + LEAST.max(LINE * n_names as f64);
    let y = Scale::linear((0.0, 100.0), (bottom, TOP));
    let mut chart = Chart::new(title, &summary(what, slopes), WIDTH, bottom + 36.0);
    let ticks = [0.0, 25.0, 50.0, 75.0, 100.0];
    chart.y_axis(&y, (LEFT, RIGHT), &ticks, &format!("{what}, %"));
    for (x, name) in PLACES {
        chart.text((x, bottom + 20.0), Anchor::Middle, "muted", name);
    }
    let courses = courses(&y, slopes, n_names);
    for (i, course) in courses.iter().enumerate() {
        lines(&mut chart, course, dashes(i));
    }
    for course in &courses {
        for point in course.start.iter().chain(&course.ends) {
            draw(&mut chart, &y, course.name, point);
        }
    }
    names(&mut chart, &courses, bottom);
    chart
}

/// How many names a slope has at its end: one for each repair, or its own.
fn n_ends(slope: &Slope) -> usize {
    slope.repaired.len().max(1)
}

fn courses<'a>(y: &Scale, slopes: &'a [Slope], n_names: usize) -> Vec<Course<'a>> {
    let point = |x: f64, rate: Option<Rate>, tone, title: &'a str| {
        let rate = rate?;
        Some(Point { place: (x, y.at(100.0 * rate.rate?)), rate, tone, title })
    };
    let [base, compressed, repaired] = PLACES;
    let mut n_before = 0;
    let mut courses = Vec::new();
    for (i, slope) in slopes.iter().enumerate() {
        let start = [
            // The base is the same for all.
            point(base.0, slope.base, Tone::Base, base.1),
            point(
                compressed.0 + aside(i, slopes.len()),
                slope.compressed,
                Tone::Compressed,
                compressed.1,
            ),
        ];
        let ends = (n_before..).zip(&slope.repaired).filter_map(|(place, end)| {
            point(repaired.0 + aside(place, n_names), end.rate, end.tone, &end.title)
        });
        let (start, ends) = (start.into_iter().flatten().collect(), ends.collect());
        let n_repairs = slope.repaired.len();
        courses.push(Course { name: &slope.name, start, ends, n_repairs });
        n_before += n_ends(slope);
    }
    courses
}

/// How far the i-th of `n` lies beside its place.
fn aside(i: usize, n: usize) -> f64 {
    APART.min(ASIDE / n as f64) * (i as f64 - (n as f64 - 1.0) / 2.0)
}

/// From the base to the compressed model and on to the first repair; the others branch off.
fn lines(chart: &mut Chart, course: &Course<'_>, dashes: &str) {
    let start = course.start.iter().map(|point| point.place);
    let first = course.ends.first().map(|point| point.place);
    chart.curve(&start.chain(first).collect::<Vec<_>>(), "quiet", dashes);
    for other in course.ends.iter().skip(1) {
        let last = course.start.last().map(|point| point.place);
        chart.curve(&last.into_iter().chain([other.place]).collect::<Vec<_>>(), "quiet", dashes);
    }
}

fn draw(chart: &mut Chart, y: &Scale, name: &str, point: &Point<'_>) {
    let Point { place: (x, at), rate, tone, title } = point;
    let (low, high) = (y.at(100.0 * rate.low), y.at(100.0 * rate.high));
    let class = tone.class();
    chart.line((*x, low), (*x, high), &format!("whisker {class}"));
    let (counts, interval) = (counts(rate), interval(rate));
    let tip = format!("{name}, {title}: {counts}, {interval} %");
    chart.mark(tone.mark(), (*x, *at), 4.5, class, &tip);
}

/// Each course is named at its ends, those that were not repaired too; where there are several, the
/// mark beside the name tells them apart.
fn names(chart: &mut Chart, courses: &[Course<'_>], bottom: f64) {
    let mut ends: Vec<(&Course<'_>, &Point<'_>)> = Vec::new();
    for course in courses {
        let compressed = course.start.last().filter(|p| p.tone == Tone::Compressed);
        let last = compressed.filter(|_| course.ends.is_empty());
        ends.extend(course.ends.iter().chain(last).map(|point| (course, point)));
    }
    let wanted: Vec<f64> = ends.iter().map(|(_, point)| point.place.1).collect();
    let places = spaced(&wanted, LINE, (TOP, bottom));
    for ((course, point), at) in ends.into_iter().zip(places) {
        let (x, y) = point.place;
        chart.line((x + 8.0, y), (RIGHT + 4.0, at), "leader");
        let share = percent(&point.rate);
        chart.text((RIGHT + 44.0, at + 4.0), Anchor::End, "strong", &share);
        let mut left = RIGHT + 52.0;
        if course.n_repairs > 1 {
            chart.mark(point.tone.mark(), (left + 4.0, at), 4.0, point.tone.class(), point.title);
            left += 14.0;
        }
        chart.name((left, at + 4.0), Anchor::Start, "", course.name, WIDTH - left - 2.0);
    }
}

fn summary(what: &str, slopes: &[Slope]) -> String {
    let [base, compressed, _] = PLACES;
    let share = |title: &str, rate: &Option<Rate>| {
        let share = rate.as_ref().map_or_else(|| "not measured".into(), percent);
        format!("{title} {share}")
    };
    let one = |slope: &Slope| {
        let mut stages = vec![share(base.1, &slope.base), share(compressed.1, &slope.compressed)];
        stages.extend(slope.repaired.iter().map(|end| share(&end.title, &end.rate)));
        format!("{}: {}", slope.name, stages.join(", "))
    };
    format!("{what}. {}", slopes.iter().map(one).collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::interval::wilson;

    #[test]
    fn a_variant_without_a_repair_is_named_at_its_end_too() {
        let slope = |name: &str, rate| Slope {
            name: name.into(),
            base: Some(wilson(4, 100)),
            compressed: Some(wilson(61, 100)),
            repaired: vec![End { title: "repaired".into(), tone: Tone::Repaired, rate }],
        };
        let slopes = [slope("wanda", Some(wilson(11, 100))), slope("awq", None)];
        let svg = slope_chart("t", "attack success", &slopes).inline("i");
        for text in [">wanda</text>", ">awq</text>", ">11\u{a0}%</text>", ">61\u{a0}%</text>"] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
        assert_eq!(svg.matches("class=\"whisker").count(), 5);
        assert!(svg.contains("awq: base 4\u{a0}%, compressed 61\u{a0}%, repaired not"), "{svg}");
    }

    #[test]
    fn a_course_forks_into_its_repairs() {
        let end =
            |title: &str, tone, k| End { title: title.into(), tone, rate: Some(wilson(k, 100)) };
        let slope = Slope {
            name: "wanda".into(),
            base: Some(wilson(4, 100)),
            compressed: Some(wilson(61, 100)),
            repaired: vec![end("AIRD", Tone::Repaired, 11), end("restored", Tone::Repaired2, 5)],
        };
        let svg = slope_chart("t", "attack success", &[slope]).inline("i");
        for text in ["><title>AIRD</title>", "><title>restored</title>", "AIRD 11\u{a0}%, restored"]
        {
            assert!(svg.contains(text), "{text}: {svg}");
        }
        assert_eq!(svg.matches(">wanda</text>").count(), 2);
        // Base to AIRD, and from the compressed model to the restored one.
        assert_eq!(svg.matches("<polyline").count(), 2);
        let marks = ["mark base", "mark variant", "mark repaired", "mark repaired-2"];
        assert!(marks.iter().all(|mark| svg.contains(&format!("\"{mark}\""))), "{svg}");
    }
}
