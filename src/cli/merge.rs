//! `aird merge`: its arguments.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::args::TrialArgs;
use super::output::{OutputArgs, print_plan};
use super::paths::{Paths, Verb};
use super::ui::Ui;
use crate::adapter::MergedType;
use crate::gguf::GgmlType;
use crate::verbs::merge::{Request, run};

/// Fold a LoRA adapter into the weights
#[derive(Debug, Args)]
pub(super) struct Merge {
    /// A GGUF file; any shard of a split one.
    model: PathBuf,
    /// The adapter: a GGUF file or a PEFT folder.
    #[arg(long, value_name = "ADAPTER")]
    lora: PathBuf,
    /// Strength of the adapter, as llama.cpp's --lora-scaled.
    #[arg(
        long,
        default_value_t = 1.0,
        value_parser = finite,
        allow_hyphen_values = true,
        value_name = "X"
    )]
    scale: f64,
    /// Type of the matrices: f16, bf16, f32, q8_0, or keep. Default: f16 for a quantized model,
    /// keep for others.
    #[arg(long = "type", value_parser = parse_type, value_name = "TYPE")]
    ty: Option<MergedType>,
    #[command(flatten)]
    out: OutputArgs,
    #[command(flatten)]
    engine: TrialArgs,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

impl Verb for Merge {
    fn paths(&self) -> Paths {
        Paths::default()
            .reads([&self.model, &self.lora])
            .writes([&self.out.output])
            .with(self.out.force, self.out.dry_run)
    }

    fn models(&mut self) -> Result<Vec<&mut PathBuf>> {
        Ok(vec![&mut self.model])
    }

    fn run(self, ui: &Ui) -> Result<()> {
        let request = Request {
            model: self.model,
            lora: self.lora,
            scale: self.scale,
            ty: self.ty.unwrap_or(MergedType::Auto),
            output: self.out.output(),
            engine: self.engine.options(),
        };
        let report = run(&request, ui)?;
        match self.json {
            true => ui.print_json(&report),
            false => print_plan(ui, &report.files, report.computed_bytes, report.estimated_seconds),
        }
    }
}

fn finite(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|x: &f64| x.is_finite());
    number.ok_or_else(|| "expected a finite number".into())
}

fn parse_type(name: &str) -> Result<MergedType, String> {
    match (name, GgmlType::from_name(name)) {
        ("keep", _) => Ok(MergedType::Keep),
        (_, Some(ty @ (GgmlType::F16 | GgmlType::BF16 | GgmlType::F32 | GgmlType::Q8_0))) => {
            Ok(MergedType::Named(ty))
        }
        _ => Err("expected f16, bf16, f32, q8_0 or keep".into()),
    }
}
