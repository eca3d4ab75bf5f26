//! What is in the file?

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::Result;
use super::files::FileReport;
use super::host::Host;
use super::stopped::Stopped;
use super::structure::residual_writers;
pub(crate) use super::structure::short;
pub use super::structure::{
    AddReport, BlocksReport, ReadReport, StructureReport, WriterReport, Writers,
};
use crate::gguf::{GgmlType, Model, Shard, TensorInfo, Watch, history};
use crate::llama::graph::Structure;
use crate::llama::is_decodable;
use crate::quant::{count_zeros, is_block_matrix};

const TEMPLATE_KEY: &str = "tokenizer.chat_template";

/// What to look at.
#[derive(Debug, Clone)]
pub struct Request {
    /// A GGUF file; any shard of a split one.
    pub model: PathBuf,
    /// List every tensor.
    pub tensors: bool,
    /// Do not read the weights: leaves the sparsity out.
    pub quick: bool,
    /// Report what each block reads and writes.
    pub structure: bool,
}

/// What is in the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// The model's files.
    pub files: Vec<FileReport>,
    /// GGUF version.
    pub version: u32,
    /// `general.type`, "model" where the file does not say.
    pub general_type: String,
    /// `general.architecture`.
    pub architecture: String,
    /// `general.name`.
    pub name: Option<String>,
    /// Number of blocks.
    pub n_block: Option<u64>,
    /// Width of the residual stream.
    pub n_embd: Option<u64>,
    /// Context length that the model was trained for, in tokens.
    pub n_ctx_train: Option<u64>,
    /// Elements of all tensors.
    pub parameters: u64,
    /// Tensors by type, the largest share of bytes first.
    pub types: Vec<TypeReport>,
    /// Exact zeros in the matrices of blocks; null with `--quick`.
    pub sparsity: Option<Sparsity>,
    /// `tokenizer.chat_template`.
    pub chat_template: Option<String>,
    /// Matrices that write into the residual stream, by runs of blocks that are alike. Empty where
    /// llama.cpp does not know the model, or it has no such stream.
    pub residual_writers: Vec<Writers>,
    /// With `--structure`.
    pub structure: Option<StructureReport>,
    /// `aird.history`, oldest first.
    pub history: Vec<serde_json::Value>,
    /// With `--tensors`.
    pub tensors: Option<Vec<TensorReport>>,
}

/// All tensors of one type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TypeReport {
    /// ggml's name.
    #[serde(rename = "type")]
    pub ty: String,
    /// How many.
    pub tensors: u64,
    /// Their elements.
    pub parameters: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Exact zeros.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sparsity {
    /// Elements that are 0 or -0 once decoded.
    pub zeros: u64,
    /// Of how many.
    pub of: u64,
}

/// One tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorReport {
    /// Its name.
    pub name: String,
    /// ggml's name.
    #[serde(rename = "type")]
    pub ty: String,
    /// Inputs first.
    pub shape: Vec<u64>,
    /// Without padding.
    pub bytes: u64,
}

/// Describes a model file.
///
/// # Errors
/// The file cannot be read, an interrupt; where its structure is asked for, llama.cpp does not
/// know it.
pub fn run(request: &Request, host: &dyn Host) -> Result<Report, Stopped> {
    let model = Model::open(&request.model)?;
    let mut report = describe(&model)?;
    if report.general_type == "model" || request.structure {
        match host.prober().structure(&model) {
            Ok(structure) => report.add(&model, &structure, request.structure),
            Err(error) if request.structure => return Err(error.into()),
            Err(error) => host.detail(format_args!("no residual writers: {error}")),
        }
    }
    report.tensors = request.tensors.then(|| model.tensors().map(|t| t.info.into()).collect());
    if !request.quick {
        report.sparsity = Some(sparsity(&model, host)?);
    }
    Ok(report)
}

/// The chat template of a model file, if it has one.
///
/// # Errors
/// The file cannot be read, or its template is not text.
pub fn chat_template(model: &Path) -> Result<Option<String>> {
    Ok(Model::open(model)?.text(TEMPLATE_KEY)?.map(str::to_owned))
}

/// Everything that the headers say.
fn describe(model: &Model) -> Result<Report> {
    let file = |shard: &Shard| FileReport::new(&shard.path, shard.file_bytes());
    Ok(Report {
        files: model.shards().iter().map(file).collect(),
        version: model.shards()[0].header.version,
        general_type: model.text("general.type")?.unwrap_or("model").to_owned(),
        architecture: model.architecture().to_owned(),
        name: model.text("general.name")?.map(str::to_owned),
        n_block: model.hparam("block_count")?,
        n_embd: model.hparam("embedding_length")?,
        n_ctx_train: model.hparam("context_length")?,
        parameters: model.tensors().map(|t| t.info.n_elements()).sum(),
        types: types(model),
        sparsity: None,
        chat_template: model.text(TEMPLATE_KEY)?.map(str::to_owned),
        residual_writers: Vec::new(),
        structure: None,
        history: history(model.kv()),
        tensors: None,
    })
}

fn types(model: &Model) -> Vec<TypeReport> {
    let mut sums: BTreeMap<GgmlType, TypeReport> = BTreeMap::new();
    for tensor in model.tensors() {
        let ty = tensor.info.ty;
        let new = TypeReport { ty: ty.to_string(), tensors: 0, parameters: 0, bytes: 0 };
        let sum = sums.entry(ty).or_insert(new);
        sum.tensors += 1;
        sum.parameters += tensor.info.n_elements();
        sum.bytes += tensor.info.n_bytes();
    }
    let mut types: Vec<TypeReport> = sums.into_values().collect();
    types.sort_by_key(|t| std::cmp::Reverse(t.bytes));
    types
}

fn sparsity(model: &Model, watch: &dyn Watch) -> Result<Sparsity> {
    let counted = |info: &TensorInfo| is_block_matrix(info) && is_decodable(info.ty);
    let matrices: Vec<_> = model.tensors().filter(|t| counted(t.info)).collect();
    watch.stage("counting zeros", matrices.iter().map(|t| t.info.n_bytes()).sum());
    let mut sparsity = Sparsity { zeros: 0, of: 0 };
    for tensor in matrices {
        sparsity.zeros += count_zeros(tensor, watch)?;
        sparsity.of += tensor.info.n_elements();
    }
    Ok(sparsity)
}

impl From<&TensorInfo> for TensorReport {
    fn from(info: &TensorInfo) -> TensorReport {
        TensorReport {
            name: info.name.clone(),
            ty: info.ty.to_string(),
            shape: info.shape.clone(),
            bytes: info.n_bytes(),
        }
    }
}

impl Report {
    fn add(&mut self, model: &Model, structure: &Structure, whole: bool) {
        self.residual_writers = residual_writers(model, structure);
        self.structure = whole.then(|| StructureReport::new(model, structure));
    }
}
