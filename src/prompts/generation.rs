//! `{% generation %}`, Hugging Face's own tag.

/// The source with each `{% generation %}` as `{% with %}`: the tag marks the model's answer, for
/// training, and renders its body in its own scope. What only looks like the tag, in a text, a
/// comment or a raw block, stays.
pub(super) fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = next_tag(rest) {
        out += &rest[..at];
        let (tag, after) = rest[at..].split_at(tag_len(&rest[at..]));
        let word = word_of(tag);
        let start = tag.len() - tag[2..].trim_start_matches(is_before_word).len();
        let other = match word {
            "generation" => "with",
            "endgeneration" => "endwith",
            word => word,
        };
        out += &tag[..start];
        out += other;
        out += &tag[start + word.len()..];
        rest = after;
        if word == "raw" {
            let raw = raw_len(rest);
            out += &rest[..raw];
            rest = &rest[raw..];
        }
    }
    out + rest
}

/// Where the next tag, expression or comment begins.
fn next_tag(text: &str) -> Option<usize> {
    let begins = |at: &usize| matches!(text.as_bytes().get(at + 1), Some(b'%' | b'{' | b'#'));
    text.match_indices('{').map(|(at, _)| at).find(begins)
}

/// Bytes of the tag, expression or comment that `text` begins with.
fn tag_len(text: &str) -> usize {
    if text.starts_with("{#") {
        return text.find("#}").map_or(text.len(), |at| at + 2);
    }
    let end = if text.starts_with("{%") { "%}" } else { "}}" };
    let mut depth = 0;
    let mut quote = None;
    let mut chars = text.char_indices().skip(2);
    while let Some((at, c)) = chars.next() {
        match (quote, c) {
            (Some(_), '\\') => drop(chars.next()),
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, _) if depth == 0 && text[at..].starts_with(end) => return at + end.len(),
            (None, '{') => depth += 1,
            (None, '}') => depth -= 1,
            (None, _) => {}
        }
    }
    text.len()
}

/// The word that a `{% tag %}` begins with; empty for anything else.
fn word_of(tag: &str) -> &str {
    let Some(inside) = tag.strip_prefix("{%") else { return "" };
    let word = inside.trim_start_matches(is_before_word);
    let len = word.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    &word[..len.unwrap_or(word.len())]
}

fn is_before_word(c: char) -> bool {
    c.is_whitespace() || matches!(c, '-' | '+')
}

/// Bytes up to the tag that ends a raw block.
fn raw_len(text: &str) -> usize {
    let ends = |at: &usize| word_of(&text[*at..]) == "endraw";
    text.match_indices("{%").map(|(at, _)| at).find(ends).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_is_replaced_and_what_looks_like_it_stays() {
        for (source, expected) in [
            ("{%- generation -%}a{% endgeneration %}b", "{%- with -%}a{% endwith %}b"),
            ("{%generation%}{%+ endgeneration %}", "{%with%}{%+ endwith %}"),
            ("{{ '{% generation %}' }}", "{{ '{% generation %}' }}"),
            ("{{ {'a': {'b': \"\\\"}}\"}} }}{%", "{{ {'a': {'b': \"\\\"}}\"}} }}{%"),
            ("{# {% generation %} #}{%generation%}", "{# {% generation %} #}{%with%}"),
            (
                "{% raw %}{% generation %}{% endraw %}{% generation %}",
                "{% raw %}{% generation %}{% endraw %}{% with %}",
            ),
            (
                "{% set generation = '%}' %}{{ generation",
                "{% set generation = '%}' %}{{ generation",
            ),
            ("a { b {% raw", "a { b {% raw"),
        ] {
            assert_eq!(without_generation_tags(source), expected);
        }
    }
}
