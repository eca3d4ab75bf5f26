//! Quantize the weights.

use std::path::PathBuf;
use std::time::Instant;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::calibration::CalibrationSetup;
use super::choice::TypeFor;
use super::error::{Error, Result};
use super::estimate::DryRun;
use super::files::FileReport;
use super::host::Host;
use super::model::sha256_of;
use super::output::{Output, no_sha256};
use super::statistics::{Given, Statistics, unseen_experts};
use super::stopped::Stopped;
use super::sweep::Sweep;
use super::words::{by_kind, counted};
use crate::compress::faithful::Scheme;
use crate::compress::int8::outlier_columns;
use crate::compress::{
    Assignment, Coding, Folds, GroupReport, Quantizing, Stayed, WhyStayed, assign, find_scales,
    groups, lacks_importance, quantize, stayed,
};
use crate::gguf::{GgmlType, Model, Rewrite, Step, TensorInfo, block_of, file_type_edit};
use crate::llama::Options;
use crate::refit::{Job, Zeros};
use crate::stats::Stats;

/// What to quantize, and how.
#[derive(Debug, Clone)]
pub struct Request {
    /// A GGUF file; any shard of a split one.
    pub model: PathBuf,
    /// How weights are rounded.
    pub method: Method,
    /// Type of the matrices; Q8_0 for the two methods of 8 bits.
    pub ty: GgmlType,
    /// Type of the output head; None, as llama-quantize: Q6_K where `ty` is coarser.
    pub output_type: Option<GgmlType>,
    /// Type of the token embeddings; None: `ty`, or the head's where they are tied.
    pub embedding_type: Option<GgmlType>,
    /// Types by name; the first match counts.
    pub type_for: Vec<TypeFor>,
    /// Quantize what is quantized already: its errors add up.
    pub requantize: bool,
    /// Where the result goes.
    pub output: Output,
    /// How llama.cpp runs.
    pub engine: Options,
}

/// How weights are rounded.
#[derive(Debug, Clone)]
pub enum Method {
    /// AWQ: channels scaled by their activations before they are rounded.
    Awq {
        /// What the activations are.
        statistics: Statistics,
        /// On the reference's grid, of groups of 128 with clipped ranges.
        scheme: Option<Scheme>,
    },
    /// Q8_0: a scale for every 32 weights.
    Int8(Statistics),
    /// LLM.int8()'s integers: a scale a row.
    LlmInt8(Statistics),
    /// GPTQ: column by column, what one loses made up for by those still to come.
    Gptq(CalibrationSetup),
    /// Rounded to the nearest, with statistics by importance.
    Rtn(Statistics),
}

/// What was quantized.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Files that were (in a dry run, would be) written.
    pub files: Vec<FileReport>,
    /// True if nothing was written.
    pub dry_run: bool,
    /// In a dry run: bytes of the tensors that would be computed, not copied.
    pub computed_bytes: Option<u64>,
    /// In a dry run: seconds that the run would take here; null where that is not known, as where
    /// statistics are to be collected first.
    pub estimated_seconds: Option<f64>,
    /// Tensors quantized.
    pub quantized: usize,
    /// Tensors whose rows did not fit the type, which got another.
    pub fell_back: Vec<FellBack>,
    /// Tensors that keep their type and bytes.
    pub stayed: Vec<StayedReport>,
    /// Tensors that were rounded without importance, as the statistics say nothing about them.
    pub without_importance: Vec<String>,
    /// Experts that the statistics saw no row of, as `weight#index`: rounded without importance.
    pub unseen_experts: Vec<String>,
    /// GPTQ: the mean error of what its matrices put out, on held-out samples; null for others.
    pub output_error: Option<f64>,
    /// What the statistics hold about tensors that the model does not have.
    pub unused_statistics: Vec<String>,
    /// AWQ's groups: exponents, and what the scales save.
    pub groups: Vec<GroupReport>,
    /// LLM.int8(): input channels that LLM.int8() computes in f16, by weight, where statistics say.
    pub outlier_columns: Vec<Outliers>,
}

/// A tensor whose rows did not fit the type that it should have got.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FellBack {
    /// The tensor.
    pub name: String,
    /// The type that was meant for it.
    pub wanted: String,
    /// The type that it got.
    pub to: String,
}

/// A tensor that keeps its type and bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StayedReport {
    /// The tensor.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub ty: String,
    /// Why.
    pub reason: String,
}

/// Input channels of a weight whose largest |x| reaches LLM.int8()'s threshold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outliers {
    /// The weight.
    pub name: String,
    /// The channels.
    pub columns: Vec<usize>,
}

/// Quantizes.
///
/// # Errors
/// There is nothing to quantize, statistics are of another model or of no use, the disk's, an
/// interrupt.
pub fn run(request: &Request, host: &dyn Host) -> Result<Report, Stopped> {
    let begun = Instant::now();
    let model = Model::open(&request.model)?;
    let asked = request.quantizing();
    let assignments = assign(&model, &asked)?;
    let stayed = stayed(&model, &asked, &assignments);
    if assignments.is_empty() {
        let why = why_nothing(&stayed);
        return Err(Error::Sentence(format!("there is nothing to quantize: {why}")).into());
    }
    request.check_statistics(&assignments)?;
    let no_folds = Folds::default();
    let mut plan = Rewrite::new(&model, request.output.layout());
    quantize(&mut plan, &model, None, &assignments, &no_folds)?;
    request.output.check_room(&plan)?;
    let job = Rounding { request, host, model: &model, assignments, stayed, begun };
    match &request.method {
        Method::Gptq(texts) if !request.output.dry_run => {
            let bytes = 2 * plan.plan(&request.output.path)?.bytes();
            Ok(job.by_sweep(texts, bytes)?)
        }
        _ => Ok(job.each()?),
    }
}

impl Method {
    /// The method's name, as files record it.
    pub fn name(&self) -> &'static str {
        match self {
            Method::Awq { .. } => "awq",
            Method::Int8(_) => "int8",
            Method::LlmInt8(_) => "llm-int8",
            Method::Gptq(_) => "gptq",
            Method::Rtn(_) => "rtn",
        }
    }

    /// Statistics that it goes by.
    fn statistics(&self) -> &Statistics {
        match self {
            Method::Awq { statistics, .. }
            | Method::Int8(statistics)
            | Method::LlmInt8(statistics)
            | Method::Rtn(statistics) => statistics,
            Method::Gptq(_) => &Statistics::None,
        }
    }

    fn coding(&self) -> Coding {
        match self {
            Method::LlmInt8(_) => Coding::RowWise,
            Method::Awq { scheme: Some(scheme), .. } => {
                Coding::Faithful { scheme: *scheme, clip: true }
            }
            _ => Coding::Ggml,
        }
    }

    fn is_faithful(&self) -> bool {
        matches!(self, Method::Awq { scheme: Some(_), .. })
    }
}

impl Request {
    fn quantizing(&self) -> Quantizing<'_> {
        Quantizing {
            ty: self.ty,
            coding: self.method.coding(),
            output: self.output_type,
            embedding: self.embedding_type,
            linear_only: matches!(self.method, Method::LlmInt8(_)),
            for_names: Box::new(|name: &str| {
                self.type_for.iter().find(|t| t.pattern.is_match(name)).map(|t| t.ty)
            }),
            requantize: self.requantize,
            has_importance: self.method.statistics().any() || self.is_swept(),
        }
    }

    fn is_swept(&self) -> bool {
        matches!(self.method, Method::Gptq(_))
    }

    /// Statistics take minutes to collect: only where something goes by them.
    fn check_statistics(&self, assignments: &[Assignment]) -> Result<()> {
        let is_of_use = match self.method {
            // LLM.int8() reports outlier columns.
            Method::Awq { .. } | Method::Gptq(_) | Method::LlmInt8(_) => true,
            Method::Int8(_) | Method::Rtn(_) => assignments.iter().any(Assignment::uses_importance),
        };
        match is_of_use || !self.method.statistics().any() {
            true => Ok(()),
            false => Err(Error::NeedsNoStatistics {
                method: self.method.name(),
                ty: self.ty.name().to_lowercase(),
            }),
        }
    }
}

/// A model being quantized.
struct Rounding<'a> {
    request: &'a Request,
    host: &'a dyn Host,
    model: &'a Model,
    assignments: Vec<Assignment>,
    stayed: Vec<Stayed>,
    begun: Instant,
}

impl Rounding<'_> {
    /// Each matrix rounded by itself.
    fn each(&self) -> Result<Report> {
        let Request { method, output, engine, .. } = self.request;
        let reads_none = output.dry_run && !matches!(method.statistics(), Statistics::File(_));
        let given = match reads_none {
            true => None,
            false => method.statistics().given(self.host, self.model, &output.path, *engine)?,
        };
        let stats = given.as_ref().map(|g| &g.stats);
        let mut folds = Folds::default();
        let groups = match (method, stats) {
            (Method::Awq { .. }, Some(stats)) => self.scale(stats, &mut folds)?,
            _ => Vec::new(),
        };
        self.note(&groups);
        note_stayed(self.host, &self.stayed);
        if let Some(stats) = stats {
            self.warn_of_lacking(stats);
        }

        let mut rewrite = Rewrite::new(self.model, output.layout());
        quantize(&mut rewrite, self.model, stats, &self.assignments, &folds)?;
        file_type_edit(self.request.ty).into_iter().for_each(|edit| rewrite.edit(edit));
        let mut report = self.report(given.as_ref(), groups);
        if output.dry_run {
            rewrite.record(self.step(&no_sha256(), None));
            let is_known = method.statistics().any() == given.is_some();
            let plan = match is_known && !self.request.is_swept() {
                true => output.timed_plan(rewrite, self.dry_run())?,
                false => output.plan(&rewrite)?,
            };
            (report.files, report.computed_bytes) = (plan.files, Some(plan.computed_bytes));
            report.estimated_seconds = plan.estimated_seconds;
        } else {
            rewrite.record(self.step(&sha256_of(self.host, self.model)?, given.as_ref()));
            report.files = output.write(self.host, rewrite, *engine)?;
        }
        Ok(report)
    }

    fn dry_run(&self) -> DryRun<'_> {
        DryRun { host: self.host, model: self.model, begun: self.begun }
    }

    /// The blocks' matrices swept, the others rounded.
    fn by_sweep(&self, texts: &CalibrationSetup, bytes: u64) -> Result<Report> {
        let Request { output, engine, .. } = self.request;
        self.note(&[]);
        note_stayed(self.host, &self.stayed);
        let sha256 = sha256_of(self.host, self.model)?;
        let job = |info: &TensorInfo| {
            let assignment = self.assignments.iter().find(|a| a.name == info.name)?;
            Some(Job::Swept { ty: assignment.to, zeros: Zeros::Own })
        };
        let sweep = Sweep {
            model: self.model,
            calibration: texts,
            output: &output.path,
            bytes,
            jobs: &job,
            engine: *engine,
        };
        let swept = sweep.run(self.host, &self.step(&sha256, None))?;
        swept.warn_of_stacked(self.host, "rounded to the nearest");
        let rounded: Vec<Assignment> =
            self.assignments.iter().filter(|a| !swept.has(&a.name)).cloned().collect();
        let of_no_block: Vec<&str> = rounded
            .iter()
            .map(|a| a.name.as_str())
            .filter(|name| block_of(name).is_none())
            .collect();
        if !of_no_block.is_empty() {
            self.host.say(format_args!(
                "outside of the blocks, rounded to the nearest: {}",
                by_kind(of_no_block)
            ));
        }
        let no_folds = Folds::default();
        let mut rewrite = Rewrite::new(self.model, output.layout());
        quantize(&mut rewrite, self.model, None, &rounded, &no_folds)?;
        swept.write_into(&mut rewrite)?;
        file_type_edit(self.request.ty).into_iter().for_each(|edit| rewrite.edit(edit));
        rewrite.record(swept.recorded(self.step(&sha256, None)));
        let mut report = self.report(None, Vec::new());
        report.files = output.write(self.host, rewrite, *engine)?;
        report.output_error = Some(swept.error());
        swept.remove();
        Ok(report)
    }

    fn scale(&self, stats: &Stats, folds: &mut Folds) -> Result<Vec<GroupReport>> {
        let groups = groups(self.model, &self.host.prober().structure(self.model)?);
        Ok(find_scales(self.model, stats, &groups, &self.assignments, folds, self.host)?)
    }

    /// Notes what will be rounded, and what may not be as expected.
    fn note(&self, groups: &[GroupReport]) {
        for a in &self.assignments {
            let how = match a.coding {
                Coding::Ggml => "",
                Coding::RowWise => ", a scale a row",
                Coding::Faithful { .. } => ", in groups of 128",
            };
            self.host.detail(format_args!("quantize {} {} -> {}{how}", a.name, a.from, a.to));
        }
        for GroupReport { name, exponent, relative_loss } in groups {
            let kept = 100.0 * relative_loss;
            self.host
                .detail(format_args!("scale {name}: exponent {exponent:.2}, error {kept:.0} %"));
        }
        for ((wanted, to), names) in fallbacks(&self.assignments) {
            self.host.warn(format_args!(
                "{wanted} does not fit the rows of {}, so {to} is used: {}",
                counted(names.len(), "tensor"),
                by_kind(names)
            ));
        }
        let on_other_grid = |a: &&Assignment| {
            a.coding == Coding::Ggml && a.to == self.request.ty && block_of(&a.name).is_some()
        };
        let n = self.assignments.iter().filter(on_other_grid).count();
        if self.request.method.is_faithful() && n > 0 {
            self.host.warn(format_args!(
                "groups of 128 do not fit the rows of {}, rounded as ggml does",
                counted(n, "tensor")
            ));
        }
        if self.assignments.iter().any(|a| a.from.is_quantized()) {
            self.host.warn("quantized tensors are quantized once more: their errors add up");
        }
        if !groups.is_empty() {
            self.host.say("scales are folded into the weights: adapters made before no longer fit");
        }
    }

    fn warn_of_lacking(&self, stats: &Stats) {
        let mut lacking = lacks_importance(stats, &self.assignments);
        // No statistics hold what is looked up, and few the input of the output head.
        lacking.retain(|name| block_of(name).is_some());
        if !lacking.is_empty() {
            self.host.warn(format_args!(
                "the statistics say nothing about {}, rounded without importance: {}",
                counted(lacking.len(), "tensor"),
                by_kind(lacking.iter().map(String::as_str))
            ));
        }
        let has_sizes = stats.inputs.values().any(|input| input.max_abs.is_some());
        if matches!(self.request.method, Method::LlmInt8(_)) && !has_sizes {
            self.host.warn(
                "the statistics do not hold the largest inputs: outlier columns are not known",
            );
        }
    }

    fn step(&self, source: &str, given: Option<&Given>) -> Step {
        let Request { method, ty, output_type, embedding_type, type_for, .. } = self.request;
        let mut step = Step::new("quantize", crate::VERSION)
            .parameter("method", method.name())
            .parameter("type", ty.name().to_lowercase());
        if method.is_faithful() {
            step = step.parameter("faithful", true);
        }
        for (name, ty) in [("output_type", output_type), ("embedding_type", embedding_type)] {
            if let Some(ty) = ty {
                step = step.parameter(name, ty.name().to_lowercase());
            }
        }
        if !type_for.is_empty() {
            let text = |t: &TypeFor| format!("{}={}", t.pattern, t.ty.name().to_lowercase());
            step = step.parameter("type_for", type_for.iter().map(text).collect::<Vec<_>>());
        }
        step = step.source("model", source);
        if let Some(given) = given {
            step = step.source("stats", &given.sha256);
        }
        step.changed(self.assignments.iter().map(|a| a.name.as_str()))
    }

    /// The report, but for the files.
    fn report(&self, given: Option<&Given>, groups: Vec<GroupReport>) -> Report {
        let (assignments, stats) = (&self.assignments, given.map(|g| &g.stats));
        let without_importance = stats.map(|stats| lacks_importance(stats, assignments));
        Report {
            files: Vec::new(),
            dry_run: self.request.output.dry_run,
            computed_bytes: None,
            estimated_seconds: None,
            quantized: assignments.len(),
            fell_back: assignments.iter().filter_map(FellBack::of).collect(),
            stayed: self.stayed.iter().map(Into::into).collect(),
            without_importance: without_importance.unwrap_or_default(),
            unseen_experts: stats.map(unseen_experts).unwrap_or_default(),
            unused_statistics: given.map(|g| g.beyond.clone()).unwrap_or_default(),
            output_error: None,
            outlier_columns: stats.map_or_else(Vec::new, |stats| self.outliers(stats)),
            groups,
        }
    }

    fn outliers(&self, stats: &Stats) -> Vec<Outliers> {
        let outliers = |a: &Assignment| {
            let columns = outlier_columns(&stats.inputs.get(&a.name)?.max_abs()?);
            (!columns.is_empty()).then(|| Outliers { name: a.name.clone(), columns })
        };
        match self.request.method {
            Method::LlmInt8(_) => self.assignments.iter().filter_map(outliers).collect(),
            _ => Vec::new(),
        }
    }
}

/// The tensors that fell back, by the type that was meant for them and the one that they got.
fn fallbacks(assignments: &[Assignment]) -> IndexMap<(GgmlType, GgmlType), Vec<&str>> {
    let mut by_types: IndexMap<_, Vec<&str>> = IndexMap::new();
    for a in assignments.iter().filter(|a| a.to != a.wanted) {
        by_types.entry((a.wanted, a.to)).or_default().push(&a.name);
    }
    by_types
}

/// The tensors that stay, by the reason.
fn reasons(stayed: &[Stayed]) -> IndexMap<WhyStayed, Vec<&str>> {
    let mut by_reason: IndexMap<_, Vec<&str>> = IndexMap::new();
    for s in stayed {
        by_reason.entry(s.why).or_default().push(&s.name);
    }
    by_reason
}

/// `12 tensors stay as they are: one dimension`.
fn stay_text(n: usize, why: impl std::fmt::Display) -> String {
    let stay = if n == 1 { "stays as it is" } else { "stay as they are" };
    format!("{} {stay}: {why}", counted(n, "tensor"))
}

fn why_nothing(stayed: &[Stayed]) -> String {
    let mut others = reasons(stayed);
    others.retain(|why, _| !matches!(why, WhyStayed::Vector | WhyStayed::NoWeight));
    match others.keys().all(|why| *why == WhyStayed::HasType) {
        true if !others.is_empty() => "every matrix is of the type asked for".into(),
        true => "the model has no matrix of weights".into(),
        false => {
            let text = |(why, names): (WhyStayed, Vec<&str>)| stay_text(names.len(), why);
            others.into_iter().map(text).collect::<Vec<_>>().join("; ")
        }
    }
}

/// Warns of tensors that somebody may have expected to change; notes how many others there are.
fn note_stayed(host: &dyn Host, stayed: &[Stayed]) {
    for Stayed { name, ty, why } in stayed {
        host.detail(format_args!("keep {name} {ty}: {why}"));
    }
    for (why, names) in reasons(stayed) {
        let text = stay_text(names.len(), why);
        match why {
            WhyStayed::Vector => host.say(text),
            why if why.is_unexpected() => host.warn(format_args!("{text}: {}", by_kind(names))),
            _ => host.say(format_args!("{text}: {}", by_kind(names))),
        }
    }
}

impl FellBack {
    fn of(a: &Assignment) -> Option<FellBack> {
        let (name, wanted, to) = (a.name.clone(), a.wanted.to_string(), a.to.to_string());
        (a.to != a.wanted).then_some(FellBack { name, wanted, to })
    }
}

impl From<&Stayed> for StayedReport {
    fn from(s: &Stayed) -> StayedReport {
        StayedReport { name: s.name.clone(), ty: s.ty.to_string(), reason: s.why.to_string() }
    }
}
