//! An answer cut into sentences, in the spelling that phrases are looked up in.

/// Marks and names before an answer that are not part of it.
const PREFIXES: &[&str] = &["assistant:", "answer:", "response:", "ai:", "bot:"];
/// What Markdown and quotes put around words.
const MARKS: &[char] = &['*', '_', '#', '>', '"', '\u{201c}', '\u{201d}', '`'];

/// Lower case, straight apostrophes, single spaces (line ends stay), no marks at the beginning.
pub(super) fn plain(answer: &str) -> String {
    let text = answer.to_lowercase().replace(['\u{2019}', '\u{2018}'], "'");
    let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    let text = lines.collect::<Vec<_>>().join("\n");
    let mut rest = text.trim_start();
    loop {
        let bare = rest.trim_start_matches(|c: char| c.is_whitespace() || MARKS.contains(&c));
        let bare = PREFIXES.iter().find_map(|p| bare.strip_prefix(p)).unwrap_or(bare);
        if bare.len() == rest.len() {
            return bare.to_owned();
        }
        rest = bare;
    }
}

/// The sentences of a [`plain`] text, marks that end them left out.
pub(super) fn sentences(plain: &str) -> impl Iterator<Item = &str> {
    let ends = |c: char| matches!(c, '.' | '!' | '?' | '\n' | '\u{3002}' | '\u{ff01}' | '\u{ff1f}');
    plain.split(ends).map(str::trim).filter(|s| s.chars().any(char::is_alphanumeric))
}

/// Words of a sentence, commas and the like left out; apostrophes stay.
pub(super) fn words(sentence: &str) -> impl Iterator<Item = &str> {
    sentence.split(|c: char| !c.is_alphanumeric() && c != '\'').filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_names_in_front_are_left_out() {
        assert_eq!(plain("**Assistant:** \u{201c}I\u{2019}m  sorry"), "i'm sorry");
        assert_eq!(plain("> One\n  two"), "one\ntwo");
        assert_eq!(plain(" \n#"), "");
    }

    #[test]
    fn sentences_end_at_marks_of_several_scripts() {
        let found: Vec<&str> = sentences("no. \u{5bf9}\u{3002}1. a!\n- b").collect();
        assert_eq!(found, ["no", "\u{5bf9}", "1", "a", "- b"]);
        assert_eq!(words("i'm sorry, but").collect::<Vec<_>>(), ["i'm", "sorry", "but"]);
    }
}
