//! `aird import`: its arguments, and its report in print.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::args::{TrialArgs, output_path};
use super::paths::{Paths, Verb};
use super::text::bytes_text;
use super::ui::Ui;
use crate::checkpoint::ImportType;
use crate::gguf::GgmlType;
use crate::verbs::Output;
use crate::verbs::import::{Report, Request, run};

/// Make a GGUF model of a Hugging Face checkpoint, without Python
#[derive(Debug, Args)]
pub(super) struct Import {
    /// The folder with config.json, safetensors and the tokenizer's files.
    folder: PathBuf,
    /// The file to write.
    #[arg(short, long, value_name = "OUT", value_parser = output_path())]
    output: PathBuf,
    /// Type of the matrices: bf16, f16, f32, or auto, which keeps the checkpoint's own.
    #[arg(long = "type", default_value = "auto", value_parser = parse_type, value_name = "TYPE")]
    ty: ImportType,
    /// Replace OUT if it exists.
    #[arg(long)]
    force: bool,
    /// Print what would be written, and write nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    engine: TrialArgs,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

impl Verb for Import {
    fn paths(&self) -> Paths {
        Paths::default().reads([&self.folder]).writes([&self.output]).with(self.force, self.dry_run)
    }

    fn run(self, ui: &Ui) -> Result<()> {
        let output = Output {
            path: self.output,
            force: self.force,
            dry_run: self.dry_run,
            keep_shards: false,
        };
        let request =
            Request { folder: self.folder, ty: self.ty, output, engine: self.engine.options() };
        let report = run(&request, ui)?;
        ui.report(self.json, &report, || report.text())
    }
}

impl Report {
    fn text(&self) -> String {
        let mut text = format!(
            "{}: {} tensors from {}, {} tokens, {}\n",
            self.family, self.tensors, self.tensors_read, self.tokens, self.ty
        );
        for file in self.files.iter().filter(|_| self.dry_run) {
            text += &format!(
                "would write\n  {}  {}\n  of which {} of tensors computed, the rest copied\n",
                file.path,
                bytes_text(file.bytes),
                bytes_text(self.computed_bytes)
            );
        }
        text
    }
}

fn parse_type(name: &str) -> Result<ImportType, String> {
    match (name, GgmlType::from_name(name)) {
        ("auto", _) => Ok(ImportType::Auto),
        (_, Some(ty @ (GgmlType::F16 | GgmlType::BF16 | GgmlType::F32))) => {
            Ok(ImportType::Named(ty))
        }
        _ => Err("expected bf16, f16, f32 or auto".into()),
    }
}
