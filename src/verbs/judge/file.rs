//! A file of answers, judged.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;

use super::super::error::{Error, Result};
use crate::eval::asr::{Answer, Headline, Judged, Verdicts};
use crate::judge::Label;
use crate::prompts::{AnswerFields, GivenAnswer, TextFile, WantedFields};

/// The name that conditions know all answers of a file by.
pub const ALL: &str = "all";
/// The set of answers that name none, in a file in which others do.
const UNNAMED: &str = "unnamed";

/// A file of answers.
pub(super) struct JudgedFile {
    /// As it was given.
    pub name: String,
    pub sha256: String,
    pub fields: AnswerFields,
    /// The places of each set's answers; empty if the file names no sets.
    pub sets: IndexMap<String, Vec<usize>>,
    /// The answers in the file's order, as one set.
    pub judged: Judged,
    path: PathBuf,
    given: Vec<GivenAnswer>,
}

impl JudgedFile {
    /// The answers of `file`, not judged yet.
    pub(super) fn new(path: &Path, file: TextFile, wanted: &WantedFields) -> Result<JudgedFile> {
        let found = file.answers(wanted)?;
        if let Some(given) = found.answers.iter().find(|given| given.set.as_deref() == Some(ALL)) {
            return Err(Error::SetNamedAll { path: path.into(), place: given.place.clone() });
        }
        let mut sets: IndexMap<String, Vec<usize>> = IndexMap::new();
        if found.fields.set.is_some() {
            let unnamed = unnamed(&found.answers);
            for (i, given) in found.answers.iter().enumerate() {
                let name = given.set.as_deref().unwrap_or(&unnamed);
                sets.entry(name.into()).or_default().push(i);
            }
        }
        let answers = (1..).zip(&found.answers).map(|(n, given)| answer(n, given)).collect();
        Ok(JudgedFile {
            name: path.display().to_string(),
            sha256: file.sha256,
            fields: found.fields,
            sets,
            judged: of_one_variant(answers, Vec::new()),
            path: path.into(),
            given: found.answers,
        })
    }

    /// What was asked in the i-th record; None where that is not in the file.
    pub(super) fn request(&self, i: usize) -> Option<&str> {
        self.given[i].request.as_deref()
    }

    /// True if it is known of any answer what was asked.
    pub(super) fn has_requests(&self) -> bool {
        self.given.iter().any(|given| given.request.is_some())
    }

    /// Checks that a judge model has requests to read.
    ///
    /// # Errors
    /// A record has none.
    pub(super) fn check_requests(&self) -> Result<()> {
        match self.given.iter().find(|given| given.request.is_none()) {
            None => Ok(()),
            Some(given) => {
                Err(Error::NoRequest { path: self.path.clone(), place: given.place.clone() })
            }
        }
    }

    /// The answers at `places` with their labels.
    pub(super) fn part(&self, places: &[usize]) -> Judged {
        let answers = places.iter().map(|&i| self.judged.answers[i].clone()).collect();
        let verdicts = self.judged.verdicts.iter().map(|verdicts| Verdicts {
            judge: verdicts.judge.clone(),
            labels: places.iter().map(|&i| verdicts.labels[i]).collect(),
        });
        of_one_variant(answers, verdicts.collect())
    }

    /// Every record as a line of JSON, with its label and the judge; with the file's name, too, if
    /// `with_name`.
    ///
    /// # Errors
    /// None that is known of.
    pub(super) fn labelled(&self, with_name: bool) -> Result<Vec<String>> {
        let Some(verdicts) = self.judged.verdicts.first() else { return Ok(Vec::new()) };
        let name = with_name.then(|| ("file", self.name.as_str().into()));
        let line = |(given, label): (&GivenAnswer, &Option<Label>)| -> Result<String> {
            let label = ("label", label.map(Label::name).into());
            let judge = ("judge", verdicts.judge.as_str().into());
            Ok(given.with(name.clone().into_iter().chain([label, judge]))?)
        };
        self.given.iter().zip(&verdicts.labels).map(line).collect()
    }
}

/// A name for the set of answers that name none, which no set of the file has.
fn unnamed(answers: &[GivenAnswer]) -> String {
    let named: HashSet<&str> = answers.iter().filter_map(|given| given.set.as_deref()).collect();
    let mut name = UNNAMED.to_owned();
    let mut n = 1;
    while named.contains(name.as_str()) {
        n += 1;
        name = format!("{UNNAMED}-{n}");
    }
    name
}

/// The answer of record `n`, as transcripts have it.
fn answer(n: usize, given: &GivenAnswer) -> Answer {
    Answer {
        id: n.to_string(),
        prompt: given.request.clone().unwrap_or_default(),
        set: given.set.clone().unwrap_or_default(),
        sample: 0,
        answer: given.answer.clone(),
        label: None,
        judge: String::new(),
        tokens: 0,
        error: given.error.clone(),
    }
}

fn of_one_variant(answers: Vec<Answer>, verdicts: Vec<Verdicts>) -> Judged {
    Judged { answers, n_variants: 1, headline: Headline::Only, verdicts }
}
