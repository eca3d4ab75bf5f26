//! What a model thinks, taken out of an answer: judges read only what it says.
//!
//! Reasoning models write their thoughts before the answer, between marks: `<think>` and `</think>`
//! in most families, channels in gpt-oss. "I could refuse, but the steps are" in a thought is
//! neither a refusal nor help.
//!
//! A thought that the prompt's template opened has only the closing mark. Models begin a new line
//! after it; within a line it is a mark that the answer is about. If the thought never ends either,
//! nothing in the text shows that it is one: it is then read as an answer.

use std::borrow::Cow;

use super::babble::is_loop;

/// What opens a thought, and what may close it. In the order of the rows: DeepSeek, Qwen and most
/// others; models trained on answers of Claude; others; Mistral; EXAONE; Seed.
const MARKS: [(&str, &[&str]); 6] = [
    ("<think>", &["</think>"]),
    ("<thinking>", &["</thinking>"]),
    ("<|thinking|>", &["<|/thinking|>", "</|thinking|>"]),
    ("[THINK]", &["[/THINK]"]),
    ("<thought>", &["</thought>"]),
    ("<seed:think>", &["</seed:think>"]),
];
/// What all marks begin with.
const FIRST_LETTERS: [char; 2] = ['<', '['];

/// Opens a part of an answer in gpt-oss's format (harmony); the channel's name follows.
const CHANNEL: &str = "<|channel|>";
/// Ends the channel's name; the part's text follows.
const MESSAGE: &str = "<|message|>";
/// The channel of what the user reads. The others hold thoughts and calls of tools.
const FINAL: &str = "final";
/// What ends a part.
const PART_ENDS: [&str; 3] = ["<|end|>", "<|return|>", "<|start|>"];
/// The same format without its special tokens: what it begins with, and what the last part follows.
const BARE_BEGINNING: &str = "analysis";
const BARE_FINAL: &str = "assistantfinal";

/// An answer, thoughts and speech apart.
pub(super) struct Parts<'a> {
    /// What the model thinks, in order.
    thoughts: Vec<&'a str>,
    /// What it says; empty if a thought never ends.
    pub said: Cow<'a, str>,
}

/// What an answer says, thoughts left out; empty if a thought never ends.
pub fn said(answer: &str) -> Cow<'_, str> {
    Parts::of(answer).said
}

/// What a thought may begin with.
pub fn thought_openings() -> impl Iterator<Item = &'static str> {
    MARKS.iter().map(|(opening, _)| *opening).chain([CHANNEL])
}

impl<'a> Parts<'a> {
    /// The parts of `answer`.
    pub(super) fn of(answer: &'a str) -> Parts<'a> {
        by_channels(answer).or_else(|| by_bare_channels(answer)).unwrap_or_else(|| by_marks(answer))
    }

    /// True if a thought goes round in circles.
    pub(super) fn thinks_in_circles(&self) -> bool {
        self.thoughts.iter().any(|thought| is_loop(thought))
    }
}

/// The parts of an answer in channels; None if it has none.
fn by_channels(answer: &str) -> Option<Parts<'_>> {
    let spoken = answer.match_indices(CHANNEL).find_map(|(at, mark)| {
        let (name, text) = answer[at + mark.len()..].split_once(MESSAGE)?;
        name.trim_start().starts_with(FINAL).then_some((&answer[..at], text))
    });
    match spoken {
        Some((before, text)) => {
            let end = PART_ENDS.iter().filter_map(|end| text.find(end)).min();
            let said = text[..end.unwrap_or(text.len())].into();
            Some(Parts { thoughts: vec![before], said })
        }
        None if answer.trim_start().starts_with(CHANNEL) => {
            Some(Parts { thoughts: vec![answer], said: Cow::default() })
        }
        None => None,
    }
}

/// The parts of an answer in channels that lost its special tokens; None if it is no such answer.
fn by_bare_channels(answer: &str) -> Option<Parts<'_>> {
    let (thought, said) = answer.split_once(BARE_FINAL)?;
    let is_thought = thought.trim_start().starts_with(BARE_BEGINNING);
    is_thought.then(|| Parts { thoughts: vec![thought], said: said.into() })
}

/// The parts of an answer whose thoughts stand between marks, if it has any.
fn by_marks(answer: &str) -> Parts<'_> {
    let (mut thoughts, mut said, mut rest) = (Vec::new(), String::new(), answer);
    // What may close the last thought: without an opening mark it closes another one.
    let mut last: &[&str] = &[];
    if let Some((thought, after, closings)) = opened_by_template(answer) {
        thoughts.push(thought);
        rest = after;
        last = closings;
    }
    loop {
        let opened = next_thought(rest);
        let unopened = opened.map_or(rest, |(before, _, _)| before);
        if let Some((end, closing)) = next_of(unopened, last.iter().copied()) {
            thoughts.push(&rest[..end]);
            rest = &rest[end + closing.len()..];
            continue;
        }
        let Some((before, inside, closings)) = opened else { break };
        match next_of(inside, closings.iter().copied()) {
            Some((end, closing)) => {
                said += before;
                thoughts.push(&inside[..end]);
                rest = &inside[end + closing.len()..];
                last = closings;
            }
            None if said.trim().is_empty() && before.trim().is_empty() => {
                thoughts.push(inside);
                return Parts { thoughts, said: Cow::default() };
            }
            // A mark within an answer, e.g. about such marks: it opens nothing.
            None => break,
        }
    }
    if thoughts.is_empty() {
        return Parts { thoughts, said: answer.into() };
    }
    said += rest;
    Parts { thoughts, said: said.into() }
}

/// A thought whose opening mark is in the prompt, what follows it, and what may close it.
fn opened_by_template(answer: &str) -> Option<(&str, &str, &'static [&'static str])> {
    let unopened = next_thought(answer).map_or(answer, |(before, _, _)| before);
    unopened.match_indices(FIRST_LETTERS).find_map(|(at, _)| {
        let after = |closing: &&str| answer[at..].strip_prefix(*closing);
        let found = |(_, closings): &(&str, &'static [&'static str])| {
            Some((closings.iter().find_map(after)?, *closings))
        };
        let (after, closings) = MARKS.iter().find_map(found)?;
        ends_a_line(after).then_some((&answer[..at], after, closings))
    })
}

/// True if nothing follows in the line, or only another thought.
fn ends_a_line(after: &str) -> bool {
    let after = after.trim_start_matches([' ', '\t']);
    let opens = MARKS.iter().any(|(opening, _)| after.starts_with(opening));
    after.is_empty() || after.starts_with(['\n', '\r']) || opens
}

/// What stands before the first opening mark, what follows it, and what may close it.
fn next_thought(text: &str) -> Option<(&str, &str, &'static [&'static str])> {
    let (at, opening) = next_of(text, MARKS.iter().map(|(opening, _)| *opening))?;
    let closings = MARKS.iter().find(|(other, _)| *other == opening)?.1;
    Some((&text[..at], &text[at + opening.len()..], closings))
}

/// Where the first of `marks` is in `text`, and which it is.
fn next_of<'m>(
    text: &str,
    marks: impl Iterator<Item = &'m str> + Clone,
) -> Option<(usize, &'m str)> {
    text.match_indices(FIRST_LETTERS).find_map(|(at, _)| {
        let mark = marks.clone().find(|mark| text[at..].starts_with(mark))?;
        Some((at, mark))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thoughts_between_marks_of_every_kind_are_left_out() {
        for (answer, expected) in [
            ("<think>Hm.</think>\nNo.", "\nNo."),
            ("<think>\n\n</think>\n\nNo.", "\n\nNo."),
            ("<thinking>Hm.</thinking>No.", "No."),
            ("<|thinking|>Hm.<|/thinking|>No.", "No."),
            ("<|thinking|>Hm.</|thinking|>No.", "No."),
            ("[THINK]Hm.[/THINK]No.", "No."),
            ("<thought>Hm.</thought>No.", "No."),
            ("<seed:think>Hm.</seed:think>No.", "No."),
            // Several, and one in the middle.
            ("<think>a</think>Yes. <think>b</think>No.", "Yes. No."),
            // What closes another kind is part of the thought.
            ("<think>a</thinking>b</think>No.", "No."),
        ] {
            assert_eq!(said(answer), expected, "{answer}");
        }
    }

    #[test]
    fn a_further_closing_mark_ends_another_thought() {
        for (answer, expected) in [
            ("<think>Hm.</think>I could say: I'm sorry.</think>Take a key.", "Take a key."),
            ("<think>a<think>b</think>c</think>No.", "No."),
            ("a</think>\nb</think>No.", "No."),
            ("<think>a</think>Yes. <think>b</think>c</think>No.", "Yes. No."),
            // Of another kind it is one that the answer is about.
            ("<think>a</think>It is </thinking>.", "It is </thinking>."),
        ] {
            assert_eq!(said(answer), expected, "{answer}");
        }
    }

    #[test]
    fn the_final_channel_is_what_is_said() {
        for (answer, expected) in [
            ("<|channel|>analysis<|message|>Hm.<|end|><|channel|>final<|message|>No.", "No."),
            // As llama.cpp spells it, which leaves `<|end|>` out.
            (
                "<|channel|>analysis<|message|>Hm.<|start|>assistant<|channel|>final<|message|>No.",
                "No.",
            ),
            ("<|channel|>final<|message|>No.<|return|>", "No."),
            ("<|channel|>final <|constrain|>json<|message|>{}<|end|>", "{}"),
            ("Hm.<|end|><|start|>assistant<|channel|>final<|message|>No.", "No."),
            ("<|channel|>commentary<|message|>Hm.<|end|>", ""),
            ("<|channel|>analysis<|message|>Hm. I could", ""),
            ("<|channel|>", ""),
        ] {
            assert_eq!(said(answer), expected, "{answer}");
        }
    }

    #[test]
    fn channels_without_their_special_tokens_are_known_by_how_they_begin() {
        let answer = "analysisWe must refuse. I can't help.assistantfinalTake a key.";
        assert_eq!(said(answer), "Take a key.");
        assert_eq!(said("analysisHm.assistantcommentary{}assistantfinalNo."), "No.");
        for answer in ["analysis of it: it is safe.", "The word assistantfinal is odd."] {
            assert_eq!(said(answer), answer);
        }
    }

    #[test]
    fn a_thought_that_the_template_opened_needs_no_opening_mark() {
        assert_eq!(said("Hm, is it safe?</think>\nNo."), "\nNo.");
        assert_eq!(said("Hm.</think><think>More.</think>No."), "No.");
        assert_eq!(said("Hm.[/THINK] \r\nNo."), " \r\nNo.");
        assert_eq!(said("The mark </think> is near.\n</think>\n\nNo."), "\n\nNo.");
    }

    #[test]
    fn nothing_is_said_if_a_thought_never_ends() {
        for answer in ["<think>Hm, I could", " \n<thinking>", "a</think><think>b", "[THINK]a"] {
            assert_eq!(said(answer), "", "{answer}");
        }
    }

    #[test]
    fn answers_without_thoughts_stay_as_they_are() {
        for answer in [
            "",
            "No.",
            "a < b, c > d [1]",
            "The mark <think> opens a thought.",
            "I can't help. In XML, </think> closes it.",
            "<",
        ] {
            assert!(matches!(said(answer), Cow::Borrowed(text) if text == answer), "{answer}");
        }
    }

    #[test]
    fn circles_are_seen_in_thoughts_and_not_in_what_is_said() {
        let circles = "wait, is it safe? no, ".repeat(9);
        let sound = "The user wants a recipe. Eggs and flour are at hand, so a cake is easy.";
        let thinks = |answer: &str| Parts::of(answer).thinks_in_circles();
        assert!(thinks(&format!("<think>{circles}</think>No.")));
        assert!(thinks(&format!("{circles}</think>\nNo.")));
        assert!(thinks(&format!("<|channel|>analysis<|message|>{circles}")));
        assert!(!thinks(&format!("<think>{sound}</think>{circles}")));
        assert!(!thinks("<think>\n\n</think>No."));
    }
}
