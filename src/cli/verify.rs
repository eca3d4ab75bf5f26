//! `aird verify`: is this file sound?

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;

use super::args::{EngineArgs, file_name};
use super::paths::Verb;
use super::text::{bytes_text, counted, shown};
use super::ui::{Progress, Ui};
use crate::gguf::{Model, Watch, sha256};
use crate::llama::{self, FirstToken, Options, Prober, Trial};
use crate::quant::find_non_finite;

/// Bad tensors that are named; more are counted.
const NAMED: usize = 10;

/// Check a model: structure, finite numbers, loads in llama.cpp, one token comes out
#[derive(Debug, Args)]
pub struct Verify {
    /// A GGUF file; any shard of a split one.
    model: PathBuf,
    /// Leave llama.cpp out.
    #[arg(long)]
    quick: bool,
    /// Print the sha256 of each file.
    #[arg(long)]
    sha256: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

/// What `aird verify --json` prints.
#[derive(Debug, Serialize)]
pub struct Report {
    /// True if nothing was found wrong.
    pub ok: bool,
    /// The model's files.
    pub files: Vec<FileReport>,
    /// Number of tensors.
    pub tensors: usize,
    /// The first bad element of each tensor that holds a NaN or an infinity.
    pub non_finite: Vec<NonFinite>,
    /// What llama.cpp made of it; null if it was left out.
    pub llama: Option<LlamaReport>,
    /// Why llama.cpp did not run the model, if it is not the model's fault.
    pub llama_skipped: Option<String>,
    /// What this machine lacks to run the model: the file may be sound or not.
    #[serde(skip)]
    pub lacking: Option<String>,
}

/// How a check runs the model.
#[derive(Debug, Clone, Copy)]
pub struct Through<'a> {
    /// The process that it is tried in.
    pub prober: &'a Prober,
    /// How llama.cpp runs there.
    pub options: Options,
}

/// One file of the model.
#[derive(Debug, Serialize)]
pub struct FileReport {
    /// As it was given.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// With `--sha256`.
    pub sha256: Option<String>,
}

/// A place that holds no number.
#[derive(Debug, Serialize)]
pub struct NonFinite {
    /// Name of the tensor.
    pub tensor: String,
    /// Row of the first bad element, from 0.
    pub row: u64,
    /// Its column.
    pub column: u64,
}

/// One token, decoded.
#[derive(Debug, Serialize)]
pub struct LlamaReport {
    /// The most likely token after a short prompt, and its text.
    pub token: i32,
    /// Its text.
    pub text: String,
    /// Logits that are NaN or infinite.
    pub non_finite_logits: usize,
    /// Highest minus lowest logit.
    pub logit_spread: f32,
    /// What is wrong with the logits, if anything.
    #[serde(skip)]
    pub logits: Option<&'static str>,
    /// Why llama.cpp refused the file, if it did.
    pub error: Option<String>,
}

impl Verb for Verify {
    fn run(self, ui: &Ui) -> Result<()> {
        let model = Model::open(&self.model)?;
        // What a wrong template spoils is left to the verbs that chat, but it is not sound.
        model.text("tokenizer.chat_template")?;
        let (prober, options) = (ui.prober(), self.engine.options());
        let through = (!self.quick).then_some(Through { prober: &prober, options });
        let report = check(&ui.progress(), &model, through, self.sha256)?;
        if self.json {
            ui.print_json(&report)?;
        } else {
            ui.print(report.text())?;
        }
        let name = file_name(&self.model);
        match (&report.lacking, report.complaint()) {
            (None, complaint) if complaint.is_empty() => Ok(()),
            (Some(said), complaint) if complaint.is_empty() => {
                bail!("{name} could not be run here, the rest of it is sound: {said}")
            }
            (_, complaint) => bail!("{name} is not sound: {complaint}"),
        }
    }
}

/// Checks everything in `model`; with `through`, by llama.cpp too.
pub fn check(
    progress: &Progress<'_>,
    model: &Model,
    through: Option<Through<'_>>,
    with_sha256: bool,
) -> Result<Report> {
    let mut files = Vec::new();
    progress.stage("sha256", if with_sha256 { model.file_bytes() } else { 0 });
    for shard in model.shards() {
        let sha256 = with_sha256.then(|| sha256(shard, progress)).transpose()?;
        let path = shard.path.display().to_string();
        files.push(FileReport { path, bytes: shard.file_bytes(), sha256 });
    }
    let non_finite = non_finite(model, progress)?;
    progress.stage("loading", 0);
    let (mut llama, mut lacking) = (None, None);
    let llama_skipped = match (through, model.text("general.type")?.unwrap_or("model")) {
        (None, _) => Some("--quick".to_owned()),
        (Some(through), "model") => {
            match through.first_token(&model.shards()[0].path, None)? {
                Tried::Ran(report) => llama = Some(report),
                Tried::Lacking(said) => lacking = Some(said),
            }
            lacking.clone()
        }
        (_, other) => Some(format!("a file of type '{other}' is not run by itself")),
    };
    let sound = non_finite.is_empty() && llama.as_ref().is_none_or(|l| l.complaint().is_none());
    let (ok, tensors) = (sound && lacking.is_none(), model.n_tensors());
    Ok(Report { ok, files, tensors, non_finite, llama, llama_skipped, lacking })
}

fn non_finite(model: &Model, watch: &dyn Watch) -> Result<Vec<NonFinite>> {
    watch.stage("reading", model.tensors().map(|t| t.info.n_bytes()).sum());
    let mut all = Vec::new();
    for tensor in model.tensors() {
        if let Some((row, column)) = find_non_finite(tensor, watch)? {
            all.push(NonFinite { tensor: tensor.info.name.clone(), row, column });
        }
    }
    Ok(all)
}

/// What became of a trial.
enum Tried {
    /// llama.cpp ran the model, or said what is wrong with it.
    Ran(LlamaReport),
    /// This machine lacks something.
    Lacking(String),
}

impl Through<'_> {
    /// What llama.cpp has against `lora`, an adapter of `model`; None where it runs, or where this
    /// machine cannot tell.
    pub fn complaint_of_adapter(&self, model: &Model, lora: &Path) -> Result<Option<String>> {
        match self.first_token(&model.shards()[0].path, Some(lora))? {
            Tried::Ran(report) => Ok(report.complaint()),
            Tried::Lacking(_) => Ok(None),
        }
    }

    fn first_token(&self, model: &Path, lora: Option<&Path>) -> Result<Tried> {
        let trial = Trial { model, lora, options: self.options };
        match self.prober.first_token(&trial) {
            Ok(first) => Ok(Tried::Ran(first.into())),
            Err(llama::Error::Run { said, .. }) => Ok(Tried::Ran(LlamaReport::refused(said))),
            Err(llama::Error::NoMeans { said, .. }) => Ok(Tried::Lacking(said)),
            Err(error) => Err(error.into()),
        }
    }
}

impl From<FirstToken> for LlamaReport {
    fn from(first: FirstToken) -> LlamaReport {
        LlamaReport {
            logits: first.complaint(),
            token: first.token,
            text: first.text,
            non_finite_logits: first.non_finite,
            logit_spread: first.spread,
            error: None,
        }
    }
}

impl LlamaReport {
    fn refused(said: String) -> LlamaReport {
        LlamaReport {
            token: -1,
            text: String::new(),
            non_finite_logits: 0,
            logit_spread: 0.0,
            logits: None,
            error: Some(said),
        }
    }

    fn complaint(&self) -> Option<String> {
        if let Some(error) = &self.error {
            return Some(error.clone());
        }
        self.logits.map(str::to_owned)
    }
}

impl Report {
    /// Everything that is wrong, in one line.
    pub fn complaint(&self) -> String {
        let place =
            |n: &NonFinite| format!("{} row {} column {}", shown(&n.tensor), n.row, n.column);
        let mut words = Vec::new();
        if !self.non_finite.is_empty() {
            let named: Vec<String> = self.non_finite.iter().take(NAMED).map(place).collect();
            let more = self.non_finite.len().saturating_sub(NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            words.push(format!("NaN or infinity in {}{more}", named.join(", ")));
        }
        words.extend(self.llama.as_ref().and_then(LlamaReport::complaint));
        words.join("; ")
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for file in &self.files {
            match &file.sha256 {
                // As sha256sum prints it.
                Some(sum) => text += &format!("{sum}  {}\n", file.path),
                None => text += &format!("{}  {}\n", file.path, bytes_text(file.bytes)),
            }
        }
        text += &format!("  structure  ok, {}\n", counted(self.tensors, "tensor"));
        text += match self.non_finite.is_empty() {
            true => "  numbers    ok, all finite\n",
            false => "  numbers    NOT finite\n",
        };
        text += &match (&self.llama, &self.llama_skipped) {
            (Some(llama), _) if llama.complaint().is_none() => {
                format!(
                    "  llama.cpp  ok, \"The capital of France is\" goes on with {:?}\n",
                    llama.text
                )
            }
            (Some(_), _) => "  llama.cpp  NOT ok\n".to_owned(),
            (None, reason) => {
                format!("  llama.cpp  not run: {}\n", reason.as_deref().unwrap_or(""))
            }
        };
        text
    }
}
