//! How numbers, values and tables look.

use crate::gguf::{Value, ValueType};

/// Characters of a value that are shown.
const SHOWN: usize = 60;

/// `270.9 MB`: powers of ten, as file sizes are usually told.
pub fn bytes_text(bytes: u64) -> String {
    scaled(bytes, "B", &["kB", "MB", "GB", "TB"])
}

/// `134.5 M`: a count.
pub fn count_text(n: u64) -> String {
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
pub fn share_text(part: u64, whole: u64) -> String {
    match whole {
        0 => "-".into(),
        whole => format!("{:.1} %", 100.0 * part as f64 / whole as f64),
    }
}

/// One line of a text, cut where it grows long.
pub fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let cut: String = line.chars().take(SHOWN).collect();
    if cut.len() < text.len() { format!("{cut}...") } else { cut }
}

/// A header's value in a few words.
pub fn value_text(value: &Value) -> String {
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
pub fn table(rows: &[Vec<String>], right: &[usize], indent: &str) -> String {
    let n = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| {
        let widths = rows.iter().filter_map(|row| row.get(c)).map(|cell| cell.chars().count());
        widths.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..n).map(width).collect();
    let mut text = String::new();
    for row in rows {
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
    fn tables_line_up() {
        let rows = vec![vec!["a".into(), "10".into()], vec!["bcd".into(), "9".into()]];
        assert_eq!(table(&rows, &[1], " "), " a    10\n bcd   9\n");
    }
}
