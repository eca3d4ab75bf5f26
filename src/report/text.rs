//! How numbers and words look in reports; also escapes text for HTML and XML.

use std::cmp::Ordering;

use crate::eval::interval::{Mean, Rate};

/// From this many cases on, a tenth of a per cent is meaningful.
const MANY: usize = 200;
/// Keeps a number and its unit on one line.
const NBSP: char = '\u{a0}';
/// Smaller p-values are shown as `<0.001`.
const SMALLEST_P: f64 = 0.001;

/// Escapes text for HTML and XML, in quotes or outside; control characters, which both forbid, are
/// and XML forbid, left out.
pub(super) fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')) {
        match c {
            '&' => html += "&amp;",
            '<' => html += "&lt;",
            '>' => html += "&gt;",
            '"' => html += "&quot;",
            '\'' => html += "&#39;",
            // XML has no such characters at all.
            '\u{fffe}' | '\u{ffff}' => {}
            c => html.push(c),
        }
    }
    html
}

/// `67 %`, from 200 cases on `67.3 %`; words if there are no cases.
pub(super) fn percent(rate: &Rate) -> String {
    rate.rate.map_or_else(|| "no cases".into(), |share| percent_of(share, rate.n))
}

/// A share of `n` cases.
pub(super) fn percent_of(share: f64, n: usize) -> String {
    format!("{:.*}{NBSP}%", decimals(n), 100.0 * share)
}

/// `57–76`: a rate's interval in per cent.
pub(super) fn interval(rate: &Rate) -> String {
    let digits = decimals(rate.n);
    format!("{:.digits$}–{:.digits$}", 100.0 * rate.low, 100.0 * rate.high)
}

/// `67 of 100`.
pub(super) fn counts(rate: &Rate) -> String {
    format!("{} of {}", rate.k, rate.n)
}

/// `0.012–0.031`: a mean's interval, where there is one.
pub(super) fn mean_interval(mean: &Mean) -> Option<String> {
    let (low, high) = mean.low.zip(mean.high)?;
    Some(format!("{}–{}", three(low), three(high)))
}

/// A mean share with its interval, per cent.
pub(super) fn mean_percent(mean: &Mean) -> String {
    let digits = decimals(mean.n);
    let of = |m: f64| match mean.low.zip(mean.high) {
        None => format!("{:.digits$}{NBSP}%", 100.0 * m),
        Some((low, high)) => {
            let (low, high) = (100.0 * low, 100.0 * high);
            format!("{:.digits$}{NBSP}% [{low:.digits$}–{high:.digits$}]", 100.0 * m)
        }
    };
    mean.mean.map_or_else(|| "no cases".into(), of)
}

fn decimals(n: usize) -> usize {
    usize::from(n >= MANY)
}

/// `<0.001`, `0.012`, `0.34`.
pub(super) fn p_value(p: f64) -> String {
    match p {
        p if p.is_nan() => "none".into(),
        p if p < SMALLEST_P => format!("<{SMALLEST_P}"),
        p if p < 0.095 => format!("{p:.3}"),
        p => format!("{p:.2}"),
    }
}

/// Nats, cosines and the like: three decimals, with a typographic minus.
pub(super) fn three(x: f64) -> String {
    // What rounds to 0 has no sign.
    let x = if x.abs() < 0.0005 { 0.0 } else { x };
    format!("{x:.3}").replace('-', "−")
}

/// As [`three`], or `none` if there is no number.
pub(super) fn three_or(x: Option<f64>, none: &str) -> String {
    x.filter(|x| x.is_finite()).map_or_else(|| none.to_owned(), three)
}

/// A strength or the like, with as many digits as are meaningful: `6`, `2.25`, `0.037`.
pub(super) fn short(x: f64) -> String {
    let digits = match x.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{x:.digits$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    text.replace('-', "−")
}

/// `270.9 MB`: powers of ten, the usual unit of file sizes.
pub(super) fn megabytes(bytes: u64) -> String {
    format!("{:.1}{NBSP}MB", bytes as f64 / 1e6)
}

/// The first so many characters of a hash.
pub(super) fn short_hash(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

/// `1 model`, `3 models`.
pub(super) fn plural(n: usize, one: &str) -> String {
    format!("{n} {one}{}", if n == 1 { "" } else { "s" })
}

/// `a, b and c`.
pub(super) fn listed(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// A relative change with an arrow: `▼ 83 %`.
pub(super) fn change(before: f64, after: f64) -> String {
    let relative = 100.0 * (after - before).abs() / before.abs();
    match after.partial_cmp(&before) {
        None => "none".into(),
        Some(Ordering::Equal) => "no change".into(),
        Some(order) => {
            let arrow = if order == Ordering::Less { '▼' } else { '▲' };
            match before == 0.0 {
                true => format!("{arrow}{NBSP}from 0"),
                false if relative >= 1000.0 => {
                    format!("{arrow}{NBSP}{}-fold", short((after / before).round()))
                }
                false if relative < 0.05 => "no change".into(),
                false if relative < 1.0 => format!("{arrow}{NBSP}{relative:.1}{NBSP}%"),
                false => format!("{arrow}{NBSP}{relative:.0}{NBSP}%"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::interval::wilson;

    fn plain(text: String) -> String {
        text.replace(NBSP, " ")
    }

    #[test]
    fn numbers_have_as_many_digits_as_they_are_worth() {
        let rate = wilson(67, 100);
        assert_eq!(plain(percent(&rate)), "67 %");
        assert_eq!((interval(&rate), counts(&rate)), ("57–75".into(), "67 of 100".into()));
        assert_eq!(plain(percent(&wilson(61, 200))), "30.5 %");
        assert_eq!(percent(&wilson(0, 0)), "no cases");
        let p = [1e-9, 0.001, 0.0123, 0.34, 1.0, f64::NAN].map(p_value);
        assert_eq!(p, ["<0.001", "0.001", "0.012", "0.34", "1.00", "none"]);
        assert_eq!([0.1234, -0.5, -0.0001].map(three), ["0.123", "−0.500", "0.000"]);
        assert_eq!(
            [6.0, 2.25, 0.0371, 81.04, 651.3].map(short),
            ["6", "2.25", "0.037", "81", "651"]
        );
        assert_eq!(three_or(Some(f64::NAN), "none"), "none");
    }

    #[test]
    fn changes_are_relative_and_point_where_they_go() {
        let changes = [(0.67, 0.11), (0.1, 0.2), (0.0, 0.3), (0.3, 0.3), (1.0, 40.0), (1.0, 1.004)];
        let said = changes.map(|(a, b)| plain(change(a, b)));
        assert_eq!(said, ["▼ 84 %", "▲ 100 %", "▲ from 0", "no change", "▲ 40-fold", "▲ 0.4 %"]);
    }

    #[test]
    fn markup_and_control_characters_do_not_come_through() {
        assert_eq!(escaped("<b a='\"'>&\u{7}\n"), "&lt;b a=&#39;&quot;&#39;&gt;&amp;\n");
    }

    #[test]
    fn words_are_counted_and_listed() {
        assert_eq!((plural(1, "model"), plural(2, "model")), ("1 model".into(), "2 models".into()));
        let words = ["a", "b", "c"].map(String::from);
        assert_eq!([listed(&words), listed(&words[..1]), listed(&[])], ["a, b and c", "a", ""]);
    }
}
