//! `aird judge`: its arguments, and its report in print.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use super::agreement::agreement_text;
use super::args::{EngineArgs, output_path};
use super::exit::GateFailed;
use super::judges::JudgeArgs;
use super::paths::{Paths, Verb};
use super::text::{failed_text, rate_text, table};
use super::ui::Ui;
use crate::eval::asr::Gate;
use crate::prompts::WantedFields;
use crate::verbs::judge::{ALL, FileGate, FileOutcome, LabelCounts, Report, Request, run};

/// Label answers that any tool wrote: refusal, compliance, degenerate
#[derive(Debug, Args)]
pub(super) struct Judge {
    /// Files of answers: .jsonl, .json, .csv, .tsv. Transcripts of aird asr, completions of other
    /// tools, chats, replies of OpenAI's API, samples of lm-evaluation-harness.
    #[arg(required = true)]
    answers: Vec<PathBuf>,
    /// The field that holds the request; default: the first one with a usual name. A dot leads into
    /// an object: doc.question.
    #[arg(long, value_name = "NAME")]
    prompt_field: Option<String>,
    /// The field that holds the answer; default: the first one with a usual name. In lists the
    /// first text counts, in chats what the assistant says last.
    #[arg(long, value_name = "NAME")]
    answer_field: Option<String>,
    /// The field that names the answer's set, for figures by set; default: set, attack or category.
    #[arg(long, value_name = "NAME")]
    set_field: Option<String>,
    #[command(flatten)]
    judge: JudgeArgs,
    /// Answers that a judge model reads at once.
    #[arg(long, default_value_t = 32, value_name = "N")]
    parallel: u32,
    /// Write every record as a line of JSON, with its label and the judge; of several files with
    /// the file's name. Fields that are named so already are kept as label_given, judge_given,
    /// file_given.
    #[arg(short, long, value_name = "FILE", value_parser = output_path())]
    output: Option<PathBuf>,
    /// Write the answers as a page to read, those that are no refusals hidden until clicked.
    #[arg(long, value_name = "FILE", value_parser = output_path())]
    html: Option<PathBuf>,
    /// Replace the files that are written if they exist.
    #[arg(long)]
    force: bool,
    /// Exit with 3 if this holds for any file, e.g. refusal<0.9 or SET.degenerate>0.1; may be given
    /// several times. What has no answer, or no verdict, counts as what is worse.
    #[arg(long, value_name = "EXPR", value_parser = gate)]
    fail_if: Vec<Gate>,
    #[command(flatten)]
    engine: EngineArgs,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// A condition, on all answers unless it names a set.
fn gate(text: &str) -> Result<Gate, String> {
    Gate::parse(text, Some(ALL))
}

impl Verb for Judge {
    fn paths(&self) -> Paths {
        let paths = self.judge.read_from(Paths::default()).reads(&self.answers);
        paths.writes(self.output.iter().chain(&self.html)).with(self.force, false)
    }

    fn run(self, ui: &Ui) -> Result<()> {
        if self.parallel == 0 {
            bail!("--parallel is at least 1");
        }
        let request = Request {
            judge: self.judge.choice()?,
            files: self.answers,
            fields: WantedFields {
                prompt: self.prompt_field,
                answer: self.answer_field,
                set: self.set_field,
            },
            parallel: self.parallel,
            gates: self.fail_if,
            labelled: self.output,
            page: self.html,
            engine: self.engine.options(),
        };
        let report = run(&request, ui)?;
        ui.report(self.json, &report, || report.text(ui.is_verbose()))?;
        match report.failed_gate() {
            Some(gate) => Err(GateFailed::new(gate_text(gate)).into()),
            None => Ok(()),
        }
    }
}

/// What failed, in a sentence.
fn gate_text(gate: &FileGate) -> String {
    failed_text(&gate.condition, &gate.file, [gate.value, gate.worst])
}

impl Report {
    /// Each file with a table, a row a set, and how far the judges agree.
    fn text(&self, verbose: bool) -> String {
        let mut text = String::new();
        for (i, file) in self.files.iter().enumerate() {
            text += if i > 0 { "\n" } else { "" };
            text += &format!("{}: {}\n", file.file, fields_text(file));
            text += &table(&self.rows(file), &[1], "  ");
            text += &agreement_text(&file.file, &file.agreement, "answers", verbose);
        }
        for gate in self.gates.iter().filter(|gate| gate.failed) {
            text += &format!("{}\n", gate_text(gate));
        }
        text
    }

    /// Sets, and all answers unless they are one set.
    fn rows(&self, file: &FileOutcome) -> Vec<Vec<String>> {
        let refusal = if self.judge_detects_refusal { "refusal" } else { "safe" };
        let has = |n: fn(&LabelCounts) -> usize| n(&file.all) > 0;
        let (has_errors, has_undecided) = (has(|c| c.errors), has(|c| c.undecided));
        let judge = format!("judge: {}", self.judge);
        let mut head =
            [judge.as_str(), "n", refusal, "compliance", "degenerate"].map(String::from).to_vec();
        head.extend(has_errors.then(|| "not answered".into()));
        head.extend(has_undecided.then(|| "no verdict".into()));
        let row = |name: &str, counts: &LabelCounts| {
            let n = counts.refusal.n.to_string();
            let rates = [&counts.refusal, &counts.compliance, &counts.degenerate].map(rate_text);
            let mut row = vec![name.to_owned(), n];
            row.extend(rates);
            row.extend(has_errors.then(|| counts.errors.to_string()));
            row.extend(has_undecided.then(|| counts.undecided.to_string()));
            row
        };
        let mut rows = vec![head];
        rows.extend(file.sets.iter().map(|(name, counts)| row(name, counts)));
        if file.sets.len() != 1 {
            rows.push(row(ALL, &file.all));
        }
        rows
    }
}

/// `answers in 'response', requests in 'prompt', sets in 'category'`.
fn fields_text(file: &FileOutcome) -> String {
    let fields = &file.fields;
    let prompt =
        fields.prompt.as_ref().map_or("no requests".into(), |p| format!("requests in '{p}'"));
    let set = fields.set.as_ref().map_or_else(String::new, |set| format!(", sets in '{set}'"));
    format!("answers in '{}', {prompt}{set}", fields.answer)
}
