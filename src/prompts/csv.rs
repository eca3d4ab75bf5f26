//! Comma-separated values as RFC 4180 has them: quoted fields may hold commas, line breaks and,
//! doubled, quotes. Lines end in LF or CRLF; blank lines are skipped.

use super::error::{Error, Result};

/// One record.
#[derive(Debug, PartialEq)]
pub(super) struct Row {
    /// The line it begins in, from 1.
    pub line: usize,
    pub fields: Vec<String>,
}

/// Every record of `text`, the heading included.
///
/// # Errors
/// A quote is never closed, or something other than a comma follows one that is.
pub(super) fn parse_csv(text: &str) -> Result<Vec<Row>> {
    let mut reader = Reader { rest: text, line: 1 };
    let mut rows = Vec::new();
    while !reader.rest.is_empty() {
        if !reader.skip_line_end() {
            rows.push(reader.row()?);
        }
    }
    Ok(rows)
}

struct Reader<'t> {
    rest: &'t str,
    line: usize,
}

impl<'t> Reader<'t> {
    fn row(&mut self) -> Result<Row> {
        let line = self.line;
        let mut fields = vec![self.field()?];
        while self.skip(",") {
            fields.push(self.field()?);
        }
        self.skip_line_end();
        Ok(Row { line, fields })
    }

    fn field(&mut self) -> Result<String> {
        if self.skip("\"") {
            return self.quoted();
        }
        let field = self.take(self.rest.find([',', '\n']).unwrap_or(self.rest.len()));
        match field.strip_suffix('\r') {
            // A CR belongs to the line's end, but inside of a line it is a letter like others.
            Some(bare) if !self.rest.starts_with(',') => Ok(bare.into()),
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
            None | Some(',' | '\r' | '\n') => Ok(field),
            Some(found) => Err(Error::AfterQuote { line: self.line, found }),
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
        parse_csv(text).unwrap().into_iter().map(|row| row.fields).collect()
    }

    #[test]
    fn quotes_commas_and_line_breaks_are_part_of_quoted_fields() {
        let text = "a,b\r\n\"x, \"\"y\"\"\nz\",5\" disk\n\n,\"\"\r\nlast,";
        let expected =
            [["a", "b"], ["x, \"y\"\nz", "5\" disk"], ["", ""], ["last", ""]].map(Vec::from);
        assert_eq!(fields(text), expected);
        let lines: Vec<_> = parse_csv(text).unwrap().iter().map(|row| row.line).collect();
        assert_eq!(lines, [1, 2, 5, 6]);
    }

    #[test]
    fn mistakes_name_their_line() {
        let error = |text| parse_csv(text).unwrap_err().to_string();
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
        fn any_text_is_parsed_or_refused(text in "[a\",\r\n]{0,20}") {
            drop(parse_csv(&text));
        }
    }
}
