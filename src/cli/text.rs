//! How numbers, values and tables look.

pub(super) use crate::verbs::words::{
    by_kind, bytes_text, count_text, counted, first_line, rate_text, share_text, shown,
    shown_lines, table,
};

/// `about 40 s`: a time that was estimated.
pub(super) fn seconds_text(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("about {s:.0} s"),
        s if s < 5400.0 => format!("about {:.0} min", s / 60.0),
        s => format!("about {:.1} h", s / 3600.0),
    }
}

/// What a dry run prints of the time that the run would take, if it is known.
pub(super) fn time_text(seconds: Option<f64>) -> String {
    match seconds {
        None => String::new(),
        Some(s) if s < 1.0 => "it would take less than a second here\n".into(),
        Some(s) => format!("it would take {} here\n", seconds_text(s)),
    }
}

/// That `condition` holds for `name`, by the figure that was found and by that of the worst case.
pub(super) fn failed_text(condition: &str, name: &str, [value, worst]: [Option<f64>; 2]) -> String {
    let text = |value: Option<f64>| value.map_or("not measured".into(), |x| format!("{x:.3}"));
    let (value, worst) = (text(value), text(worst));
    let counted = match value == worst {
        true => String::new(),
        false => format!(", {worst} with what has no answer or no verdict counted as worst"),
    };
    format!("--fail-if '{condition}' holds for {name}: {value}{counted}")
}

/// Bytes that come in pieces, as a model writes them, made fit for a terminal. A character may be
/// spread over several pieces.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    /// The beginning of a character.
    begun: Vec<u8>,
}

impl Pieces {
    /// What can be shown with `bytes` added.
    pub(super) fn push(&mut self, bytes: &[u8]) -> String {
        self.begun.extend(bytes);
        let mut text = String::new();
        for chunk in self.begun.utf8_chunks() {
            text += &shown_lines(chunk.valid());
            if !chunk.invalid().is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        // An unfinished character at the end waits for the rest of it.
        let rest = match std::str::from_utf8(&self.begun) {
            Ok(_) => 0,
            Err(_) => unfinished(&self.begun),
        };
        if rest > 0 {
            text.pop();
        }
        self.begun.drain(..self.begun.len() - rest);
        text
    }
}

/// Bytes at the end that begin a character and do not end it.
fn unfinished(bytes: &[u8]) -> usize {
    let Some(chunk) = bytes.utf8_chunks().last() else { return 0 };
    let invalid = chunk.invalid();
    let is_cut = std::str::from_utf8(invalid).is_err_and(|e| e.error_len().is_none());
    if is_cut { invalid.len() } else { 0 }
}

/// What is printed before a sweep's error.
pub(super) const OUTPUT_ERROR: &str = "mean error of the matrices' outputs on held-out samples:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_in_pieces_is_shown_when_it_is_whole() {
        let mut pieces = Pieces::default();
        let smile = "🙂".as_bytes();
        assert_eq!(pieces.push(&smile[..2]), "");
        assert_eq!(pieces.push(&smile[2..]), "🙂");
        assert_eq!(pieces.push(b"a\x1b[2J\n"), "a\\u{1b}[2J\n");
        // A C1 control in two bytes.
        assert_eq!(pieces.push(b"\xc2"), "");
        assert_eq!(pieces.push(b"\x9b"), "\\u{9b}");
        assert_eq!(pieces.push(b"\xffx\xf0"), "\u{fffd}x");
        assert_eq!(pieces.push(b"y"), "\u{fffd}y");
    }
}
