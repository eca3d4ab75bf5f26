//! Our own format of prompt sets: parts in brackets, comments, a category before a tab.
//!
//! ```text
//! # a comment
//! [train]
//! category<TAB>prompt
//! ```

use super::error::{Error, Result};
use super::set::Prompt;

/// The purpose of prompts in a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// For finding the refusal direction.
    Train,
    /// For choosing layer, position, block and strength.
    HeldOut,
    /// Only for reporting.
    Test,
}

impl Part {
    /// All three, in the order of the files.
    pub const ALL: [Part; 3] = [Part::Train, Part::HeldOut, Part::Test];

    /// The name between brackets.
    pub fn name(self) -> &'static str {
        match self {
            Part::Train => "train",
            Part::HeldOut => "held-out",
            Part::Test => "test",
        }
    }

    fn from_name(name: &str) -> Option<Part> {
        Part::ALL.into_iter().find(|part| part.name() == name)
    }
}

/// True if `text` is in this format: a line of it is a part's heading.
pub(super) fn has_parts(text: &str) -> bool {
    text.lines().filter_map(heading).any(|name| Part::from_name(name).is_some())
}

/// Prompts with the part each is in, in order; ids are `train-1`, `train-2`, ...
///
/// # Errors
/// A heading is unknown, a prompt is empty or stands before any heading.
pub(super) fn parse_parts(text: &str) -> Result<Vec<(Part, Prompt)>> {
    let mut part = None;
    let mut n_in_part = 0;
    let mut prompts = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        if content.trim().is_empty() || content.starts_with('#') {
            continue;
        }
        if let Some(name) = heading(content) {
            let unknown = || Error::UnknownPart { line, found: name.into() };
            part = Some(Part::from_name(name).ok_or_else(unknown)?);
            n_in_part = prompts.iter().filter(|(p, _)| Some(*p) == part).count();
            continue;
        }
        let part = part.ok_or(Error::BeforeFirstPart { line })?;
        let (category, text) = match content.split_once('\t') {
            Some((category, text)) => (Some(category), text.trim_end()),
            None => (None, content.trim_end()),
        };
        if text.is_empty() {
            return Err(Error::EmptyPrompt { place: format!("in line {line}") });
        }
        n_in_part += 1;
        let id = format!("{}-{n_in_part}", part.name());
        let category = category.map(str::to_owned);
        prompts.push((part, Prompt { id, text: text.into(), category, answer: None }));
    }
    Ok(prompts)
}

/// `[train]` -> `train`.
fn heading(line: &str) -> Option<&str> {
    line.trim_end().strip_prefix('[')?.strip_suffix(']').filter(|name| !name.contains('\t'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_come_with_part_category_and_number() {
        let text = "# made by hand\n\n[train]\nmaths\tOne?\nTwo?\r\n[test]\nx\tThree?\n\
                    [train]\nFour?\n";
        assert!(has_parts(text));
        let prompts = parse_parts(text).unwrap();
        let seen: Vec<_> = prompts
            .iter()
            .map(|(part, p)| (*part, p.id.as_str(), p.text.as_str(), p.category.as_deref()))
            .collect();
        assert_eq!(
            seen,
            [
                (Part::Train, "train-1", "One?", Some("maths")),
                (Part::Train, "train-2", "Two?", None),
                (Part::Test, "test-1", "Three?", Some("x")),
                (Part::Train, "train-3", "Four?", None),
            ]
        );
    }

    #[test]
    fn plain_lines_are_not_taken_for_this_format() {
        assert!(!has_parts("What is [train] for?\n[other]\n# One\n"));
    }

    #[test]
    fn mistakes_name_their_line() {
        let error = |text| parse_parts(text).unwrap_err().to_string();
        assert_eq!(
            error("[train]\nOne?\n[tset]\n"),
            "line 3: unknown part [tset], expected [train], [held-out] or [test]"
        );
        assert_eq!(
            error("# no part\nOne?\n[train]\n"),
            "line 2: a prompt before the first part, expected [train], [held-out] or [test]"
        );
        assert_eq!(error("[test]\n\ncategory\t \t\nOne?"), "the prompt in line 3 is empty");
    }
}
