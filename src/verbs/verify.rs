//! Is this file sound?

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::Result;
use super::host::Host;
use super::stopped::Stopped;
use super::words::shown;
use crate::gguf::{Model, Watch, sha256};
use crate::llama::{self, FirstToken, Options, Prober, Trial};
use crate::quant::find_non_finite;

/// Bad tensors that are named; more are counted.
const NAMED: usize = 10;

/// What to check.
#[derive(Debug, Clone)]
pub struct Request {
    /// A GGUF file; any shard of a split one.
    pub model: PathBuf,
    /// Leave llama.cpp out.
    pub quick: bool,
    /// Report the sha256 of each file.
    pub sha256: bool,
    /// How llama.cpp runs.
    pub engine: Options,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// True if nothing was found wrong.
    pub ok: bool,
    /// The model's files.
    pub files: Vec<CheckedFile>,
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckedFile {
    /// As it was given.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// With `--sha256`.
    pub sha256: Option<String>,
}

/// A place that holds no number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NonFinite {
    /// Name of the tensor.
    pub tensor: String,
    /// Row of the first bad element, from 0.
    pub row: u64,
    /// Its column.
    pub column: u64,
}

/// One token, decoded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
    pub logits: Option<String>,
    /// Why llama.cpp refused the file, if it did.
    pub error: Option<String>,
}

/// Checks a model file.
///
/// # Errors
/// The file cannot be read, a key has the wrong type, an interrupt. What is wrong with a file that
/// can be read is in the report.
pub fn run(request: &Request, host: &dyn Host) -> Result<Report, Stopped> {
    let model = Model::open(&request.model)?;
    // What a wrong template spoils is left to the verbs that chat, but it is not sound.
    model.text("tokenizer.chat_template")?;
    let (prober, options) = (host.prober(), request.engine);
    let through = (!request.quick).then_some(Through { prober: &prober, options });
    Ok(check(host, &model, through, request.sha256)?)
}

/// Checks everything in `model`; with `through`, by llama.cpp too.
pub fn check(
    watch: &dyn Watch,
    model: &Model,
    through: Option<Through<'_>>,
    with_sha256: bool,
) -> Result<Report> {
    let mut files = Vec::new();
    watch.stage("sha256", if with_sha256 { model.file_bytes() } else { 0 });
    for shard in model.shards() {
        let sha256 = with_sha256.then(|| sha256(shard, watch)).transpose()?;
        let path = shard.path.display().to_string();
        files.push(CheckedFile { path, bytes: shard.file_bytes(), sha256 });
    }
    let non_finite = non_finite(model, watch)?;
    watch.stage("loading", 0);
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
            logits: first.complaint().map(str::to_owned),
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

    /// What is wrong, if anything.
    pub fn complaint(&self) -> Option<String> {
        if let Some(error) = &self.error {
            return Some(error.clone());
        }
        self.logits.clone()
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
}
