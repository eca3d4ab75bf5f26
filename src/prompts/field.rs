//! Which field of a record holds the prompt, and which its id and its category.

use super::error::{Error, Result};
use super::set::Prompt;

/// Names of the prompt's field in published sets, most specific first: JailbreakBench has both a
/// `Goal`, which is the prompt, and a `Behavior`, which is its title; HarmBench has only the
/// latter.
pub(super) const PROMPT: [&str; 6] =
    ["instruction", "prompt", "goal", "Behavior", "question", "text"];
/// HarmBench's name second.
const ID: [&str; 2] = ["id", "BehaviorID"];
/// HarmBench's name second, XSTest's third.
const CATEGORY: [&str; 3] = ["category", "SemanticCategory", "type"];

/// Alpaca's name first.
const ANSWER: [&str; 4] = ["output", "response", "completion", "answer"];
/// Alpaca's further text to an instruction.
const INPUT: &str = "input";
/// A wrapper that some sets put around a prompt: part of Llama 2's template, which aird adds
/// itself.
const WRAPPER: (&str, &str) = ("[INST]", "[/INST]");

/// The field that holds the prompt: the one named `wanted`, else the first that has one of the
/// usual names, in that case or, failing that, in another.
pub(super) fn prompt_field<'n>(names: &[&'n str], wanted: Option<&str>) -> Option<&'n str> {
    match wanted {
        Some(wanted) => names.iter().find(|&&name| name == wanted).copied(),
        None => first_of(&PROMPT, names),
    }
}

pub(super) fn id_field<'n>(names: &[&'n str]) -> Option<&'n str> {
    first_of(&ID, names)
}

pub(super) fn category_field<'n>(names: &[&'n str]) -> Option<&'n str> {
    first_of(&CATEGORY, names)
}

pub(super) fn answer_field<'n>(names: &[&'n str]) -> Option<&'n str> {
    first_of(&ANSWER, names)
}

/// The field with text that continues an `instruction`.
pub(super) fn input_field<'n>(names: &[&'n str], prompt: &str) -> Option<&'n str> {
    let of_alpaca = prompt.eq_ignore_ascii_case(PROMPT[0]);
    if of_alpaca { names.iter().find(|&&name| name == INPUT).copied() } else { None }
}

/// The first of `usual` that is among `names`, in its case or, failing that, in another.
pub(super) fn first_of<'n>(usual: &[&str], names: &[&'n str]) -> Option<&'n str> {
    usual.iter().find_map(|usual| {
        let exact = names.iter().find(|&name| name == usual);
        exact.or_else(|| names.iter().find(|name| name.eq_ignore_ascii_case(usual))).copied()
    })
}

/// For messages: `'goal'`, or all the names that would do.
pub(super) fn expected_text(wanted: Option<&str>) -> String {
    match wanted {
        Some(wanted) => format!("'{wanted}'"),
        None => format!("'{}' or '{}'", PROMPT[..5].join("', '"), PROMPT[5]),
    }
}

/// A prompt before its id is settled.
#[derive(Debug)]
pub(super) struct Draft {
    /// For messages: `in line 3`.
    pub place: String,
    pub id: Option<String>,
    pub text: String,
    /// Further text that comes after the prompt.
    pub input: Option<String>,
    pub category: Option<String>,
    pub answer: Option<String>,
}

/// Prompts of `drafts`. The file's ids are kept if they are all different; else prompts are
/// numbered, because transcripts are compared prompt by prompt.
///
/// # Errors
/// A prompt is empty.
pub(super) fn settle(drafts: Vec<Draft>) -> Result<Vec<Prompt>> {
    let ids: std::collections::HashSet<_> = drafts.iter().filter_map(|d| d.id.as_ref()).collect();
    let keep_ids = ids.len() == drafts.len();
    let prompt = |(n, draft): (usize, Draft)| {
        let mut text = bare(draft.text);
        if text.trim().is_empty() {
            return Err(Error::EmptyPrompt { place: draft.place });
        }
        if let Some(input) = draft.input.filter(|input| !input.trim().is_empty()) {
            text = format!("{text}\n\n{input}");
        }
        let id = draft.id.filter(|_| keep_ids).unwrap_or_else(|| n.to_string());
        let answer = draft.answer.filter(|answer| !answer.trim().is_empty());
        Ok(Prompt { id, text, category: draft.category, answer })
    };
    (1..).zip(drafts).map(prompt).collect()
}

/// The text without a wrapper around all of it.
fn bare(text: String) -> String {
    let inside = text.trim().strip_prefix(WRAPPER.0).and_then(|t| t.strip_suffix(WRAPPER.1));
    inside.map_or(text.clone(), |inside| inside.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_telling_name_wins_and_its_own_case_comes_first() {
        let field = |names: &[&'static str]| prompt_field(names, None);
        assert_eq!(field(&["text", "goal", "target"]), Some("goal"));
        assert_eq!(field(&["Index", "Goal", "Target", "Behavior"]), Some("Goal"));
        assert_eq!(field(&["BehaviorID", "behavior", "Behavior"]), Some("Behavior"));
        assert_eq!(field(&["PROMPT"]), Some("PROMPT"));
        assert_eq!(field(&["premise"]), None);
        assert_eq!(prompt_field(&["premise", "prompt"], Some("premise")), Some("premise"));
        assert_eq!(prompt_field(&["prompt"], Some("Prompt")), None);
    }

    #[test]
    fn ids_of_the_file_are_kept_if_they_tell_prompts_apart() {
        let ids = |ids: [Option<&str>; 2]| -> Vec<String> {
            let draft = |id: Option<&str>| Draft {
                place: String::new(),
                id: id.map(str::to_owned),
                text: "?".into(),
                input: None,
                category: None,
                answer: None,
            };
            settle(ids.map(draft).into()).unwrap().into_iter().map(|p| p.id).collect()
        };
        assert_eq!(ids([Some("v2-1"), Some("v2-2")]), ["v2-1", "v2-2"]);
        assert_eq!(ids([Some("7"), Some("7")]), ["1", "2"]);
        assert_eq!(ids([Some("7"), None]), ["1", "2"]);
    }
}
