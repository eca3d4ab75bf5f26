//! Degenerate answers: empty ones, loops, and what is not text.

use std::collections::HashSet;

/// Words that a text needs before its share of distinct ones is meaningful.
const MIN_WORDS: usize = 12;
/// Distinct words of all words, below which a text of up to [`SHORT`] words is a loop.
const MIN_DISTINCT: f64 = 0.25;
/// Longer texts use words again: the number of distinct ones grows about as the square root of all
/// (Heaps 1978). So does the number that is asked for.
const SHORT: f64 = 200.0;
/// Words of the longest phrase whose repetition is looked for.
const MAX_PHRASE: usize = 16;
/// How often a phrase stands in a row before it is a loop.
const MIN_REPEATS: usize = 3;
/// Share of an answer's words that repeat a phrase at once, from which on it is a loop.
const MAX_REPEATED: f64 = 0.4;
/// The same for units of a few characters, spaces left out.
const MAX_REPEATED_CHARS: f64 = 0.4;
/// Characters of the longest such unit.
const MAX_UNIT: usize = 12;
/// Characters, spaces left out, below which no unit is looked for: "hahaha" is an answer.
const MIN_CHARS: usize = 16;
/// Letters and digits of all characters but spaces, below which it is not text.
const MIN_ALPHANUMERIC: f64 = 0.25;
/// Latin words without a vowel, of those with three letters or more, above which it is not text.
const MAX_VOWELLESS: f64 = 0.5;

/// What broken models repeat: the system prompt, the template.
const ECHOES: &[&str] = &["you are a helpful", "you are an ai assistant", "<|im_start|>"];

/// True if there is nothing: no letter or digit, or only the mark of a list's first item.
pub(super) fn is_empty(answer: &str) -> bool {
    let text = answer.trim();
    let digits = text.trim_end_matches(['.', ')', ':']);
    let lone_mark = digits.len() < text.len() && digits.chars().all(|c| c.is_ascii_digit());
    lone_mark || !text.chars().any(char::is_alphanumeric)
}

/// True for what no reader would call an answer, by measures with the thresholds above, or because
/// it begins by repeating the model's instructions.
pub fn is_babble(answer: &str) -> bool {
    let begins = answer.trim_start().to_lowercase();
    let echoes = ECHOES.iter().any(|echo| begins.starts_with(echo));
    echoes || is_empty(answer) || is_no_text(answer) || is_loop(answer)
}

/// True if `text` says the same again and again.
pub(super) fn is_loop(text: &str) -> bool {
    let words = words_of(text);
    has_few_words(&words) || repeated(&words, MAX_PHRASE) > MAX_REPEATED || repeats_characters(text)
}

/// Lower case, digits alike: "Step 1", "Step 2" count as a loop's turns.
fn words_of(answer: &str) -> Vec<String> {
    let plain = |word: &str| -> String {
        let lower = word.to_lowercase();
        lower.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect()
    };
    answer.split_whitespace().map(plain).collect()
}

fn has_few_words(words: &[String]) -> bool {
    let distinct: HashSet<&String> = words.iter().collect();
    let n = words.len() as f64;
    let needed = MIN_DISTINCT * (n.min(SHORT) * n).sqrt();
    words.len() >= MIN_WORDS && (distinct.len() as f64) < needed
}

/// The share of `items` that lies in runs of a unit of up to `longest` items, repeated at least
/// [`MIN_REPEATS`] times at once; the first turn counts, too.
fn repeated<T: PartialEq>(items: &[T], longest: usize) -> f64 {
    let mut covered = 0;
    let mut start = 0;
    while start < items.len() {
        let run = (1..=longest.min(items.len())).map(|n| run_from(&items[start..], n)).max();
        let run = run.unwrap_or(0);
        covered += run;
        start += run.max(1);
    }
    covered as f64 / items.len().max(1) as f64
}

/// Items from the first on that repeat a unit of `n`; 0 if too seldom.
fn run_from<T: PartialEq>(items: &[T], n: usize) -> usize {
    let same = items.iter().zip(items.iter().skip(n)).take_while(|(a, b)| a == b).count();
    let run = n + same;
    // A single word must come more often: "merrily, merrily, merrily".
    let needed = if n == 1 { MIN_REPEATS + 2 } else { MIN_REPEATS };
    if run >= n * needed && n + same <= items.len() { run } else { 0 }
}

fn repeats_characters(answer: &str) -> bool {
    let chars: Vec<char> = answer.chars().filter(|c| !c.is_whitespace()).collect();
    chars.len() >= MIN_CHARS && repeated(&chars, MAX_UNIT) > MAX_REPEATED_CHARS
}

fn is_no_text(answer: &str) -> bool {
    let all = answer.chars().filter(|c| !c.is_whitespace()).count();
    let alphanumeric = answer.chars().filter(|c| c.is_alphanumeric()).count();
    if all >= MIN_CHARS && (alphanumeric as f64) < MIN_ALPHANUMERIC * all as f64 {
        return true;
    }
    let latin = |w: &&str| w.len() >= 3 && w.chars().all(|c| c.is_ascii_alphabetic());
    let words: Vec<&str> = answer.split_whitespace().filter(latin).collect();
    let vowel = |c: char| "aeiouyAEIOUY".contains(c);
    let without = words.iter().filter(|word| !word.contains(vowel)).count();
    words.len() >= MIN_WORDS / 2 && without as f64 > MAX_VOWELLESS * words.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_told_from_little() {
        for nothing in ["", " \n", "...", "1.", "###"] {
            assert!(is_empty(nothing), "{nothing:?}");
        }
        for little in ["42", "B", "No.", "1. a"] {
            assert!(!is_empty(little), "{little:?}");
        }
    }

    #[test]
    fn loops_are_found_where_they_begin_late_and_count_up() {
        let late = format!("Once there was a king. {}", "He had a horse. ".repeat(8));
        assert!(is_babble(&late));
        let counting: Vec<String> = (1450..1460).map(|y| format!("It was {y}.")).collect();
        assert!(is_babble(&counting.join(" ")));
        assert!(is_babble(&"ha".repeat(30)));
        assert!(is_babble("You are a helpful AI assistant named SmolLM."));
        assert!(!is_babble("Row, row, row your boat gently down the stream"));
        assert!(!is_babble("Very, very good: take two eggs, three spoons of flour, and milk."));
    }

    #[test]
    fn a_long_text_may_use_its_words_again_and_a_long_loop_may_not() {
        let word = |i: usize| format!("w{}", char::from(b'a' + (i % 26) as u8)).repeat(1 + i / 26);
        let mixed = |n_distinct: usize| -> String {
            let order = (0..2000).map(|i: usize| word((i * i + i / 7) % n_distinct));
            order.collect::<Vec<_>>().join(" ")
        };
        let n = |text: &str| text.split(' ').collect::<HashSet<_>>().len();
        // 300 and 60 distinct words of 2000.
        let (rich, poor) = (mixed(300), mixed(60));
        assert!((159..500).contains(&n(&rich)) && n(&poor) < 159);
        let few = |text: &str| has_few_words(&words_of(text));
        assert!(!few(&rich) && few(&poor));
        // A paragraph that comes again and again, too long to be a phrase.
        let paragraph: Vec<String> = (0..40).map(word).collect();
        assert!(is_loop(&(paragraph.join(" ") + " ").repeat(20)));
    }

    #[test]
    fn a_run_is_measured_in_its_items() {
        assert_eq!(run_from(&[1, 2, 1, 2, 1, 2, 3], 2), 6);
        assert_eq!(run_from(&[1, 2, 1, 2, 3], 2), 0);
        assert_eq!(run_from(&[1, 1, 1, 1, 1], 1), 5);
    }
}
