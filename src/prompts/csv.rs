//! Comma-separated values by RFC 4180: quoted fields may hold commas, line breaks and, doubled,
//! quotes. Lines end in LF or CRLF; blank lines are skipped. The same with tabs as separators.

use super::error::{Error, Result};

/// What stands between two fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Separator {
    Comma,
    Tab,
}

impl Separator {
    fn text(self) -> &'static str {
        match self {
            Separator::Comma => ",",
            Separator::Tab => "\t",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Separator::Comma => "a comma",
            Separator::Tab => "a tab",
        }
    }
}

/// One record of the table.
#[derive(Debug, PartialEq)]
pub(super) struct Row {
    /// The line it begins in, from 1.
    pub line: usize,
    pub fields: Vec<String>,
}

/// Every record of `text`, the heading included.
///
/// # Errors
/// A quote is never closed, or something other than a separator follows one that is.
pub(super) fn parse_csv(text: &str, separator: Separator) -> Result<Vec<Row>> {
    let mut reader = CsvReader { rest: text, line: 1, separator };
    let mut rows = Vec::new();
    while !reader.rest.is_empty() {
        if !reader.skip_line_end() {
            rows.push(reader.row()?);
        }
    }
    Ok(rows)
}

struct CsvReader<'t> {
    rest: &'t str,
    line: usize,
    separator: Separator,
}

impl<'t> CsvReader<'t> {
    fn row(&mut self) -> Result<Row> {
        let line = self.line;
        let mut fields = vec![self.field()?];
        while self.skip(self.separator.text()) {
            fields.push(self.field()?);
        }
        self.skip_line_end();
        Ok(Row { line, fields })
    }

    fn field(&mut self) -> Result<String> {
        if self.skip("\"") {
            return self.quoted();
        }
        let separator = self.separator.text();
        let line = &self.rest[..self.rest.find('\n').unwrap_or(self.rest.len())];
        let field = self.take(line.find(separator).unwrap_or(line.len()));
        match field.strip_suffix('\r') {
            // A CR belongs to the line's end, but inside a line it is an ordinary character.
            Some(bare) if !self.rest.starts_with(separator) => Ok(bare.into()),
            _ => Ok(field.into()),
        }
    }

    /// What follows an opening quote, up to and with the closing one.
    fn quoted(&mut self) -> Result<String> {
        let open = Error::OpenQuote { line: self.line };
        let mut field = String::new();
        loop {
            let Some(end) = self.rest.find('"') else { return Err(open) };
            let part = self.take(end);
            self.line += part.matches('\n').count();
            field += part;
            self.skip("\"");
            if !self.skip("\"") {
                break;
            }
            field.push('"');
        }
        match self.rest.chars().next() {
            None | Some('\r' | '\n') => Ok(field),
            Some(_) if self.rest.starts_with(self.separator.text()) => Ok(field),
            Some(found) => {
                let separator = self.separator.name();
                Err(Error::AfterQuote { line: self.line, found, separator })
            }
        }
    }

    fn take(&mut self, len: usize) -> &'t str {
        let (taken, rest) = self.rest.split_at(len);
        self.rest = rest;
        taken
    }

    fn skip(&mut self, what: &str) -> bool {
        let rest = self.rest.strip_prefix(what);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn skip_line_end(&mut self) -> bool {
        let ended = self.skip("\r\n") || self.skip("\n") || self.skip("\r");
        self.line += usize::from(ended);
        ended
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(text: &str) -> Vec<Vec<String>> {
        parse_csv(text, Separator::Comma).unwrap().into_iter().map(|row| row.fields).collect()
    }

    #[test]
    fn quotes_commas_and_line_breaks_are_part_of_quoted_fields() {
        let text = "a,b\r\n\"x, \"\"y\"\"\nz\",5\" disk\n\n,\"\"\r\nlast,";
        let expected =
            [["a", "b"], ["x, \"y\"\nz", "5\" disk"], ["", ""], ["last", ""]].map(Vec::from);
        assert_eq!(fields(text), expected);
        let rows = parse_csv(text, Separator::Comma).unwrap();
        let lines: Vec<_> = rows.iter().map(|row| row.line).collect();
        assert_eq!(lines, [1, 2, 5, 6]);
    }

    #[test]
    fn tabs_separate_where_they_are_asked_for() {
        let text = "a\tb\r\n\"x\ty\"\t1,5\r\n\tz\r\n";
        let rows = parse_csv(text, Separator::Tab).unwrap();
        let found: Vec<_> = rows.into_iter().map(|row| row.fields).collect();
        assert_eq!(found, [["a", "b"], ["x\ty", "1,5"], ["", "z"]].map(Vec::from));
        let said = parse_csv("\"a\",\n", Separator::Tab).unwrap_err().to_string();
        let expected = "line 1: ',' follows a closing quote, expected a tab or the line's end";
        assert_eq!(said, expected);
    }

    #[test]
    fn mistakes_name_their_line() {
        let error = |text| parse_csv(text, Separator::Comma).unwrap_err().to_string();
        assert_eq!(error("a\n\"b\nc\n"), "the quote that opens in line 2 is never closed");
        assert_eq!(
            error("a\n\"b\nc\"d\n"),
            "line 3: 'd' follows a closing quote, expected a comma or the line's end"
        );
    }

    fn encoded(rows: &[Vec<String>], line_end: &str) -> String {
        let field = |field: &String| match field.contains(['"', ',', '\n', '\r']) {
            true => format!("\"{}\"", field.replace('"', "\"\"")),
            false => field.clone(),
        };
        let row = |row: &Vec<String>| match row.as_slice() {
            // Bare, it would be a blank line.
            [only] if only.is_empty() => "\"\"".into(),
            row => row.iter().map(field).collect::<Vec<_>>().join(","),
        };
        rows.iter().map(|r| row(r) + line_end).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..<_>::default() })]

        #[test]
        fn what_is_written_comes_back(
            rows in prop::collection::vec(prop::collection::vec("[a\",\r\n é]{0,5}", 1..4), 0..5),
            crlf: bool,
        ) {
            let text = encoded(&rows, if crlf { "\r\n" } else { "\n" });
            prop_assert_eq!(fields(&text), rows);
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in "[a\",\t\r\n]{0,20}") {
            drop(parse_csv(&text, Separator::Comma));
            drop(parse_csv(&text, Separator::Tab));
        }
    }
}
