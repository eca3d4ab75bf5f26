//! Counts, sizes and names of files and tensors, as sentences hold them.

use indexmap::IndexMap;

use crate::eval::interval::Rate;
use crate::gguf::{Value, ValueType, without_block};

/// Characters of a value that are shown.
const SHOWN: usize = 60;

/// `270.9 MB`: powers of ten, as file managers show sizes.
pub(crate) fn bytes_text(bytes: u64) -> String {
    scaled(bytes, "B", &["kB", "MB", "GB", "TB"])
}

/// `134.5 M`: a count.
pub(crate) fn count_text(n: u64) -> String {
    scaled(n, "", &["k", "M", "B", "T"])
}

fn scaled(n: u64, unit: &str, larger: &[&str]) -> String {
    let mut value = n as f64;
    let mut name = unit;
    for larger in larger {
        if value < 999.95 {
            break;
        }
        value /= 1000.0;
        name = larger;
    }
    match name == unit {
        true => format!("{n} {unit}").trim_end().to_owned(),
        false => format!("{value:.1} {name}"),
    }
}

/// `33.1 %`, of a whole that may be nothing.
pub(crate) fn share_text(part: u64, whole: u64) -> String {
    match whole {
        0 => "-".into(),
        whole => format!("{:.1} %", 100.0 * part as f64 / whole as f64),
    }
}

/// `6/32, 19 % [9-35]`: a share with its interval.
pub(crate) fn rate_text(rate: &Rate) -> String {
    let percent = |x: f64| (100.0 * x).round();
    match rate.rate {
        None => "-".into(),
        Some(p) => format!(
            "{}/{}, {} % [{}-{}]",
            rate.k,
            rate.n,
            percent(p),
            percent(rate.low),
            percent(rate.high)
        ),
    }
}

/// `1 tensor`, `2 tensors`, `2 matrices`.
pub(crate) fn counted(n: impl TryInto<u64>, what: &str) -> String {
    let n = n.try_into().unwrap_or(u64::MAX);
    match (n, what.strip_suffix("x")) {
        (1, _) => format!("1 {what}"),
        (n, Some(stem)) => format!("{n} {stem}ces"),
        (n, None) => format!("{n} {what}s"),
    }
}

/// Names that a list shows at most.
const LISTED: usize = 8;

/// The first of `names`, and how many more there are.
pub(crate) fn few(names: &[String]) -> String {
    let shown = names[..names.len().min(LISTED)].join(", ");
    match names.len().checked_sub(LISTED) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} and {more} more"),
    }
}

/// Names without their block's number, each once: `blk.*.ffn_up.weight (30)`.
pub(crate) fn by_kind<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut counts: IndexMap<String, u64> = IndexMap::new();
    for name in names {
        *counts.entry(without_block(name)).or_default() += 1;
    }
    let text = |(kind, n): (String, u64)| if n == 1 { kind } else { format!("{kind} ({n})") };
    counts.into_iter().map(text).collect::<Vec<_>>().join(", ")
}

/// A text of a file on one line, with nothing in it that steers a terminal or hides what is
/// there: control characters, among them line breaks, and marks that turn the direction of
/// writing around come out as `\u{1b}`.
pub(crate) fn shown(text: &str) -> String {
    text.chars().map(|c| visible(c, false)).collect()
}

/// As [`shown`], of text with lines and tabs of its own.
pub(crate) fn shown_lines(text: &str) -> String {
    text.chars().map(|c| visible(c, true)).collect()
}

/// The character, or its escape.
fn visible(c: char, in_lines: bool) -> String {
    match c {
        '\n' | '\t' if in_lines => c.into(),
        c if c.is_control() || is_hidden(c) => c.escape_default().collect(),
        c => c.into(),
    }
}

/// Characters that are not seen but change what is: direction marks, line separators, and those
/// of no width. Joiners (U+200C and U+200D) stay, as words and emoji are spelled with them.
fn is_hidden(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// One line of a text, cut where it grows long.
pub(crate) fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let cut: String = line.chars().take(SHOWN).collect();
    if cut.len() < text.len() { format!("{cut}...") } else { cut }
}

/// A header's value in a few words.
pub(crate) fn value_text(value: &Value) -> String {
    match value {
        Value::Bool(v) => (*v != 0).to_string(),
        Value::String(text) => format!("'{}'", first_line(&String::from_utf8_lossy(text))),
        Value::Array(array) => {
            let few = array.len() <= 4 && array.element() != ValueType::String;
            let items = || array.iter().map(|v| value_text(&v)).collect::<Vec<_>>().join(", ");
            if few { format!("[{}]", items()) } else { array_text(array.element(), array.len()) }
        }
        number => number.number_text().unwrap_or_default(),
    }
}

fn array_text(element: ValueType, len: u64) -> String {
    format!("[{} x {len}]", element.name())
}

/// Columns padded to the widest cell, two spaces apart; columns in `right` end flush.
pub(crate) fn table(rows: &[Vec<String>], right: &[usize], indent: &str) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| shown(cell)).collect()).collect();
    let n = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| {
        let widths = rows.iter().filter_map(|row| row.get(c)).map(|cell| cell.chars().count());
        widths.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..n).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().enumerate().map(|(c, cell)| match right.contains(&c) {
            true => format!("{cell:>0$}", widths[c]),
            false => format!("{cell:<0$}", widths[c]),
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        text += &format!("{indent}{}\n", line.trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_one_digit_and_the_right_unit() {
        assert_eq!(bytes_text(999), "999 B");
        assert_eq!(bytes_text(999_960), "1.0 MB");
        assert_eq!(bytes_text(270_900_000), "270.9 MB");
        assert_eq!(count_text(12), "12");
        assert_eq!(count_text(134_515_008), "134.5 M");
        assert_eq!(share_text(1, 3), "33.3 %");
        assert_eq!(share_text(0, 0), "-");
    }

    #[test]
    fn counts_and_lists_read_as_sentences() {
        assert_eq!(counted(1u64, "tensor"), "1 tensor");
        assert_eq!(counted(0usize, "tensor"), "0 tensors");
        assert_eq!(counted(2u64, "matrix"), "2 matrices");
        assert_eq!(counted(1u64, "matrix"), "1 matrix");
        let names: Vec<String> = (0..10).map(|i| i.to_string()).collect();
        assert_eq!(few(&names[..8]), "0, 1, 2, 3, 4, 5, 6, 7");
        assert_eq!(few(&names), "0, 1, 2, 3, 4, 5, 6, 7 and 2 more");
        assert_eq!(by_kind(["blk.0.a", "output", "blk.1.a"]), "blk.*.a (2), output");
    }

    #[test]
    fn what_steers_a_terminal_is_shown() {
        assert_eq!(shown("a\x1b]0;t\x07\r\nb"), "a\\u{1b}]0;t\\u{7}\\r\\nb");
        let hidden = "\u{202e}x\u{2066}y\u{9b}\u{feff}";
        assert_eq!(shown(hidden), "\\u{202e}x\\u{2066}y\\u{9b}\\u{feff}");
        assert_eq!(shown_lines("a\tb\n\x7f"), "a\tb\n\\u{7f}");
        // What is shown once is not shown twice, and other scripts stay.
        for text in ["a\\u{1b}", "dir/Größe 模型 🙂.gguf", "\\n"] {
            assert_eq!(shown(text), text);
        }
    }

    #[test]
    fn tables_line_up() {
        let rows = vec![vec!["a".into(), "10".into()], vec!["bcd".into(), "9".into()]];
        assert_eq!(table(&rows, &[1], " "), " a    10\n bcd   9\n");
        assert_eq!(table(&[vec!["a\nb".into()]], &[], ""), "a\\nb\n");
    }
}
