//! Methods of Python's `str`. Indices count characters.

use std::ops::Range;

/// What `str.isspace` is true for: Unicode's white space and four separators of ASCII.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\x1c'..='\x1f')
}

/// `str.lstrip`: without leading characters of `chars`, or without leading white space.
pub(super) fn lstrip<'t>(text: &'t str, chars: Option<&str>) -> &'t str {
    text.trim_start_matches(|c| is_stripped(c, chars))
}

/// `str.rstrip`.
pub(super) fn rstrip<'t>(text: &'t str, chars: Option<&str>) -> &'t str {
    text.trim_end_matches(|c| is_stripped(c, chars))
}

/// `str.strip`.
pub(super) fn strip<'t>(text: &'t str, chars: Option<&str>) -> &'t str {
    rstrip(lstrip(text, chars), chars)
}

fn is_stripped(c: char, chars: Option<&str>) -> bool {
    chars.map_or_else(|| is_space(c), |chars| chars.contains(c))
}

/// `str.split`: at `sep`, or at white space; `most` splits at most. None for an empty `sep`.
pub(super) fn split<'t>(
    text: &'t str,
    sep: Option<&str>,
    most: Option<usize>,
) -> Option<Vec<&'t str>> {
    let most = most.unwrap_or(usize::MAX);
    match sep {
        Some("") => return None,
        Some(sep) => return Some(text.splitn(most.saturating_add(1), sep).collect()),
        None => {}
    }
    let mut parts = Vec::new();
    let mut rest = lstrip(text, None);
    while !rest.is_empty() {
        let end = rest.find(is_space).filter(|_| parts.len() < most).unwrap_or(rest.len());
        parts.push(&rest[..end]);
        rest = lstrip(&rest[end..], None);
    }
    Some(parts)
}

/// `str.rsplit`: as [`split`], counted from the end.
pub(super) fn rsplit<'t>(
    text: &'t str,
    sep: Option<&str>,
    most: Option<usize>,
) -> Option<Vec<&'t str>> {
    let most = most.unwrap_or(usize::MAX);
    let mut parts = Vec::new();
    match sep {
        Some("") => return None,
        Some(sep) => parts.extend(text.rsplitn(most.saturating_add(1), sep)),
        None => {
            let mut rest = rstrip(text, None);
            while !rest.is_empty() {
                let space = rest.char_indices().rfind(|(_, c)| is_space(*c));
                let space = space.filter(|_| parts.len() < most);
                let start = space.map_or(0, |(at, c)| at + c.len_utf8());
                parts.push(&rest[start..]);
                rest = rstrip(&rest[..start], None);
            }
        }
    }
    parts.reverse();
    Some(parts)
}

/// `str.splitlines`.
pub(super) fn split_lines(text: &str, keep_ends: bool) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(ends_line).unwrap_or(rest.len());
        let after = &rest[end..];
        let len = match after.chars().next() {
            Some('\r') if after.starts_with("\r\n") => 2,
            Some(c) => c.len_utf8(),
            None => 0,
        };
        lines.push(&rest[..if keep_ends { end + len } else { end }]);
        rest = &after[len..];
    }
    lines
}

fn ends_line(c: char) -> bool {
    matches!(c, '\n'..='\r' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// `text[start:end]` as `str.find` and its like take it, with the index that it starts at; None if
/// `start` is past the end.
pub(super) fn part(text: &str, start: Option<i64>, end: Option<i64>) -> Option<(usize, &str)> {
    let len = text.chars().count();
    let index = |index: i64| match usize::try_from(index) {
        Ok(index) => index,
        Err(_) => len.saturating_sub(index.unsigned_abs() as usize),
    };
    let Range { start, end } = start.map_or(0, index)..end.map_or(len, index).min(len);
    if start > end {
        return None;
    }
    let byte = |index| text.char_indices().nth(index).map_or(text.len(), |(byte, _)| byte);
    Some((start, &text[byte(start)..byte(end)]))
}

/// `str.find`, or from the end `str.rfind`: the index of `sub`.
pub(super) fn find(
    text: &str,
    sub: &str,
    range: (Option<i64>, Option<i64>),
    from_end: bool,
) -> Option<usize> {
    let (start, part) = part(text, range.0, range.1)?;
    let byte = if from_end { part.rfind(sub) } else { part.find(sub) }?;
    Some(start + part[..byte].chars().count())
}

/// `str.title`: a capital after every character that has no case.
pub(super) fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_word = false;
    for c in text.chars() {
        if in_word {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        in_word = c.is_lowercase() || c.is_uppercase();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_split_as_python_splits_them() {
        let words = |most| split(" a b  c ", None, most).unwrap();
        assert_eq!(words(None), ["a", "b", "c"]);
        assert_eq!(words(Some(1)), ["a", "b  c "]);
        let from_end = |most| rsplit(" a b  c ", None, most).unwrap();
        assert_eq!(from_end(None), ["a", "b", "c"]);
        assert_eq!(from_end(Some(1)), [" a b", "c"]);
        assert_eq!(split("a,b,,c", Some(","), Some(2)).unwrap(), ["a", "b", ",c"]);
        assert_eq!(rsplit("a,b,,c", Some(","), Some(1)).unwrap(), ["a,b,", "c"]);
        assert_eq!(split("a", Some(""), None), None);
        assert_eq!(split_lines("a\r\nb\x0bc\u{2028}\n", false), ["a", "b", "c", ""]);
        assert_eq!(split_lines("a\r\nb\n\n", true), ["a\r\n", "b\n", "\n"]);
    }

    #[test]
    fn indices_count_characters_and_may_count_from_the_end() {
        assert_eq!(find("éabca", "a", (None, None), false), Some(1));
        assert_eq!(find("éabca", "a", (None, None), true), Some(4));
        assert_eq!(find("éabca", "a", (Some(2), None), false), Some(4));
        assert_eq!(find("éabca", "a", (Some(-3), Some(-1)), false), None);
        assert_eq!(find("abc", "", (Some(3), None), false), Some(3));
        assert_eq!(find("abc", "", (Some(4), None), false), None);
    }

    #[test]
    fn separators_of_ascii_are_white_space() {
        assert_eq!(strip("\x1c a\u{a0}\x1f", None), "a");
        assert_eq!(strip("xyaxy", Some("yx")), "a");
        assert_eq!(title("it's 1st"), "It'S 1St");
    }
}
