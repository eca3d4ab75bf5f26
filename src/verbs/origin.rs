//! Does a quantized model come from an original?

use std::path::PathBuf;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::error::{Context, Error, Result};
use super::host::Host;
use super::model::{file_name, model_name, sha256_of};
use super::statistics::Given;
use super::stopped::Stopped;
use crate::gguf::{Model, Tensor, history, without_block};
use crate::origin::{Figures, Finding, Importance, Reason, Recoding, Rest, Subject, find, measure};

/// What to compare: GGUF files, of each any shard.
#[derive(Debug, Clone)]
pub struct Request {
    /// The model that is in question.
    pub quant: PathBuf,
    /// What it should come from.
    pub original: PathBuf,
    /// The importance matrix that it may have been made with.
    pub imatrix: Option<PathBuf>,
}

/// An attestation: what was compared, by hash, and what was found, tensor by tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// The version of aird that compared.
    pub version: String,
    /// The model in question.
    pub quant: Source,
    /// What it should come from.
    pub original: Source,
    /// The importance matrix, if one was given.
    pub imatrix: Option<Source>,
    /// The answer.
    pub verdict: Verdict,
    /// How many tensors are of each finding.
    pub counts: Counts,
    /// True if matrices of the original are quantized themselves: edits smaller than their own
    /// rounding are not seen then.
    pub original_is_quantized: bool,
    /// Keys other than those that a quantizer writes that are not as in the original.
    pub keys: Vec<String>,
    /// Each tensor of either file, in order.
    pub tensors: Vec<TensorReport>,
}

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Its name, of several shards the first one's.
    pub name: String,
    /// sha256 of it, of several shards of all.
    pub sha256: String,
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every tensor is the original's, rounded.
    Yes,
    /// Every tensor is but those that the file's own history says were changed. The history is the
    /// file's claim: it explains a change and does not prove it harmless.
    Edited,
    /// A tensor is not the original's.
    No,
}

/// How many tensors are of each finding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Equal to the original in their type.
    pub equal: usize,
    /// Within what rounding allows.
    pub within: usize,
    /// Changed, as the history says.
    pub explained: usize,
    /// Not the original's.
    pub no: usize,
}

/// What was found of a tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorReport {
    /// Its name.
    pub name: String,
    /// Its type; null where only the original has it.
    #[serde(rename = "type")]
    pub ty: Option<String>,
    /// The original's type; null where it has no such tensor.
    pub original_type: Option<String>,
    /// What was found.
    pub finding: Finding,
    /// What is found against it.
    pub reasons: Vec<Reason>,
    /// The step of the file's history that changed it: `repair of blocks 4, 7:mlp`. Only where the
    /// finding is no.
    pub explained_by: Option<String>,
    /// How the original was written to come closest; null where nothing was written.
    pub written: Option<Recoding>,
    /// Rows that are equal, and all of them.
    pub equal_rows: u64,
    /// See [`TensorReport::equal_rows`].
    pub n_rows: u64,
    /// Float values: the farthest from its original, in parts of what rounding allows.
    pub farthest: Option<f64>,
    /// Rows that differ; null where there are none, or a value is NaN or infinite.
    pub figures: Option<Figures>,
}

/// Compares.
///
/// # Errors
/// A file cannot be read, the importance matrix is of another model, an interrupt.
pub fn run(request: &Request, host: &dyn Host) -> Result<Report, Stopped> {
    let quant = Model::open(&request.quant)?;
    let original = Model::open(&request.original)?;
    check_architectures(&quant, &original)?;
    let given = match &request.imatrix {
        Some(path) => Some(Given::read(&original, path.clone(), None)?),
        None => None,
    };
    let importance: IndexMap<&str, Importance> = given
        .iter()
        .flat_map(|given| &given.stats.inputs)
        .map(|(name, input)| (name.as_str(), Importance::of(input)))
        .collect();
    let source = |model: &Model| -> Result<Source> {
        Ok(Source { name: model_name(model), sha256: sha256_of(host, model)? })
    };
    let mut report = Report {
        version: crate::VERSION.into(),
        quant: source(&quant)?,
        original: source(&original)?,
        imatrix: given
            .as_ref()
            .map(|given| Source { name: file_name(&given.path), sha256: given.sha256.clone() }),
        verdict: Verdict::Yes,
        counts: Counts::default(),
        original_is_quantized: original.tensors().any(|t| t.info.ty.is_quantized()),
        keys: changed_keys(&quant, &original),
        tensors: Vec::new(),
    };
    host.stage("comparing", quant.tensors().map(|t| t.info.n_bytes()).sum());
    for tensor in quant.tensors() {
        let importance = importance.get(tensor.info.name.as_str());
        report.tensors.push(compared(tensor, &original, importance, host)?);
    }
    let missing = original.tensors().filter(|t| quant.tensor(&t.info.name).is_none());
    report.tensors.extend(missing.map(|t| {
        let mut tensor = TensorReport::unmeasured(t, Reason::Missing);
        tensor.original_type = tensor.ty.take();
        tensor
    }));
    explain(&mut report.tensors, &quant);
    report.sum_up();
    Ok(report)
}

fn check_architectures(quant: &Model, original: &Model) -> Result<()> {
    let (found, expected) = (quant.architecture(), original.architecture());
    match found == expected {
        true => Ok(()),
        false => Err(Error::Sentence(format!(
            "{} is of architecture '{found}', {} of '{expected}': nothing can be compared",
            model_name(quant),
            model_name(original)
        ))),
    }
}

fn compared(
    tensor: Tensor<'_>,
    original: &Model,
    importance: Option<&Importance>,
    host: &dyn Host,
) -> Result<TensorReport> {
    let name = &tensor.info.name;
    let Some(original) = counterpart(name, original) else {
        return Ok(TensorReport::unmeasured(tensor, Reason::Added));
    };
    let mut report = TensorReport::unmeasured(tensor, Reason::Shape);
    report.original_type = Some(original.info.ty.to_string());
    if dims(tensor) != dims(original) {
        return Ok(report);
    }
    let subject = Subject { tensor, original, importance };
    let measured = measure(&subject, host).about(|| name.clone())?;
    let exact = !original.info.ty.is_quantized();
    (report.finding, report.reasons) = find(tensor.info.ty, &measured, exact);
    report.written = Some(measured.how);
    (report.equal_rows, report.n_rows) = (measured.equal_rows, measured.n_rows);
    match measured.rest {
        Some(Rest::Floats(far)) => report.farthest = far.is_finite().then_some(far),
        // JSON has no NaN.
        Some(Rest::Rows(figures)) => report.figures = Some(figures).filter(Figures::is_finite),
        Some(Rest::Bytes) | None => {}
    }
    Ok(report)
}

/// The original's tensor of that name. Where embeddings are tied and a converter wrote them twice,
/// `output.weight` comes from them.
fn counterpart<'m>(name: &str, original: &'m Model) -> Option<Tensor<'m>> {
    let tied = || (name == "output.weight").then(|| original.tensor("token_embd.weight"))?;
    original.tensor(name).or_else(tied)
}

/// The shape without dimensions of 1 at its end, which some writers leave out.
fn dims(tensor: Tensor<'_>) -> &[u64] {
    let shape = &tensor.info.shape;
    let n = shape.iter().rposition(|&n| n != 1).map_or(0, |i| i + 1);
    &shape[..n]
}

/// Keys that a quantizer does not write, and that are not the same in both.
fn changed_keys(quant: &Model, original: &Model) -> Vec<String> {
    const OF_QUANTIZERS: [&str; 5] =
        ["general.file_type", "general.quantization_version", "quantize.", "split.", "aird."];
    let (a, b) = (quant.kv(), original.kv());
    let all = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
    let changed = all.filter(|key| a.get(*key) != b.get(*key));
    changed.filter(|key| !OF_QUANTIZERS.iter().any(|own| key.starts_with(own))).cloned().collect()
}

/// Names the last step of the file's history that changed each tensor which is not the original's.
fn explain(tensors: &mut [TensorReport], quant: &Model) {
    let steps = history(quant.kv());
    let found = |t: &&TensorReport| t.finding == Finding::No && t.ty.is_some();
    let names: Vec<String> = tensors.iter().filter(found).map(|t| t.name.clone()).collect();
    for tensor in tensors.iter_mut().filter(|t| names.contains(&t.name)) {
        let changed = |step: &&Json| touches(step, &tensor.name, &names);
        tensor.explained_by = steps.iter().rev().find(changed).map(step_text);
    }
}

/// True if the step changed tensor `name`, one of the `found` that are not the original's. A step
/// holds how many tensors of a kind it changed; where it does not list them, it explains no more.
fn touches(step: &Json, name: &str, found: &[String]) -> bool {
    let kind = without_block(name);
    let Some(n) = step["tensors"][&kind].as_u64() else { return false };
    let of_kind = |name: &str| without_block(name) == kind;
    let listed = step["parameters"]["edited"].as_array().into_iter().flatten();
    let listed: Vec<&str> = listed.filter_map(Json::as_str).filter(|name| of_kind(name)).collect();
    match listed.len() as u64 == n {
        true => listed.contains(&name),
        false => found.iter().filter(|name| of_kind(name)).count() as u64 <= n,
    }
}

/// `repair of blocks 4, 7:mlp`
fn step_text(step: &Json) -> String {
    let text = |value: &Json| match value.as_str() {
        Some(text) => text.to_owned(),
        None => value.to_string(),
    };
    let verb = text(&step["verb"]);
    let parameters = &step["parameters"];
    match (parameters["blocks"].as_array(), parameters.get("method")) {
        (Some(blocks), _) => {
            format!("{verb} of blocks {}", blocks.iter().map(text).collect::<Vec<_>>().join(", "))
        }
        (None, Some(method)) => format!("{verb} by {}", text(method)),
        (None, None) => verb,
    }
}

impl TensorReport {
    /// A tensor that is not the original's for a reason that needs no measurement.
    fn unmeasured(tensor: Tensor<'_>, reason: Reason) -> TensorReport {
        TensorReport {
            name: tensor.info.name.clone(),
            ty: Some(tensor.info.ty.to_string()),
            original_type: None,
            finding: Finding::No,
            reasons: vec![reason],
            explained_by: None,
            written: None,
            equal_rows: 0,
            n_rows: tensor.info.n_rows(),
            farthest: None,
            figures: None,
        }
    }
}

impl Report {
    fn sum_up(&mut self) {
        let mut counts = Counts::default();
        for tensor in &self.tensors {
            match (tensor.finding, &tensor.explained_by) {
                (Finding::Equal, _) => counts.equal += 1,
                (Finding::Within, _) => counts.within += 1,
                (Finding::No, Some(_)) => counts.explained += 1,
                (Finding::No, None) => counts.no += 1,
            }
        }
        self.counts = counts;
        self.verdict = match (counts.no, counts.explained) {
            (0, 0) => Verdict::Yes,
            (0, _) => Verdict::Edited,
            _ => Verdict::No,
        };
    }
}
