//! Zero the weights that matter least.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::calibration::CalibrationSetup;
use super::choice::TensorChoice;
use super::error::{Error, Result};
use super::estimate::DryRun;
use super::files::FileReport;
use super::host::Host;
use super::model::sha256_of;
use super::output::{Output, no_sha256};
use super::sequence::Sequence;
use super::statistics::{Given, Statistics};
use super::stopped::Stopped;
use super::sweep::Sweep;
use super::words::{by_kind, counted};
use crate::compress::{Count, Method, Pattern, Target, owl_allocation, prune, targets};
use crate::gguf::{GgmlType, Model, Rewrite, Step, TensorInfo, file_type_edit};
use crate::llama::Options;
use crate::llama::graph::Structure;
use crate::quant::{is_block_matrix, keeps_zeros};
use crate::refit::{Job, Zeros};

/// Bytes of JSON for the sparsity that was reached.
const RESERVE: u64 = 64;

/// What to prune, and how.
#[derive(Debug, Clone)]
pub struct Request {
    /// A GGUF file; any shard of a split one.
    pub model: PathBuf,
    /// How weights are chosen.
    pub choice: WeightChoice,
    /// How many weights become zero.
    pub pattern: Pattern,
    /// Which matrices.
    pub tensors: TensorChoice,
    /// Type of the pruned matrices. None: floats keep theirs, quantized ones get F16.
    pub ty: Option<GgmlType>,
    /// Where the result goes.
    pub output: Output,
    /// How llama.cpp runs.
    pub engine: Options,
}

/// How the weights to prune are chosen.
#[derive(Debug, Clone)]
pub enum WeightChoice {
    /// By a score of each weight.
    Scored(Scoring),
    /// SparseGPT: by the loss that remains once the other weights are adjusted, as they are.
    Swept(CalibrationSetup),
}

/// Weights chosen by a score of each.
#[derive(Debug, Clone)]
pub struct Scoring {
    /// The score.
    pub method: Method,
    /// What inputs are like, for methods that need to know.
    pub statistics: Statistics,
    /// OWL: prune blocks with many outliers less; needs statistics. Otherwise all alike.
    pub by_outliers: bool,
    /// Collect statistics again after so many blocks, from the model as pruned so far; needs
    /// [`Statistics::Collected`].
    pub recollect_every: Option<usize>,
}

/// What was pruned.
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
    /// Matrices pruned.
    pub pruned: usize,
    /// Part of their elements that is zero in the file; null in a dry run.
    pub sparsity: Option<f64>,
    /// SparseGPT: the mean error of what matrices put out, on held-out samples; null for others.
    pub output_error: Option<f64>,
    /// Sparsity asked of each block, if they differ.
    pub by_block: Option<Vec<f64>>,
    /// Matrices that stay as they are, as llama.cpp's graph of this model never reads them.
    pub unread: Vec<String>,
}

/// Prunes.
///
/// # Errors
/// No matrix is left to prune, rows do not fit the pattern or type, statistics are missing or of
/// another model, the disk's, an interrupt.
pub fn run(request: &Request, host: &dyn Host) -> Result<Report, Stopped> {
    let begun = Instant::now();
    request.pattern.check()?;
    let model = Model::open(&request.model)?;
    let structure = host.prober().structure(&model)?;
    let job = Pruning { request, host, model: &model, structure: &structure, begun };
    // What cannot be pruned or written is reported before minutes of calibration.
    let targets = job.targets(None)?;
    let mut plan = Rewrite::new(&model, request.output.layout());
    prune(&mut plan, &model, None, Method::Magnitude, &targets, &Arc::default())?;
    request.output.check_room(&plan)?;
    match &request.choice {
        WeightChoice::Scored(scoring) => Ok(job.by_score(scoring)?),
        WeightChoice::Swept(calibration) => Ok(job.by_sweep(calibration, plan, targets)?),
    }
}

/// A model being pruned.
struct Pruning<'a> {
    request: &'a Request,
    host: &'a dyn Host,
    model: &'a Model,
    structure: &'a Structure,
    begun: Instant,
}

impl Pruning<'_> {
    fn by_score(&self, scoring: &Scoring) -> Result<Report> {
        let Request { output, engine, ty, .. } = self.request;
        let reads_none = output.dry_run && !matches!(scoring.statistics, Statistics::File(_));
        let given = match reads_none {
            true => None,
            false => scoring.statistics.given(self.host, self.model, &output.path, *engine)?,
        };
        let by_block = self.by_block(scoring, given.as_ref())?;
        let targets = self.targets(by_block.as_deref())?;
        let unread = self.unread();
        note(self.host, *ty, &targets, &unread);
        let given = self.recollected(scoring, &targets, given)?;

        let mut rewrite = Rewrite::new(self.model, output.layout());
        let count = Arc::new(Count::default());
        let stats = given.as_ref().map(|g| &g.stats);
        // Without statistics there is no more than a plan to make, and any method has the same.
        let method = if stats.is_some() { scoring.method } else { Method::Magnitude };
        prune(&mut rewrite, self.model, stats, method, &targets, &count)?;
        edit_file_type(&mut rewrite, &targets);
        let mut report = self.report(targets.len(), unread);
        report.by_block = by_block;
        if output.dry_run {
            rewrite.record_measured(self.step(&targets, &no_sha256(), None), RESERVE, |s| s);
            return match given.is_some() || !scoring.needs_statistics() {
                true => self.timed(report, rewrite),
                false => self.planned(report, &rewrite),
            };
        }
        let step = self.step(&targets, &sha256_of(self.host, self.model)?, given.as_ref());
        let counted = Arc::clone(&count);
        let complete = move |step: Step| step.parameter("achieved", rounded(&counted));
        rewrite.record_measured(step, RESERVE, complete);
        report.files = output.write(self.host, rewrite, *engine)?;
        report.sparsity = Some(count.sparsity());
        Ok(report)
    }

    /// Weights chosen and made up for in one sweep.
    fn by_sweep(
        &self,
        calibration: &CalibrationSetup,
        mut plan: Rewrite<'_>,
        targets: Vec<Target>,
    ) -> Result<Report> {
        let Request { output, engine, ty, .. } = self.request;
        let unread = self.unread();
        note(self.host, *ty, &targets, &unread);
        if output.dry_run {
            plan.record_measured(self.step(&targets, &no_sha256(), None), RESERVE, |s| s);
            return self.planned(self.report(targets.len(), unread), &plan);
        }
        let source = sha256_of(self.host, self.model)?;
        let job = |info: &TensorInfo| {
            let target = targets.iter().find(|t| t.name == info.name)?;
            Some(Job::Swept { ty: target.to, zeros: Zeros::Least(target.pattern) })
        };
        let sweep = Sweep {
            model: self.model,
            calibration,
            output: &output.path,
            bytes: 2 * plan.plan(&output.path)?.bytes(),
            jobs: &job,
            engine: *engine,
        };
        let swept = sweep.run(self.host, &self.step(&targets, &source, None))?;
        swept.warn_of_stacked(self.host, "not pruned");
        let is_swept = |target: &&Target| swept.has(&target.name);
        let targets: Vec<Target> = targets.iter().filter(is_swept).cloned().collect();
        let count = Count::default();
        swept.tensors().try_for_each(|tensor| count.add(tensor))?;
        let mut rewrite = Rewrite::new(self.model, output.layout());
        swept.write_into(&mut rewrite)?;
        edit_file_type(&mut rewrite, &targets);
        let step = swept.recorded(self.step(&targets, &source, None));
        rewrite.record(step.parameter("achieved", rounded(&count)));
        let mut report = self.report(targets.len(), unread);
        report.files = output.write(self.host, rewrite, *engine)?;
        report.sparsity = Some(count.sparsity());
        report.output_error = Some(swept.error());
        swept.remove();
        Ok(report)
    }

    fn report(&self, pruned: usize, unread: Vec<String>) -> Report {
        Report {
            files: Vec::new(),
            dry_run: self.request.output.dry_run,
            computed_bytes: None,
            estimated_seconds: None,
            pruned,
            sparsity: None,
            output_error: None,
            by_block: None,
            unread,
        }
    }

    /// The report of a dry run, with the time that it would take.
    fn timed(&self, report: Report, rewrite: Rewrite<'_>) -> Result<Report> {
        let run = DryRun { host: self.host, model: self.model, begun: self.begun };
        let plan = self.request.output.timed_plan(rewrite, run)?;
        let estimated_seconds = plan.estimated_seconds;
        let computed_bytes = Some(plan.computed_bytes);
        Ok(Report { files: plan.files, computed_bytes, estimated_seconds, ..report })
    }

    /// The report of a dry run of what takes a time that is not known before.
    fn planned(&self, report: Report, rewrite: &Rewrite<'_>) -> Result<Report> {
        let plan = self.request.output.plan(rewrite)?;
        Ok(Report { files: plan.files, computed_bytes: Some(plan.computed_bytes), ..report })
    }

    fn targets(&self, by_block: Option<&[f64]>) -> Result<Vec<Target>> {
        let pattern = |block: u32| match by_block {
            Some(by_block) => Pattern::Ratio(by_block[block as usize]),
            None => self.request.pattern,
        };
        let wanted = |info: &TensorInfo| {
            self.request.tensors.wants(info) && self.structure.reads(&info.name)
        };
        let targets = targets(self.model, self.request.ty, pattern, wanted)?;
        match targets.is_empty() {
            true => Err(Error::NothingChosen),
            false => Ok(targets),
        }
    }

    /// Matrices that were asked for and that llama.cpp's graph never reads: nothing says which of
    /// their weights matter.
    fn unread(&self) -> Vec<String> {
        let infos = self.model.tensors().map(|tensor| tensor.info);
        let unread = infos.filter(|info| {
            is_block_matrix(info)
                && self.request.tensors.wants(info)
                && !self.structure.reads(&info.name)
        });
        unread.map(|info| info.name.clone()).collect()
    }

    /// The sparsity of each block, where they differ.
    fn by_block(&self, scoring: &Scoring, given: Option<&Given>) -> Result<Option<Vec<f64>>> {
        let (true, Some(given), Pattern::Ratio(sparsity)) =
            (scoring.by_outliers, given, self.request.pattern)
        else {
            return Ok(None);
        };
        let last = self.model.tensors().filter_map(|t| t.info.block()).max();
        let n_block = last.map_or(0, |block| block as usize + 1);
        let reads = |info: &TensorInfo| self.structure.reads(&info.name);
        let stats = &given.stats;
        Ok(Some(owl_allocation(self.model, stats, sparsity, n_block, reads, self.host)?))
    }

    fn recollected(
        &self,
        scoring: &Scoring,
        targets: &[Target],
        given: Option<Given>,
    ) -> Result<Option<Given>> {
        let Some(n_blocks) = scoring.recollect_every else { return Ok(given) };
        let (model, method, engine) = (self.model, scoring.method, self.request.engine);
        let sequence = Sequence { model, method, targets, n_blocks, engine };
        given.map(|given| sequence.recollected(self.host, given)).transpose()
    }

    fn step(&self, targets: &[Target], source: &str, given: Option<&Given>) -> Step {
        let mut step =
            Step::new("prune", crate::VERSION).parameter("method", self.request.choice.name());
        step = match self.request.pattern {
            Pattern::Ratio(sparsity) => step.parameter("sparsity", sparsity),
            Pattern::OfEach { n, m } => step.parameter("pattern", format!("{n}:{m}")),
        };
        let mut has_statistics = false;
        match &self.request.choice {
            WeightChoice::Scored(scoring) => {
                if scoring.by_outliers {
                    step = step.parameter("allocation", "owl");
                }
                if let Some(n_blocks) = scoring.recollect_every {
                    step = step.parameter("sequential", n_blocks);
                }
                has_statistics = scoring.statistics.any();
            }
            WeightChoice::Swept(_) => {
                // A sweep's parts depend on the type.
                if let Some(ty) = self.request.ty {
                    step = step.parameter("type", ty.name().to_lowercase());
                }
            }
        }
        step = self.request.tensors.recorded(step).source("model", source);
        if let Some(given) = given {
            step = step.source("stats", &given.sha256);
        } else if has_statistics {
            step = step.source("stats", &no_sha256());
        }
        step.changed(targets.iter().map(|t| t.name.as_str()))
    }
}

impl Scoring {
    /// True if it goes by statistics.
    fn needs_statistics(&self) -> bool {
        self.method.needs_stats() || self.by_outliers || self.statistics.any()
    }
}

impl WeightChoice {
    /// The method's name, as files record it.
    fn name(&self) -> &'static str {
        match self {
            WeightChoice::Scored(Scoring { method: Method::Magnitude, .. }) => "magnitude",
            WeightChoice::Scored(Scoring { method: Method::Wanda, .. }) => "wanda",
            WeightChoice::Scored(Scoring { method: Method::Ria, .. }) => "ria",
            WeightChoice::Swept(_) => "sparsegpt",
        }
    }
}

/// Notes what will be pruned, and what may not be as expected.
fn note(host: &dyn Host, ty: Option<GgmlType>, targets: &[Target], unread: &[String]) {
    if !unread.is_empty() {
        host.say(format_args!(
            "{} of the file that llama.cpp does not read in this model: not pruned: {}",
            counted(unread.len(), "matrix"),
            by_kind(unread.iter().map(String::as_str))
        ));
    }
    for Target { name, from, to, pattern } in targets {
        let much = match pattern {
            Pattern::Ratio(ratio) => format!("{:.1} %", 100.0 * ratio),
            Pattern::OfEach { n, m } => format!("{n} of {m}"),
        };
        host.detail(format_args!("prune {name} {from} -> {to}, {much}"));
    }
    let mut lossy: Vec<GgmlType> = targets.iter().map(|t| t.to).collect();
    lossy.sort_by_key(|ty| ty.id());
    lossy.dedup();
    for ty in lossy.into_iter().filter(|ty| !keeps_zeros(*ty)) {
        host.warn(format_args!(
            "{ty} has no exact zero: most pruned weights come out near zero, not at it"
        ));
    }
    let Some(ty) = ty else { return };
    let others: Vec<GgmlType> = targets.iter().map(|t| t.to).filter(|to| *to != ty).collect();
    if let Some(to) = others.first() {
        host.warn(format_args!(
            "{ty} does not fit the rows of {}: {to} instead",
            counted(others.len(), "tensor")
        ));
    }
}

/// Sets the file's own type, where matrices changed theirs.
fn edit_file_type(rewrite: &mut Rewrite<'_>, targets: &[Target]) {
    let converted = targets.iter().find(|t| t.from != t.to).map(|t| t.to);
    if let Some(edit) = converted.and_then(file_type_edit) {
        rewrite.edit(edit);
    }
}

fn rounded(count: &Count) -> f64 {
    (count.sparsity() * 1e6).round() / 1e6
}
