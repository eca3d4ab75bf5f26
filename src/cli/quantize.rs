//! `aird quantize`: its arguments, and its report in print.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use super::calibration::StatsArgs;
use super::output::{OutputArgs, print_plan};
use super::paths::{Paths, Verb};
use super::text::{OUTPUT_ERROR, counted};
use super::ui::Ui;
use crate::compress::faithful::Scheme;
use crate::compress::int8::OUTLIER_THRESHOLD;
use crate::gguf::GgmlType;
use crate::verbs::quantize::{Method, Report, Request, run};
use crate::verbs::{TypeFor, parse_type};

/// Quantize the weights
#[derive(Debug, Args)]
pub(super) struct Quantize {
    /// A GGUF file; any shard of a split one.
    model: PathBuf,
    /// How weights are rounded.
    #[arg(long, value_enum)]
    method: MethodArg,
    /// Type of the matrices. Default: q4_1 for awq, q8_0 for int8 and llm-int8.
    #[arg(long = "type", value_parser = parse_type, value_name = "TYPE")]
    ty: Option<GgmlType>,
    /// Type of the output head. Default, as llama-quantize's: q6_k where --type is coarser.
    #[arg(long, value_parser = parse_type, value_name = "TYPE")]
    output_type: Option<GgmlType>,
    /// Type of the token embeddings. Default: --type's, or the head's where they are tied.
    #[arg(long, value_parser = parse_type, value_name = "TYPE")]
    embedding_type: Option<GgmlType>,
    /// Type of the tensors whose name matches; may be given several times, the first match counts.
    #[arg(long, value_name = "REGEX=TYPE")]
    type_for: Vec<TypeFor>,
    /// awq on the reference's grid: 4 bits in groups of 128, ranges clipped. q4_1 has zero points,
    /// q4_0 is symmetric.
    #[arg(long)]
    faithful: bool,
    /// Quantize what is quantized already: its errors add up.
    #[arg(long)]
    requantize: bool,
    #[command(flatten)]
    stats: StatsArgs,
    #[command(flatten)]
    out: OutputArgs,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum MethodArg {
    /// Channels scaled by their activations before they are rounded; needs statistics.
    Awq,
    /// q8_0: a scale for every 32 weights.
    Int8,
    /// LLM.int8()'s integers: a scale a row.
    LlmInt8,
    /// Column by column: later columns make up for the error of earlier ones; needs --data.
    Gptq,
    /// Rounded to the nearest, with --stats by importance.
    Rtn,
}

impl Verb for Quantize {
    fn paths(&self) -> Paths {
        self.stats.paths(&self.model, &self.out, self.method != MethodArg::Gptq)
    }

    fn models(&mut self) -> Result<Vec<&mut PathBuf>> {
        Ok(vec![&mut self.model])
    }

    fn run(self, ui: &Ui) -> Result<()> {
        let request = Request {
            method: self.method()?,
            ty: self.ty(),
            model: self.model,
            output_type: self.output_type,
            embedding_type: self.embedding_type,
            type_for: self.type_for,
            requantize: self.requantize,
            output: self.out.output(),
            engine: self.stats.engine.options(),
        };
        let report = run(&request, ui)?;
        if self.json {
            return ui.print_json(&report);
        }
        print_plan(ui, &report.files, report.computed_bytes, report.estimated_seconds)?;
        match report.dry_run {
            true => Ok(()),
            false => ui.print(report.text()),
        }
    }
}

impl Quantize {
    fn method(&self) -> Result<Method> {
        let has_statistics = self.stats.any();
        if self.method == MethodArg::Awq && !has_statistics {
            bail!("--method awq needs --stats FILE or --data FILE");
        }
        if matches!(self.method, MethodArg::Rtn | MethodArg::Gptq) && self.ty.is_none() {
            let name = if self.method == MethodArg::Rtn { "rtn" } else { "gptq" };
            bail!("--method {name} needs --type, e.g. q4_k");
        }
        let fixed = matches!(self.method, MethodArg::Int8 | MethodArg::LlmInt8);
        if let Some(ty) = self.ty.filter(|ty| fixed && *ty != GgmlType::Q8_0) {
            bail!("--method int8 and llm-int8 write q8_0, not {ty}\nhint: --method rtn");
        }
        if self.faithful && self.method != MethodArg::Awq {
            bail!("--faithful is about --method awq");
        }
        Ok(match self.method {
            MethodArg::Awq => {
                Method::Awq { statistics: self.stats.statistics()?, scheme: self.scheme()? }
            }
            MethodArg::Int8 => Method::Int8(self.stats.statistics()?),
            MethodArg::LlmInt8 => Method::LlmInt8(self.stats.statistics()?),
            MethodArg::Gptq => Method::Gptq(self.stats.texts("gptq")?),
            MethodArg::Rtn => Method::Rtn(self.stats.statistics()?),
        })
    }

    fn ty(&self) -> GgmlType {
        match self.method {
            MethodArg::Int8 | MethodArg::LlmInt8 => GgmlType::Q8_0,
            _ => self.ty.unwrap_or(GgmlType::Q4_1),
        }
    }

    /// The reference's grid, with --faithful.
    fn scheme(&self) -> Result<Option<Scheme>> {
        match self.ty() {
            _ if !self.faithful => Ok(None),
            GgmlType::Q4_1 => Ok(Some(Scheme::Asymmetric)),
            GgmlType::Q4_0 => Ok(Some(Scheme::Symmetric)),
            ty => bail!("--faithful writes q4_1 or q4_0, not {ty}"),
        }
    }
}

impl Report {
    fn text(&self) -> String {
        let mut text = format!("{} quantized\n", counted(self.quantized, "tensor"));
        if !self.groups.is_empty() {
            let n = self.groups.len() as f64;
            let mean = self.groups.iter().map(|g| g.relative_loss).sum::<f64>() / n;
            text += &format!(
                "scales of {} leave {:.0} % of the layers' output error, on average\n",
                counted(self.groups.len(), "group"),
                100.0 * mean
            );
        }
        if let Some(error) = self.output_error {
            text += &format!("{OUTPUT_ERROR} {:.1} %\n", 100.0 * error);
        }
        if !self.outlier_columns.is_empty() {
            let n: usize = self.outlier_columns.iter().map(|o| o.columns.len()).sum();
            text += &format!(
                "{} of {} reach |x| = {OUTLIER_THRESHOLD}: LLM.int8() computes those in f16\n",
                counted(n, "input channel"),
                counted(self.outlier_columns.len(), "weight")
            );
        }
        text
    }
}
