//! `aird export`: its arguments, and its report in print.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::args::output_path;
use super::paths::Verb;
use super::text::bytes_text;
use super::ui::Ui;
use crate::checkpoint::ExportType;
use crate::gguf::GgmlType;
use crate::verbs::export::{Report, Request, run};

/// Write a GGUF model as a Hugging Face checkpoint, like the one that it came from
///
/// The new folder has the tensors of the other checkpoint by the same names, in the same files,
/// with the values of the model. Configuration and tokenizer are copied. A quantized model is
/// decoded.
#[derive(Debug, Args)]
pub(super) struct Export {
    /// A GGUF file; any shard of a split one.
    model: PathBuf,
    /// The checkpoint that the model came from.
    #[arg(long, value_name = "FOLDER")]
    like: PathBuf,
    /// The folder to write.
    #[arg(short, long, value_name = "OUT", value_parser = output_path())]
    output: PathBuf,
    /// Type of the weights: bf16, f16, f32, or auto, which is that of the other checkpoint.
    #[arg(long, default_value = "auto", value_parser = parse_type, value_name = "TYPE")]
    dtype: ExportType,
    /// Replace files of OUT if it exists.
    #[arg(long)]
    force: bool,
    /// Print what would be written, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

impl Verb for Export {
    fn run(self, ui: &Ui) -> Result<()> {
        let request = Request {
            model: self.model,
            like: self.like,
            folder: self.output,
            ty: self.dtype,
            force: self.force,
            dry_run: self.dry_run,
        };
        let report = run(&request, ui)?;
        ui.report(self.json, &report, || report.text())
    }
}

impl Report {
    fn text(&self) -> String {
        let mut text = format!("{}: {} tensors, {}\n", self.family, self.tensors, self.dtype);
        if self.dry_run {
            text += "would write\n";
            for file in &self.files {
                text += &format!("  {}  {}\n", file.path, bytes_text(file.bytes));
            }
        }
        text
    }
}

fn parse_type(name: &str) -> Result<ExportType, String> {
    match (name, GgmlType::from_name(name)) {
        ("auto", _) => Ok(ExportType::Auto),
        (_, Some(ty @ (GgmlType::F16 | GgmlType::BF16 | GgmlType::F32))) => {
            Ok(ExportType::Named(ty))
        }
        _ => Err("expected bf16, f16, f32 or auto".into()),
    }
}
