//! `aird audit`: its arguments, and what it suggests.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;

use super::args::{EngineArgs, output_path};
use super::chat::ChatArgs;
use super::exit::GateFailed;
use super::paths::{Paths, Verb};
use super::text::failed_text;
use super::ui::Ui;
use crate::verbs::audit::{
    Condition, ConditionReport, KeptAnswers, MAX_TOKENS, PARALLEL, Report, Request, run,
};

/// Find out whether compression broke a model's safety: one verdict, with its figures
#[derive(Debug, Args)]
pub(super) struct Audit {
    /// The compressed model: a GGUF file; any shard of a split one.
    model: PathBuf,
    /// The model that it was made from, of any type. Without it aird reports only what one file
    /// shows by itself.
    #[arg(long, value_name = "ORIGINAL")]
    reference: Option<PathBuf>,
    /// Harmful prompts; default: the test part of aird's own.
    #[arg(long, value_name = "FILE")]
    harmful: Option<PathBuf>,
    /// Harmless prompts; default: the test parts of aird's own, harmless and borderline.
    #[arg(long, value_name = "FILE")]
    harmless: Option<PathBuf>,
    /// The field or column of those files that holds the prompt.
    #[arg(long, value_name = "NAME")]
    field: Option<String>,
    /// Only the first prompts, of every set.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Tokens of an answer, at most.
    #[arg(long, default_value_t = MAX_TOKENS, value_name = "N")]
    max_tokens: usize,
    /// Prompts and answers under way at once.
    #[arg(long, default_value_t = PARALLEL, value_name = "N")]
    parallel: u32,
    /// Where answers are kept, to be found again by the next audit: a folder, or "none". Default:
    /// .aird-answers beside each model.
    #[arg(long, value_name = "FOLDER|none")]
    answers: Option<String>,
    /// Exit with 3 if the verdict is this one or worse (weakened, lost, broken), or cannot be
    /// reached; or if a figure of the model's answers is so: harmful.refusal<0.8,
    /// borderline.refusal>0.3. May be given several times.
    #[arg(long, value_name = "VERDICT|EXPR")]
    fail_if: Vec<Condition>,
    /// Write the figures and the answers as a page to read, harmful answers hidden until clicked.
    #[arg(long, value_name = "FILE", value_parser = output_path())]
    html: Option<PathBuf>,
    /// Replace the page if it exists.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    chat: ChatArgs,
    #[command(flatten)]
    engine: EngineArgs,
    /// Print the report as JSON, a receipt with the sha256 of both files.
    #[arg(long)]
    json: bool,
}

impl Verb for Audit {
    fn paths(&self) -> Paths {
        let given = [&self.reference, &self.harmful, &self.harmless].into_iter().flatten();
        let paths = self.chat.read_from(Paths::default());
        paths
            .reads(std::iter::once(&self.model).chain(given))
            .writes(&self.html)
            .with(self.force, false)
    }

    fn models(&mut self) -> Result<Vec<&mut PathBuf>> {
        Ok(std::iter::once(&mut self.model).chain(&mut self.reference).collect())
    }

    fn run(self, ui: &Ui) -> Result<()> {
        if self.limit == Some(0) || self.max_tokens == 0 || self.parallel == 0 {
            bail!("--limit, --max-tokens and --parallel are at least 1");
        }
        let request = Request {
            kept: match self.answers.as_deref() {
                None => KeptAnswers::Beside,
                Some("none") => KeptAnswers::Nowhere,
                Some(folder) => KeptAnswers::In(folder.into()),
            },
            model: self.model,
            original: self.reference,
            harmful: self.harmful,
            harmless: self.harmless,
            field: self.field,
            limit: self.limit,
            max_tokens: self.max_tokens,
            parallel: self.parallel,
            conditions: self.fail_if,
            page: self.html,
            chat: self.chat.setup(),
            engine: self.engine.options(),
        };
        let report = run(&request, ui)?;
        ui.report(self.json, &report, || report.text() + &suggestion(&request, &report))?;
        match report.failed_condition() {
            Some(condition) => Err(GateFailed::new(failure(condition, &report)).into()),
            None => Ok(()),
        }
    }
}

/// The command that repairs what was found.
fn suggestion(request: &Request, report: &Report) -> String {
    let related = report.files.as_ref().is_some_and(|files| files.related);
    let (true, true, Some(original)) =
        (report.judgement.verdict.is_harm(), related, &request.original)
    else {
        return String::new();
    };
    let quoted = |path: &Path| {
        let text = path.display().to_string();
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@,".contains(c);
        match text.chars().all(plain) {
            true => text,
            false => format!("'{}'", text.replace('\'', r"'\''")),
        }
    };
    format!(
        "\nrepair it: aird repair {} --reference {}\n",
        quoted(&request.model),
        quoted(original)
    )
}

/// What failed, in a sentence.
fn failure(condition: &ConditionReport, report: &Report) -> String {
    let ConditionReport { condition, value, .. } = condition;
    match condition.parse() {
        Ok(Condition::Figure(_)) => failed_text(condition, &report.model.file, [*value, *value]),
        _ => {
            let verdict = report.judgement.verdict.text();
            format!("--fail-if '{condition}' holds for {}: {verdict}", report.model.file)
        }
    }
}
