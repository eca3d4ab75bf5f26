//! `aird inspect`: what is in the file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::args::file_name;
use super::paths::Verb;
use super::structure::{StructureReport, Writers, residual_writers, writers_text};
use super::text::{bytes_text, count_text, counted, first_line, share_text, shown, table};
use super::ui::Ui;
use crate::gguf::{GgmlType, Model, TensorInfo, Watch, history};
use crate::llama::graph::Structure;
use crate::llama::is_decodable;
use crate::quant::{count_zeros, is_block_matrix};

const TEMPLATE_KEY: &str = "tokenizer.chat_template";

/// Show what is in a model file
#[derive(Debug, Args)]
pub struct Inspect {
    /// A GGUF file; any shard of a split one.
    model: PathBuf,
    /// List every tensor.
    #[arg(long)]
    tensors: bool,
    /// Print the whole chat template, and nothing else.
    #[arg(long, conflicts_with_all = ["json", "tensors", "structure"])]
    template: bool,
    /// Do not read the weights: leaves the sparsity out.
    #[arg(long)]
    quick: bool,
    /// Show what each block reads and writes, by llama.cpp's own graph, and what nothing reads.
    #[arg(long)]
    structure: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// What `aird inspect --json` prints.
#[derive(Debug, Serialize)]
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

/// One file of the model.
#[derive(Debug, Serialize)]
pub struct FileReport {
    /// As it was given.
    pub path: String,
    /// Its size.
    pub bytes: u64,
}

/// All tensors of one type.
#[derive(Debug, Serialize)]
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
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Sparsity {
    /// Elements that are 0 or -0 once decoded.
    pub zeros: u64,
    /// Of how many.
    pub of: u64,
}

/// One tensor.
#[derive(Debug, Serialize)]
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

impl Verb for Inspect {
    fn run(self, ui: &Ui) -> Result<()> {
        let model = Model::open(&self.model)?;
        if self.template {
            return match model.text(TEMPLATE_KEY)? {
                Some(template) => ui.print_text(template),
                None => anyhow::bail!("{} has no chat template", file_name(&self.model)),
            };
        }
        let mut report = describe(&model)?;
        if report.general_type == "model" || self.structure {
            match ui.prober().structure(&model) {
                Ok(structure) => report.add(&model, &structure, self.structure),
                Err(error) if self.structure => return Err(error.into()),
                Err(error) => ui.detail(format_args!("no residual writers: {error}")),
            }
        }
        report.tensors = self.tensors.then(|| model.tensors().map(|t| t.info.into()).collect());
        if !self.quick {
            report.sparsity = Some(sparsity(&model, &ui.progress())?);
        }
        if self.json {
            return ui.print_json(&report);
        }
        ui.print(report.text())
    }
}

/// Everything that the headers say.
fn describe(model: &Model) -> Result<Report> {
    let file = |s: &crate::gguf::Shard| FileReport {
        path: s.path.display().to_string(),
        bytes: s.file_bytes(),
    };
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

    fn text(&self) -> String {
        let mut text = String::new();
        for file in &self.files {
            text += &format!("{}  {}\n", file.path, bytes_text(file.bytes));
        }
        let mut rows: Vec<Vec<String>> = Vec::new();
        let mut row = |name: &str, value: String| rows.push(vec![name.into(), value]);
        row("name", self.name.clone().unwrap_or("-".into()));
        row("architecture", self.architecture_text());
        row("parameters", count_text(self.parameters));
        if let Some(n) = self.n_ctx_train {
            row("context", counted(n, "token"));
        }
        if let Some(Sparsity { zeros, of }) = self.sparsity.filter(|s| s.of > 0) {
            let of_text = count_text(of);
            let share = share_text(zeros, of);
            row("sparsity", format!("{share} of {of_text} weights in block matrices are zero"));
        }
        if self.general_type == "model" {
            row("chat template", self.chat_template.as_deref().map_or("none".into(), first_line));
        }
        text += &table(&rows, &[], "  ");
        text + &self.types_text()
            + &writers_text(&self.residual_writers)
            + &self.structure.as_ref().map_or_else(String::new, StructureReport::text)
            + &self.history_text()
            + &self.tensors_text()
    }

    fn architecture_text(&self) -> String {
        let mut text = match self.general_type.as_str() {
            "model" => self.architecture.clone(),
            other => format!("{} ({other})", self.architecture),
        };
        if let Some(n) = self.n_block {
            text += &format!(", {}", counted(n, "block"));
        }
        if let Some(n) = self.n_embd {
            text += &format!(", {n} wide");
        }
        format!("{text}, GGUF {}", self.version)
    }

    fn types_text(&self) -> String {
        let row = |t: &TypeReport| {
            let (n, bytes) = (count_text(t.parameters), bytes_text(t.bytes));
            vec![t.ty.clone(), counted(t.tensors, "tensor"), n, bytes]
        };
        let rows: Vec<_> = self.types.iter().map(row).collect();
        format!("  types\n{}", table(&rows, &[2, 3], "    "))
    }

    fn history_text(&self) -> String {
        let step = |step: &serde_json::Value| {
            if !step.is_object() {
                return format!(
                    "    not a step of aird: {}\n",
                    shown(&first_line(&step.to_string()))
                );
            }
            let verb = step["verb"].as_str().unwrap_or("?");
            let parameters = match &step["parameters"] {
                serde_json::Value::Object(map) => {
                    map.iter().map(|(k, v)| format!(" {k}={v}")).collect::<String>()
                }
                _ => String::new(),
            };
            let version = step["version"].as_str().unwrap_or("?");
            format!("    {verb}{parameters}  (aird {version})\n")
        };
        match self.history.is_empty() {
            true => "  history       none\n".into(),
            false => format!("  history\n{}", self.history.iter().map(step).collect::<String>()),
        }
    }

    fn tensors_text(&self) -> String {
        let Some(tensors) = &self.tensors else { return String::new() };
        let row = |t: &TensorReport| {
            let shape = format!("[{}]", crate::gguf::shape_text(&t.shape));
            vec![t.name.clone(), t.ty.clone(), shape, bytes_text(t.bytes)]
        };
        let rows: Vec<_> = tensors.iter().map(row).collect();
        format!("  tensors\n{}", table(&rows, &[3], "    "))
    }
}
