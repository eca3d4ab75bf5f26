//! `aird merge`: fold a LoRA adapter into the weights.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::args::EngineArgs;
use super::output::{FileReport, OutputArgs, no_sha256, sha256_of};
use super::paths::{Paths, Verb};
use super::text::{counted, few};
use super::ui::Ui;
use crate::adapter::{Adapter, MergedType, Outcome, merge, outcomes};
use crate::gguf::{GgmlType, Model, Rewrite, Step, Unwatched, model_sha256};

/// Fold a LoRA adapter into the weights
#[derive(Debug, Args)]
pub struct Merge {
    /// A GGUF file; any shard of a split one.
    model: PathBuf,
    /// The adapter, as GGUF.
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
    engine: EngineArgs,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// What `aird merge --json` prints.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Files that were (with `--dry-run`, would be) written.
    pub files: Vec<FileReport>,
    /// True if nothing was written.
    pub dry_run: bool,
    /// Tensors that the adapter changed.
    pub merged: usize,
    /// Tensors that changed their type.
    pub converted: usize,
    /// Tensors of the adapter that were left out, as llama.cpp does.
    pub ignored: Vec<String>,
}

impl Verb for Merge {
    fn paths(&self) -> Paths {
        Paths::default()
            .reads([&self.model, &self.lora])
            .writes([&self.out.output])
            .with(self.out.force, self.out.dry_run)
    }

    fn run(self, ui: &Ui) -> Result<()> {
        let model = Model::open(&self.model)?;
        let adapter = Adapter::open(&self.lora)?;
        adapter.check(&model)?;
        let ty = self.ty.unwrap_or(MergedType::Auto);
        let outcomes = outcomes(&model, &adapter, ty);
        self.tell(ui, &adapter, ty, &outcomes);

        let mut rewrite = Rewrite::new(&model, self.out.layout());
        merge(&mut rewrite, &model, &adapter, &outcomes, self.scale)?;
        let files = if self.out.dry_run {
            rewrite.record(self.step(&outcomes, &no_sha256(), &no_sha256()));
            self.out.plan(ui, &rewrite, self.json)?
        } else {
            let source = sha256_of(ui, &model)?;
            let adapter = model_sha256(&Model::open(&self.lora)?, &Unwatched)?;
            rewrite.record(self.step(&outcomes, &source, &adapter));
            self.out.write(ui, rewrite, self.engine.options())?
        };
        self.print_report(ui, files, &adapter, &outcomes)
    }
}

impl Merge {
    fn step(&self, outcomes: &[Outcome], source: &str, adapter: &str) -> Step {
        let touched = outcomes.iter().filter(|o| o.touched).map(|o| o.name.as_str());
        let ty = type_name(self.ty.unwrap_or(MergedType::Auto));
        Step::new("merge")
            .parameter("scale", self.scale)
            .parameter("type", ty)
            .source("model", source)
            .source("adapter", adapter)
            .changed(touched)
    }

    fn tell(&self, ui: &Ui, adapter: &Adapter, ty: MergedType, outcomes: &[Outcome]) {
        for outcome in outcomes {
            let what = if outcome.touched { "merged" } else { "converted" };
            ui.detail(format_args!("{what} {} {} -> {}", outcome.name, outcome.from, outcome.to));
        }
        if adapter.alpha == 0.0 {
            ui.say("the adapter has no alpha: like llama.cpp, aird does not divide by its rank");
        }
        if !adapter.ignored.is_empty() {
            ui.warn(format_args!(
                "llama.cpp leaves out what an adapter says about norms, and so does aird: {}",
                few(&adapter.ignored)
            ));
        }
        let rounded = outcomes.iter().filter(|o| o.touched && o.to.is_quantized()).count();
        if rounded > 0 {
            ui.warn(format_args!(
                "rounding to quantized types takes back part of the adapter's change in {}",
                counted(rounded, "tensor")
            ));
        }
        if let MergedType::Named(ty) = ty {
            let fell_back = outcomes.iter().filter(|o| o.to != ty && o.to != o.from).count();
            if fell_back > 0 {
                ui.warn(format_args!(
                    "{ty} does not fit the rows of {}: F16 instead",
                    counted(fell_back, "tensor")
                ));
            }
        }
    }

    fn print_report(
        &self,
        ui: &Ui,
        files: Vec<FileReport>,
        adapter: &Adapter,
        outcomes: &[Outcome],
    ) -> Result<()> {
        if !self.json {
            return Ok(());
        }
        ui.print_json(&Report {
            files,
            dry_run: self.out.dry_run,
            merged: outcomes.iter().filter(|o| o.touched).count(),
            converted: outcomes.iter().filter(|o| o.from != o.to).count(),
            ignored: adapter.ignored.clone(),
        })
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

fn type_name(ty: MergedType) -> String {
    match ty {
        MergedType::Auto => "auto".into(),
        MergedType::Keep => "keep".into(),
        MergedType::Named(ty) => ty.name().to_lowercase(),
    }
}
