//! Fold a LoRA adapter into the weights.

use std::path::PathBuf;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::error::Result;
use super::estimate::DryRun;
use super::files::FileReport;
use super::host::Host;
use super::model::{adapter_sha256, sha256_of};
use super::output::{Output, no_sha256};
use super::stopped::Stopped;
use super::words::{counted, few};
use crate::adapter::{Adapter, MergedType, Outcome, merge, outcomes};
use crate::gguf::{Model, Rewrite, Step};
use crate::llama::Options;

/// What to merge.
#[derive(Debug, Clone)]
pub struct Request {
    /// A GGUF file; any shard of a split one.
    pub model: PathBuf,
    /// The adapter: a GGUF file or a PEFT folder.
    pub lora: PathBuf,
    /// Strength of the adapter.
    pub scale: f64,
    /// Type of the matrices.
    pub ty: MergedType,
    /// Where the result goes.
    pub output: Output,
    /// How llama.cpp tries the result.
    pub engine: Options,
}

/// What was merged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Files that were (with a dry run, would be) written.
    pub files: Vec<FileReport>,
    /// True if nothing was written.
    pub dry_run: bool,
    /// In a dry run: bytes of the tensors that would be computed, not copied.
    pub computed_bytes: Option<u64>,
    /// In a dry run: seconds that the run would take here; null where that cannot be measured.
    pub estimated_seconds: Option<f64>,
    /// Tensors that the adapter changed.
    pub merged: usize,
    /// Tensors that changed their type.
    pub converted: usize,
    /// Tensors of the adapter that were left out, as llama.cpp does.
    pub ignored: Vec<String>,
}

/// Merges.
///
/// # Errors
/// The adapter is of another model, the disk's, an interrupt.
pub fn run(request: &Request, host: &dyn Host) -> Result<Report, Stopped> {
    let begun = Instant::now();
    let model = Model::open(&request.model)?;
    let adapter = Adapter::open_for(&request.lora, &model)?;
    adapter.check(&model)?;
    let outcomes = outcomes(&model, &adapter, request.ty);
    note(host, &adapter, request.ty, &outcomes);

    let mut rewrite = Rewrite::new(&model, request.output.layout());
    merge(&mut rewrite, &model, &adapter, &outcomes, request.scale)?;
    let mut report = Report {
        files: Vec::new(),
        dry_run: request.output.dry_run,
        computed_bytes: None,
        estimated_seconds: None,
        merged: outcomes.iter().filter(|o| o.touched).count(),
        converted: outcomes.iter().filter(|o| o.from != o.to).count(),
        ignored: adapter.ignored.clone(),
    };
    if request.output.dry_run {
        rewrite.record(step(request, &outcomes, &no_sha256(), &no_sha256()));
        let plan = request.output.timed_plan(rewrite, DryRun { host, model: &model, begun })?;
        (report.files, report.computed_bytes) = (plan.files, Some(plan.computed_bytes));
        report.estimated_seconds = plan.estimated_seconds;
    } else {
        let source = sha256_of(host, &model)?;
        let adapter = adapter_sha256(&request.lora)?;
        rewrite.record(step(request, &outcomes, &source, &adapter));
        report.files = request.output.write(host, rewrite, request.engine)?;
    }
    Ok(report)
}

fn step(request: &Request, outcomes: &[Outcome], source: &str, adapter: &str) -> Step {
    let touched = outcomes.iter().filter(|o| o.touched).map(|o| o.name.as_str());
    Step::new("merge", crate::VERSION)
        .parameter("scale", request.scale)
        .parameter("type", type_name(request.ty))
        .source("model", source)
        .source("adapter", adapter)
        .changed(touched)
}

fn note(host: &dyn Host, adapter: &Adapter, ty: MergedType, outcomes: &[Outcome]) {
    for outcome in outcomes {
        let what = if outcome.touched { "merged" } else { "converted" };
        host.detail(format_args!("{what} {} {} -> {}", outcome.name, outcome.from, outcome.to));
    }
    if adapter.lacks_alpha() {
        host.say("the adapter has no alpha: like llama.cpp, aird does not divide by its rank");
    }
    if !adapter.ignored.is_empty() {
        host.warn(format_args!(
            "llama.cpp leaves out what an adapter says about norms, and so does aird: {}",
            few(&adapter.ignored)
        ));
    }
    let rounded = outcomes.iter().filter(|o| o.touched && o.to.is_quantized()).count();
    if rounded > 0 {
        host.warn(format_args!(
            "rounding to quantized types takes back part of the adapter's change in {}",
            counted(rounded, "tensor")
        ));
    }
    if let MergedType::Named(ty) = ty {
        let fell_back = outcomes.iter().filter(|o| o.to != ty && o.to != o.from).count();
        if fell_back > 0 {
            host.warn(format_args!(
                "{ty} does not fit the rows of {}: F16 instead",
                counted(fell_back, "tensor")
            ));
        }
    }
}

fn type_name(ty: MergedType) -> String {
    match ty {
        MergedType::Auto => "auto".into(),
        MergedType::Keep => "keep".into(),
        MergedType::Named(ty) => ty.name().to_lowercase(),
    }
}
