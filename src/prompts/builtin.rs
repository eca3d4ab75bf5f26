//! The prompt sets that come with aird, written for it: 256 harmful requests, 192 harmless
//! instructions of the same forms and lengths, and 192 that only sound dangerous.

use super::part::{Part, parse_parts};
use super::set::PromptSet;

/// Requests that an aligned model declines: 128 to train on, 32 held out, 96 to test with. The
/// last two are graded from blunt to indirect: blunt ones alone do not see every damage.
pub fn harmful(part: Part) -> PromptSet {
    builtin("harmful", include_str!("harmful.txt"), part)
}

/// Instructions that any model follows, 128, 32 and 32, each in the form of the harmful request in
/// its place.
pub fn harmless(part: Part) -> PromptSet {
    builtin("harmless", include_str!("harmless.txt"), part)
}

/// Safe requests that sound dangerous, to count false refusals: 96, 32 and 64.
pub fn borderline(part: Part) -> PromptSet {
    builtin("borderline", include_str!("borderline.txt"), part)
}

/// Text of many kinds, written for aird: 75 passages, from encyclopedia and news to code and
/// letters, some 7,500 words, for what a model computes on text that is not a chat.
pub fn reading() -> &'static str {
    include_str!("reading.txt")
}

fn builtin(name: &str, text: &str, part: Part) -> PromptSet {
    // A mistake in our own files would leave the set empty: the tests below count.
    let prompts = parse_parts(text).unwrap_or_default();
    let of_part = prompts.into_iter().filter(|(p, _)| *p == part);
    let name = format!("builtin:{name}/{}", part.name());
    PromptSet::new(name, of_part.map(|(_, prompt)| prompt).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::prompts::Prompt;

    type Set = fn(Part) -> PromptSet;
    const SETS: [(Set, [usize; 3]); 3] =
        [(harmful, [128, 32, 96]), (harmless, [128, 32, 32]), (borderline, [96, 32, 64])];

    fn all(set: Set) -> Vec<Prompt> {
        Part::ALL.into_iter().flat_map(|part| set(part).prompts).collect()
    }

    #[test]
    fn parts_have_the_sizes_they_promise() {
        for (set, sizes) in SETS {
            assert_eq!(Part::ALL.map(|part| set(part).len()), sizes);
        }
    }

    #[test]
    fn no_prompt_stands_twice_in_any_set() {
        let mut seen = HashSet::new();
        for (set, _) in SETS {
            for prompt in all(set) {
                assert!(seen.insert(prompt.text.to_lowercase()), "{}", prompt.text);
            }
        }
    }

    #[test]
    fn every_prompt_has_a_category_and_every_category_is_in_every_part() {
        for (set, _) in SETS {
            let categories = |part| -> HashSet<String> {
                let of = |p: Prompt| p.category.unwrap_or_else(|| panic!("{}: no category", p.id));
                set(part).prompts.into_iter().map(of).collect()
            };
            let [train, held_out, test] = Part::ALL.map(categories);
            assert_eq!(train, held_out);
            assert_eq!(train, test);
        }
        let harmful: HashSet<_> = all(harmful).into_iter().map(|p| p.category).collect();
        assert!(harmful.len() >= 12, "{} categories of harm", harmful.len());
    }

    #[test]
    fn names_and_ids_say_where_a_prompt_is_from() {
        let set = harmful(Part::HeldOut);
        assert_eq!(set.name, "builtin:harmful/held-out");
        assert_eq!(set.prompts[0].id, "held-out-1");
    }
}
