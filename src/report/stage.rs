//! How the models of a study are shown: the base, what was compressed, each repair; by a word, a
//! colour and a shape.

use super::chart::Tone;

/// What was done to a model, for readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stage<'a> {
    /// Its colour and shape.
    pub tone: Tone,
    /// The word for it: `compressed`, `AIRD`.
    pub title: &'a str,
}

impl<'a> Stage<'a> {
    /// The original.
    pub(super) const BASE: Stage<'static> = Stage { tone: Tone::Base, title: "base" };
    /// Compressed, and not repaired.
    pub(super) const COMPRESSED: Stage<'static> =
        Stage { tone: Tone::Compressed, title: "compressed" };

    /// The i-th repair of a study, by its name in the recipe.
    pub(super) fn repair(i: usize, name: Option<&'a str>) -> Stage<'a> {
        Stage { tone: Tone::repair(i), title: repair_title(name) }
    }
}

/// The word for what a repair made, by its name in the recipe; None is a study's only one.
pub(crate) fn repair_title(name: Option<&str>) -> &str {
    match name {
        None => "repaired",
        Some("aird") => "AIRD",
        Some("restore") => "restored",
        Some(name) => name,
    }
}

/// A repair as the subject of a sentence.
pub(super) fn subject(name: Option<&str>) -> String {
    match name {
        None => "the repair".into(),
        Some("aird") => "AIRD".into(),
        Some("restore") => "the restore".into(),
        Some(name) => format!("the repair ‘{name}’"),
    }
}

/// A word as it begins a sentence.
pub(super) fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repairs_have_words_and_looks_of_their_own() {
        let stages = [Some("aird"), Some("restore"), Some("mild")].into_iter().enumerate().map(
            |(i, name)| {
                let Stage { tone, title } = Stage::repair(i, name);
                (title, tone.class(), tone.mark().glyph())
            },
        );
        let expected = [
            ("AIRD", "repaired", '◆'),
            ("restored", "repaired-2", '■'),
            ("mild", "repaired-3", '★'),
        ];
        assert_eq!(stages.collect::<Vec<_>>(), expected);
        let said = [None, Some("restore"), Some("mild")].map(|name| capitalised(&subject(name)));
        assert_eq!(said, ["The repair", "The restore", "The repair ‘mild’"]);
        assert_eq!(capitalised(""), "");
    }
}
