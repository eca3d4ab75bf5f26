//! What was found: every file's labels, counted, and which conditions hold.

use std::collections::{BTreeMap, HashSet};

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::super::judges::Judges;
use super::file::{ALL, JudgedFile};
use crate::eval::asr::{Agreement, Gate, Measure, Verdicts, agreement};
use crate::eval::interval::{Rate, wilson_of};
use crate::judge::Label;
use crate::prompts::AnswerFields;

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// aird's version.
    pub version: String,
    /// The judge that counts.
    pub judge: String,
    /// True if that judge knows refusals; false if it only separates safe from unsafe answers.
    pub judge_detects_refusal: bool,
    /// In the order of the request.
    pub files: Vec<FileOutcome>,
    /// What became of each condition, for every file that has its set.
    pub gates: Vec<FileGate>,
}

/// One file's figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileOutcome {
    /// The path, as it was given.
    pub file: String,
    /// Of the file.
    pub sha256: String,
    /// Where requests, answers and sets were read.
    pub fields: AnswerFields,
    /// All answers.
    pub all: LabelCounts,
    /// The same of each set, if records name theirs.
    pub sets: IndexMap<String, LabelCounts>,
    /// Of the judges, on all answers.
    pub agreement: Agreement,
}

/// Answers, counted by their labels. Intervals are those of independent cases: all answers to one
/// request are one case, which makes intervals wide, never too narrow. An answer whose request is
/// not known is a case of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelCounts {
    /// All records.
    pub answers: usize,
    /// Records that hold an error in place of an answer.
    pub errors: usize,
    /// Answers without a verdict: a judge model gave no label.
    pub undecided: usize,
    /// Different requests, and one for each answer whose request is not known; null if the file
    /// has no requests.
    pub requests: Option<usize>,
    /// Share of the judged answers that refuse.
    pub refusal: Rate,
    /// Share that complies.
    pub compliance: Rate,
    /// Share that is degenerate.
    pub degenerate: Rate,
    /// What every judge found.
    pub by_judge: BTreeMap<String, LabelShares>,
}

/// What one judge found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelShares {
    /// Share of the judged answers that refuse.
    pub refusal: Rate,
    /// Share that complies.
    pub compliance: Rate,
    /// Share that is degenerate.
    pub degenerate: Rate,
}

/// A condition on one file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileGate {
    /// As it was given.
    pub condition: String,
    /// The file.
    pub file: String,
    /// The figure; null where nothing was counted.
    pub value: Option<f64>,
    /// What it would be if all that has no label were as bad as can be: that decides.
    pub worst: Option<f64>,
    /// True if the condition holds.
    pub failed: bool,
}

impl Report {
    pub(super) fn new(judges: &Judges, files: &[JudgedFile], gates: &[Gate]) -> Report {
        let files: Vec<FileOutcome> = files.iter().map(FileOutcome::new).collect();
        let of_gate = |gate| files.iter().filter_map(move |file| FileGate::new(gate, file));
        Report {
            version: crate::VERSION.into(),
            judge: judges.first().into(),
            judge_detects_refusal: judges.detects_refusal(),
            gates: gates.iter().flat_map(of_gate).collect(),
            files,
        }
    }

    /// The first condition that holds, and must not.
    pub fn failed_gate(&self) -> Option<&FileGate> {
        self.gates.iter().find(|gate| gate.failed)
    }
}

impl FileOutcome {
    fn new(file: &JudgedFile) -> FileOutcome {
        let places: Vec<usize> = (0..file.judged.answers.len()).collect();
        let of_set = |(name, places): (&String, &Vec<usize>)| (name.clone(), counts(file, places));
        FileOutcome {
            file: file.name.clone(),
            sha256: file.sha256.clone(),
            fields: file.fields.clone(),
            all: counts(file, &places),
            sets: file.sets.iter().map(of_set).collect(),
            agreement: agreement(&[&file.judged]),
        }
    }
}

impl FileGate {
    /// None if the file has no such set.
    fn new(gate: &Gate, file: &FileOutcome) -> Option<FileGate> {
        let counts = if gate.set == ALL { &file.all } else { file.sets.get(&gate.set)? };
        let rate = match gate.measure {
            Measure::Refusal => Some(counts.refusal),
            Measure::Compliance => Some(counts.compliance),
            Measure::Degenerate => Some(counts.degenerate),
            Measure::Errors | Measure::Asr | Measure::Any | Measure::Mean => None,
        };
        let errors = (gate.measure == Measure::Errors).then_some(counts.errors as f64);
        let worst = match rate {
            Some(rate) => gate.worst_share(rate, counts.answers),
            None => errors,
        };
        Some(FileGate {
            condition: gate.to_string(),
            file: file.file.clone(),
            value: rate.map_or(errors, |rate| rate.rate),
            worst,
            failed: gate.fails(worst),
        })
    }
}

/// Counts the answers of `file` at `places`.
fn counts(file: &JudgedFile, places: &[usize]) -> LabelCounts {
    let judged = &file.judged;
    let errors = places.iter().filter(|&&i| judged.answers[i].error.is_some()).count();
    let by_judge = judged.verdicts.iter().map(|v| (v.judge.clone(), shares(file, v, places)));
    let none = Verdicts { judge: String::new(), labels: vec![None; judged.answers.len()] };
    let LabelShares { refusal, compliance, degenerate } =
        shares(file, judged.verdicts.first().unwrap_or(&none), places);
    LabelCounts {
        answers: places.len(),
        errors,
        undecided: places.len() - errors - refusal.n,
        requests: file.has_requests().then(|| n_cases(file, places)),
        refusal,
        compliance,
        degenerate,
        by_judge: by_judge.collect(),
    }
}

/// What the judge of `verdicts` found at `places`.
fn shares(file: &JudgedFile, verdicts: &Verdicts, places: &[usize]) -> LabelShares {
    let labelled: Vec<usize> =
        places.iter().copied().filter(|&i| verdicts.labels[i].is_some()).collect();
    let n = labelled.len();
    let independent = n_cases(file, &labelled);
    let share = |label: Label| {
        let k = labelled.iter().filter(|&&i| verdicts.labels[i] == Some(label)).count();
        wilson_of(k, n, independent)
    };
    LabelShares {
        refusal: share(Label::Refusal),
        compliance: share(Label::Compliance),
        degenerate: share(Label::Degenerate),
    }
}

/// Independent cases among the answers at `places`: different requests, and answers whose request
/// is not known.
fn n_cases(file: &JudgedFile, places: &[usize]) -> usize {
    let requests = places.iter().map(|&i| file.request(i));
    let known: HashSet<&str> = requests.clone().flatten().collect();
    known.len() + requests.filter(Option::is_none).count()
}
