//! Any bytes at all are a file of prompts, under each ending that says what it is, or are refused;
//! the same of answers; and any text whose time is bounded is a chat template or is refused.
#![no_main]

use aird::prompts::{ChatTemplate, Message, SpecialTokens, TextFile, WantedFields, load};
use libfuzzer_sys::fuzz_target;
use scratch::Scratch;

mod scratch;

/// Endings: JSON and JSON lines, tables, lines and parts, whatever the content says.
const NAMES: [&str; 5] = ["prompts.jsonl", "prompts.csv", "prompts.tsv", "prompts.txt", "prompts"];

fuzz_target!(|bytes: &[u8]| {
    for name in NAMES {
        let file = Scratch::holding(name, bytes);
        for field in [None, Some("text")] {
            let Ok(set) = load(file.path(), field) else { continue };
            assert!(!set.is_empty() && set.texts().all(|text| !text.trim().is_empty()));
            let ids: std::collections::HashSet<_> = set.prompts.iter().map(|p| &p.id).collect();
            assert_eq!(ids.len(), set.len(), "ids tell all prompts apart");
        }
        let answers = TextFile::read(file.path()).and_then(|f| f.answers(&WantedFields::default()));
        for answer in answers.map(|found| found.answers).unwrap_or_default() {
            let line = answer.with([("label", "refusal".into())]).expect("it was read as JSON");
            assert!(!line.contains('\n'), "a record is one line");
        }
    }
    let Ok(source) = std::str::from_utf8(bytes) else { return };
    if !is_bounded(source) {
        return;
    }
    let special = SpecialTokens { bos: Some("<s>".into()), ..SpecialTokens::default() };
    if let Ok(template) = ChatTemplate::dated(source, special, 0) {
        render(&template);
    }
});

/// Jinja is a language: a few letters ask for any time and any memory. What is tried here has few
/// loops, and few ways to make a text out of two: it ends soon.
fn is_bounded(source: &str) -> bool {
    let count = |word: &str| source.matches(word).count();
    let unbounded = ["range", "macro", "recursive", "*", "lipsum", "batch", "indent", "format"];
    unbounded.iter().all(|word| count(word) == 0)
        && count("for") <= 2
        && count("~") + count("+") + count("replace") + count("join") <= 6
}

fn render(template: &ChatTemplate) {
    let chat = ["user", "assistant", "user"].map(|role| Message::new(role, "Why?"));
    for n_messages in 1..=chat.len() {
        for answer_begins in [false, true] {
            if let Ok(text) = template.render_messages(&chat[..n_messages], answer_begins) {
                let _ = template.adds_bos(&text);
            }
        }
    }
    let _ = template.render(Some("Be kind."), "Why?");
}
