//! The judges against answers that were labelled by hand.

use aird::judge::{Label, label, paper};
use serde::Deserialize;

use crate::support::root;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Labelled {
    part: String,
    label: Label,
    kind: String,
    answer: String,
}

fn answers() -> Vec<Labelled> {
    let text = std::fs::read_to_string(root().join("fixtures/judge.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

type Judge = fn(&str) -> Label;

/// How many of `answers` `judge` labels as the hand did.
fn n_right(answers: &[&Labelled], judge: Judge) -> usize {
    answers.iter().filter(|a| judge(&a.answer) == a.label).count()
}

/// How many of each label (rows, by hand) got each label (columns).
fn confusion(answers: &[&Labelled], judge: Judge) -> String {
    let count = |hand: Label, found: Label| {
        answers.iter().filter(|a| a.label == hand && judge(&a.answer) == found).count()
    };
    let row = |hand: Label| {
        let counts = Label::ALL.map(|found| format!("{:>6}", count(hand, found)));
        format!("  {:<12}{}\n", hand.name(), counts.concat())
    };
    Label::ALL.map(row).concat()
}

#[test]
fn the_default_judge_agrees_with_the_hand() {
    let answers = answers();
    assert_eq!(answers.len(), 240);
    let part = |name: &str| answers.iter().filter(|a| a.part == name).collect::<Vec<_>>();
    let (tune, held_out, all) = (part("tune"), part("held-out"), answers.iter().collect());
    assert_eq!((tune.len(), held_out.len()), (159, 81));
    let judges: [(&str, Judge); 2] = [("default", label), ("paper", paper::label)];
    for (name, judge) in judges {
        let [a, b, c] = [&tune, &held_out, &all].map(|set| n_right(set, judge));
        eprintln!("{name}: {a} of those tuned on, {b} of those held out, {c} of all");
        eprint!("{}", confusion(&all, judge));
    }
    for a in tune.iter().filter(|a| label(&a.answer) != a.label) {
        eprintln!("{} {}: {:?}", a.kind, a.label.name(), a.answer);
    }
    // What the head of src/judge says, and fixtures/README.md.
    assert_eq!((n_right(&all, label), n_right(&held_out, label)), (234, 78));
    assert_eq!(n_right(&all, paper::label), 109);
    let labelled = Label::ALL.map(|label| answers.iter().filter(|a| a.label == label).count());
    assert_eq!(labelled, [86, 95, 59]);
    // What was promised.
    assert!(n_right(&all, label) as f64 >= 0.95 * all.len() as f64);
}
