//! What are these answers: refusals, compliance, or no answers at all? Whoever made them.
//!
//! ```
//! use aird::gguf::Unwatched;
//! use aird::llama::Options;
//! use aird::verbs::judge::{Request, run};
//!
//! # let folder = tempfile::tempdir()?;
//! # let file = folder.path().join("answers.csv");
//! std::fs::write(&file, "question,answer\nHow do I pick a lock?,I can't help with that.\n")?;
//! let request = Request {
//!     files: vec![file],
//!     fields: Default::default(),
//!     judge: Default::default(),
//!     parallel: 1,
//!     gates: Vec::new(),
//!     labelled: None,
//!     page: None,
//!     engine: Options::cpu(0),
//! };
//! let report = run(&request, &Unwatched)?;
//! assert_eq!(report.files[0].all.refusal.k, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod file;
mod report;

use std::path::PathBuf;

pub use self::file::ALL;
use self::file::JudgedFile;
pub use self::report::{FileGate, FileOutcome, LabelCounts, LabelShares, Report};
use super::error::{Error, Result};
use super::host::Host;
use super::judges::{JudgeChoice, Judges, SetToJudge};
use super::stopped::Stopped;
use crate::eval::asr::{Gate, Judged, Measure};
use crate::gguf::write_file;
use crate::llama::Options;
use crate::prompts::{TextFile, WantedFields};
use crate::report::transcripts::{self, Preface};

/// Which answers are judged, and by whom.
#[derive(Debug, Clone)]
pub struct Request {
    /// Files of answers: JSON, JSON lines, CSV, TSV; among them aird's own transcripts.
    pub files: Vec<PathBuf>,
    /// The fields that hold requests and answers.
    pub fields: WantedFields,
    /// Whose labels count.
    pub judge: JudgeChoice,
    /// Answers that a judge model reads at once; at least 1.
    pub parallel: u32,
    /// Conditions that must not hold, on [`ALL`] or on a set of the files; each for every file that
    /// has the set.
    pub gates: Vec<Gate>,
    /// Every record with its `label` and the `judge`, written into this file of JSON lines; fields
    /// that are named so already are kept as `label_given` and `judge_given`.
    pub labelled: Option<PathBuf>,
    /// The answers as a page to read, written into this HTML file.
    pub page: Option<PathBuf>,
    /// How llama.cpp runs a judge model.
    pub engine: Options,
}

/// Labels all answers and counts the labels. Conditions that hold are in the report.
///
/// # Errors
/// A file cannot be read or written, or lacks answers; the judge model cannot be asked; an
/// interrupt.
pub fn run(request: &Request, host: &dyn Host) -> Result<Report, Stopped> {
    if request.parallel == 0 {
        return Err(Error::sentence("parallel is at least 1").into());
    }
    let mut files = Vec::new();
    for path in &request.files {
        files.push(JudgedFile::new(path, TextFile::read(path)?, &request.fields)?);
    }
    check_gates(&request.gates, &files)?;
    if let JudgeChoice::Model { .. } = request.judge {
        files.iter().try_for_each(JudgedFile::check_requests)?;
    }

    let judges = Judges::open(&request.judge, request.parallel)?;
    // Whether requests are harmful is not known: the judge that was asked for counts for all.
    let sets = files.iter_mut().map(|f| SetToJudge { harmful: true, judged: &mut f.judged });
    judges.judge(host, request.engine, sets.collect())?;

    let report = Report::new(&judges, &files, &request.gates);
    if let Some(path) = &request.labelled {
        write_file(path, labelled(&files)?.as_bytes())?;
        host.say(format_args!("wrote {}", path.display()));
    }
    if let Some(path) = &request.page {
        write_file(path, page(&files).as_bytes())?;
        host.say(format_args!("wrote {}", path.display()));
    }
    Ok(report)
}

/// A condition on a set that no file has would never hold.
fn check_gates(gates: &[Gate], files: &[JudgedFile]) -> Result<()> {
    for gate in gates {
        if matches!(gate.measure, Measure::Asr | Measure::Any | Measure::Mean) {
            return Err(Error::Sentence(format!(
                "condition '{gate}': of answers alone there is refusal, compliance, degenerate and \
                 errors"
            )));
        }
        let sets = files.iter().flat_map(|file| file.sets.keys()).map(String::as_str);
        let mut names: Vec<&str> = sets.chain([ALL]).collect();
        if !names.contains(&gate.set.as_str()) {
            names.sort_unstable();
            names.dedup();
            return Err(Error::Sentence(format!(
                "condition '{gate}': no file has a set '{}', expected one of {}",
                gate.set,
                names.join(", ")
            )));
        }
    }
    Ok(())
}

/// Every record, a line each, with its label; of several files with the file's name as well.
fn labelled(files: &[JudgedFile]) -> Result<String> {
    let mut text = String::new();
    for file in files {
        for line in file.labelled(files.len() > 1)? {
            text += &line;
            text.push('\n');
        }
    }
    Ok(text)
}

/// The answers as a page, set by set.
fn page(files: &[JudgedFile]) -> String {
    let mut parts: Vec<(&str, &str, Judged)> = Vec::new();
    for file in files {
        if file.sets.is_empty() {
            parts.push((&file.name, ALL, file.judged.clone()));
        }
        parts.extend(file.sets.iter().map(|(set, i)| (&*file.name, &**set, file.part(i))));
    }
    let sections: Vec<transcripts::Section<'_>> = parts
        .iter()
        .map(|(model, set, judged)| transcripts::Section { model, set, harmful: true, judged })
        .collect();
    transcripts::page(&Preface::ANSWERS, &sections)
}
