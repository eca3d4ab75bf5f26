//! Whether a rendered text holds a message.

/// True if `rendered` holds `said`. Templates may trim it, collapse its white space or escape it as
/// JSON, HTML or Python: only the pieces between such characters must all occur, in order.
pub(super) fn is_shown(said: &str, rendered: &str) -> bool {
    let mut rest = rendered;
    said.split(may_change).filter(|piece| !piece.is_empty()).all(|piece| {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
        true
    })
}

fn may_change(c: char) -> bool {
    c.is_whitespace() || c.is_control() || "\"'\\<>&".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trimmed_and_escaped_texts_are_found_and_missing_pieces_are_not() {
        let said = " Is \"a\" < b?\n\nWhy & how? ";
        for rendered in [
            "<|user|> Is \"a\" < b?\n\nWhy & how? <|end|>",
            "[INST] Is \"a\" < b?\nWhy & how? [/INST]",
            r#"{"content": "Is \"a\" < b?\n\nWhy & how?"}"#,
            "Is &#34;a&#34; &lt; b?\n\nWhy &amp; how?",
        ] {
            assert!(is_shown(said, rendered), "{rendered}");
        }
        for rendered in
            ["", "Is \"a\" < b?", "Why & how? Is \"a\" < b?", "IS \"A\" < B? WHY & HOW?"]
        {
            assert!(!is_shown(said, rendered), "{rendered}");
        }
        assert!(is_shown("\u{1f600}!", "user: \u{1f600}!") && !is_shown("\u{1f600}", "user: "));
        assert!(is_shown("", "") && is_shown(" \n", "x"));
    }
}
