//! `aird prune`: zero the weights that matter least.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::given::{Given, StatsArgs};
use super::output::{FileReport, OutputArgs, no_sha256, sha256_of};
use super::paths::{Paths, Verb};
use super::select::{TensorArgs, parse_type};
use super::sequential::{Sequence, recollected};
use super::swept::{OUTPUT_ERROR, Sweep};
use super::text::{by_kind, counted};
use super::ui::Ui;
use crate::compress::{Count, Method, Pattern, Target, owl_allocation, prune, targets};
use crate::gguf::{GgmlType, Model, Rewrite, Step, TensorInfo, file_type_edit};
use crate::llama::graph::Structure;
use crate::quant::{is_block_matrix, keeps_zeros};
use crate::refit::{Job, Zeros};

/// Bytes of JSON for the sparsity that was reached.
const RESERVE: u64 = 64;

/// Zero the weights that matter least
#[derive(Debug, Args)]
pub struct Prune {
    /// A GGUF file; any shard of a split one.
    model: PathBuf,
    /// How weights are judged.
    #[arg(long, value_enum)]
    method: MethodArg,
    /// Part of the weights that become zero, between 0 and 1.
    #[arg(
        long,
        value_name = "X",
        allow_hyphen_values = true,
        conflicts_with = "nm",
        required_unless_present = "nm"
    )]
    sparsity: Option<f64>,
    /// Zero N of each M consecutive inputs, as 2:4. No runtime of today is faster for it.
    #[arg(long, value_name = "N:M", value_parser = parse_nm, allow_hyphen_values = true)]
    nm: Option<(usize, usize)>,
    /// How the sparsity is spread over blocks: owl prunes blocks with many outliers less.
    #[arg(long, value_enum, default_value = "uniform", conflicts_with = "nm")]
    allocation: Allocation,
    #[command(flatten)]
    tensors: TensorArgs,
    /// Type of the pruned matrices. Default: floats keep theirs, quantized ones get f16.
    #[arg(long = "type", value_parser = parse_type, value_name = "TYPE")]
    ty: Option<GgmlType>,
    #[command(flatten)]
    stats: StatsArgs,
    /// Collect statistics anew after every N blocks, from the model as pruned so far.
    #[arg(long, value_name = "N", requires = "data", conflicts_with = "stats",
        value_parser = clap::value_parser!(u32).range(1..))]
    sequential: Option<u32>,
    #[command(flatten)]
    out: OutputArgs,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum MethodArg {
    /// By size, against one threshold a matrix.
    Magnitude,
    /// By size times input, within a row; needs statistics.
    Wanda,
    /// By relative size times the root of the input; needs statistics.
    Ria,
    /// By the loss that remains once the other weights are adjusted, as they are; needs --data.
    #[value(name = "sparsegpt")]
    SparseGpt,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Allocation {
    Uniform,
    Owl,
}

/// What `aird prune --json` prints.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Files that were (with `--dry-run`, would be) written.
    pub files: Vec<FileReport>,
    /// True if nothing was written.
    pub dry_run: bool,
    /// Matrices pruned.
    pub pruned: usize,
    /// Part of their elements that is zero in the file; null with `--dry-run`.
    pub sparsity: Option<f64>,
    /// sparsegpt: the mean error of what matrices put out, on held-out samples; null for others.
    pub output_error: Option<f64>,
    /// Sparsity asked of each block, if they differ.
    pub by_block: Option<Vec<f64>>,
    /// Matrices that stay as they are, as llama.cpp's graph of this model never reads them.
    pub unread: Vec<String>,
}

impl Verb for Prune {
    fn paths(&self) -> Paths {
        self.stats.paths(&self.model, &self.out, self.method().is_some())
    }

    fn run(self, ui: &Ui) -> Result<()> {
        self.check_pattern()?;
        let Some(method) = self.method() else { return self.sweep(ui) };
        if method.needs_stats() && !self.stats.any() {
            bail!("--method {} needs --stats FILE or --data FILE", self.method_name());
        }
        if self.sequential.is_some() && !method.needs_stats() {
            bail!("--sequential is about statistics, and --method magnitude reads none");
        }
        if self.stats.any() && !method.needs_stats() && self.allocation == Allocation::Uniform {
            bail!("--method magnitude needs no statistics: leave --stats and --data out");
        }
        let model = Model::open(&self.model)?;
        let structure = ui.prober().structure(&model)?;
        // What cannot be pruned or written is reported before minutes of calibration.
        let targets = self.targets(&model, &structure, None)?;
        let mut plan = Rewrite::new(&model, self.out.layout());
        prune(&mut plan, &model, None, Method::Magnitude, &targets, &Arc::default())?;
        self.out.check_room(&plan)?;
        let given = match self.out.dry_run && self.stats.stats.is_none() {
            true => None,
            false => self.stats.given(ui, &model, &self.out.output)?,
        };
        let by_block = self.allocate(ui, &model, &structure, given.as_ref())?;
        let targets = self.targets(&model, &structure, by_block.as_deref())?;
        let unread = self.unread(&model, &structure);
        self.tell(ui, &targets, &unread)?;
        let given = self.in_sequence(ui, &model, (method, &targets), given)?;

        let mut rewrite = Rewrite::new(&model, self.out.layout());
        let count = Arc::new(Count::default());
        let stats = given.as_ref().map(|g| &g.stats);
        // Without statistics there is no more than a plan to make, and any method has the same.
        let method = if stats.is_some() { method } else { Method::Magnitude };
        prune(&mut rewrite, &model, stats, method, &targets, &count)?;
        let converted = targets.iter().find(|t| t.from != t.to).map(|t| t.to);
        converted.and_then(file_type_edit).into_iter().for_each(|edit| rewrite.edit(edit));
        let files = if self.out.dry_run {
            rewrite.record_measured(self.step(&targets, &no_sha256(), None), RESERVE, |s| s);
            self.out.plan(ui, &rewrite, self.json)?
        } else {
            let step = self.step(&targets, &sha256_of(ui, &model)?, given.as_ref());
            let counted = Arc::clone(&count);
            let complete = move |step: Step| step.parameter("achieved", rounded(&counted));
            rewrite.record_measured(step, RESERVE, complete);
            self.out.write(ui, rewrite, self.stats.engine.options())?
        };
        let sparsity = (!self.out.dry_run).then(|| count.sparsity());
        self.print(ui, files, &targets, (sparsity, None), (by_block, unread))
    }
}

impl Prune {
    /// How much is asked for, before anything is read.
    fn check_pattern(&self) -> Result<()> {
        if self.sparsity == Some(0.0) {
            bail!("--sparsity 0 zeroes no weight: there is nothing to prune");
        }
        match self.nm {
            Some((0, m)) => bail!("--nm 0:{m} zeroes no weight: there is nothing to prune"),
            Some((n, m)) if n > m => {
                bail!("--nm {n}:{m} asks for {n} zeros of each {m} weights, expected N below M")
            }
            Some((n, m)) => check(Pattern::OfEach { n, m }),
            None => check(Pattern::Ratio(self.sparsity.unwrap_or_default())),
        }
    }

    /// How weights are scored; None where a sweep chooses them.
    fn method(&self) -> Option<Method> {
        match self.method {
            MethodArg::Magnitude => Some(Method::Magnitude),
            MethodArg::Wanda => Some(Method::Wanda),
            MethodArg::Ria => Some(Method::Ria),
            MethodArg::SparseGpt => None,
        }
    }

    /// `--method sparsegpt`: weights chosen and made up for in one sweep.
    fn sweep(&self, ui: &Ui) -> Result<()> {
        Sweep::check(&self.stats, "sparsegpt")?;
        if self.sequential.is_some() || self.allocation == Allocation::Owl {
            bail!("--method sparsegpt goes block by block by itself, each pruned as much");
        }
        let model = Model::open(&self.model)?;
        let structure = ui.prober().structure(&model)?;
        let targets = self.targets(&model, &structure, None)?;
        let mut plan = Rewrite::new(&model, self.out.layout());
        prune(&mut plan, &model, None, Method::Magnitude, &targets, &Arc::default())?;
        self.out.check_room(&plan)?;
        let unread = self.unread(&model, &structure);
        self.tell(ui, &targets, &unread)?;
        if self.out.dry_run {
            plan.record_measured(self.step(&targets, &no_sha256(), None), RESERVE, |s| s);
            let files = self.out.plan(ui, &plan, self.json)?;
            return self.print(ui, files, &targets, (None, None), (None, unread));
        }
        let source = sha256_of(ui, &model)?;
        let job = |info: &TensorInfo| {
            let target = targets.iter().find(|t| t.name == info.name)?;
            Some(Job::Swept { ty: target.to, zeros: Zeros::Least(target.pattern) })
        };
        let output = &self.out.output;
        let bytes = 2 * plan.plan(output)?.bytes();
        let sweep = Sweep { model: &model, stats: &self.stats, output, bytes, jobs: &job };
        let swept = sweep.run(ui, &self.step(&targets, &source, None))?;
        swept.warn_of_stacked(ui, "not pruned");
        let is_swept = |target: &&Target| swept.has(&target.name);
        let targets: Vec<Target> = targets.iter().filter(is_swept).cloned().collect();
        let count = Count::default();
        swept.tensors().try_for_each(|tensor| count.add(tensor))?;
        let mut rewrite = Rewrite::new(&model, self.out.layout());
        swept.write_into(&mut rewrite)?;
        let converted = targets.iter().find(|t| t.from != t.to).map(|t| t.to);
        converted.and_then(file_type_edit).into_iter().for_each(|edit| rewrite.edit(edit));
        let step = swept.recorded(self.step(&targets, &source, None));
        rewrite.record(step.parameter("achieved", rounded(&count)));
        let files = self.out.write(ui, rewrite, self.stats.engine.options())?;
        let measured = (Some(count.sparsity()), Some(swept.error()));
        swept.remove();
        self.print(ui, files, &targets, measured, (None, unread))
    }

    fn method_name(&self) -> String {
        self.method.to_possible_value().map_or_else(String::new, |v| v.get_name().into())
    }

    fn targets(
        &self,
        model: &Model,
        structure: &Structure,
        by_block: Option<&[f64]>,
    ) -> Result<Vec<Target>> {
        let pattern = |block: u32| match (self.nm, by_block) {
            (Some((n, m)), _) => Pattern::OfEach { n, m },
            (None, Some(by_block)) => Pattern::Ratio(by_block[block as usize]),
            (None, None) => Pattern::Ratio(self.sparsity.unwrap_or_default()),
        };
        let wanted = |info: &TensorInfo| self.tensors.wants(info) && structure.reads(&info.name);
        let targets = targets(model, self.ty, pattern, wanted)?;
        if targets.is_empty() {
            bail!("no matrix of a block is left by --blocks, --include and --exclude");
        }
        Ok(targets)
    }

    /// Matrices that were asked for and that llama.cpp's graph never reads: nothing tells which of
    /// their weights matter.
    fn unread(&self, model: &Model, structure: &Structure) -> Vec<String> {
        let infos = model.tensors().map(|tensor| tensor.info);
        let unread = infos.filter(|info| {
            is_block_matrix(info) && self.tensors.wants(info) && !structure.reads(&info.name)
        });
        unread.map(|info| info.name.clone()).collect()
    }

    fn allocate(
        &self,
        ui: &Ui,
        model: &Model,
        structure: &Structure,
        given: Option<&Given>,
    ) -> Result<Option<Vec<f64>>> {
        if self.allocation == Allocation::Uniform {
            return Ok(None);
        }
        let Some(given) = given else {
            if self.out.dry_run {
                return Ok(None);
            }
            bail!("--allocation owl needs --stats FILE or --data FILE");
        };
        let n_block = model.tensors().filter_map(|t| t.info.block()).max().map_or(0, |b| b + 1);
        let sparsity = self.sparsity.unwrap_or_default();
        let (stats, reads) = (&given.stats, |info: &TensorInfo| structure.reads(&info.name));
        let n_block = n_block as usize;
        Ok(Some(owl_allocation(model, stats, sparsity, n_block, reads, ui)?))
    }

    fn in_sequence(
        &self,
        ui: &Ui,
        model: &Model,
        (method, targets): (Method, &[Target]),
        given: Option<Given>,
    ) -> Result<Option<Given>> {
        let Some(n_blocks) = self.sequential else { return Ok(given) };
        let engine = &self.stats.engine;
        let sequence = Sequence { model, method, targets, n_blocks: n_blocks as usize, engine };
        given.map(|given| recollected(ui, &sequence, given)).transpose()
    }

    fn tell(&self, ui: &Ui, targets: &[Target], unread: &[String]) -> Result<()> {
        if !unread.is_empty() {
            ui.say(format_args!(
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
            ui.detail(format_args!("prune {name} {from} -> {to}, {much}"));
        }
        let mut lossy: Vec<GgmlType> = targets.iter().map(|t| t.to).collect();
        lossy.sort_by_key(|ty| ty.id());
        lossy.dedup();
        for ty in lossy.into_iter().filter(|ty| !keeps_zeros(*ty)) {
            ui.warn(format_args!(
                "{ty} has no exact zero: most pruned weights come out near zero, not at it"
            ));
        }
        if let Some(ty) = self.ty {
            let fell_back = targets.iter().filter(|t| t.to != ty).count();
            if fell_back > 0 {
                let to = targets.iter().find(|t| t.to != ty).map_or(ty, |t| t.to);
                ui.warn(format_args!(
                    "{ty} does not fit the rows of {}: {to} instead",
                    counted(fell_back, "tensor")
                ));
            }
        }
        Ok(())
    }

    fn step(&self, targets: &[Target], source: &str, given: Option<&Given>) -> Step {
        let mut step = Step::new("prune", crate::VERSION).parameter("method", self.method_name());
        if let Some(sparsity) = self.sparsity {
            step = step.parameter("sparsity", sparsity);
        }
        if let Some((n, m)) = self.nm {
            step = step.parameter("pattern", format!("{n}:{m}"));
        }
        if self.allocation == Allocation::Owl {
            step = step.parameter("allocation", "owl");
        }
        if let Some(n_blocks) = self.sequential {
            step = step.parameter("sequential", n_blocks);
        }
        // A sweep's parts depend on the type.
        if let (true, Some(ty)) = (self.method().is_none(), self.ty) {
            step = step.parameter("type", ty.name().to_lowercase());
        }
        step = self.tensors.recorded(step).source("model", source);
        if let Some(given) = given {
            step = step.source("stats", &given.sha256);
        } else if self.stats.any() && self.method().is_some() {
            step = step.source("stats", &no_sha256());
        }
        step.changed(targets.iter().map(|t| t.name.as_str()))
    }

    fn print(
        &self,
        ui: &Ui,
        files: Vec<FileReport>,
        targets: &[Target],
        (sparsity, output_error): (Option<f64>, Option<f64>),
        (by_block, unread): (Option<Vec<f64>>, Vec<String>),
    ) -> Result<()> {
        let (dry_run, pruned) = (self.out.dry_run, targets.len());
        if self.json {
            let report =
                Report { files, dry_run, pruned, sparsity, output_error, by_block, unread };
            return ui.print_json(&report);
        }
        match sparsity {
            Some(x) => {
                let pruned = counted(pruned, "matrix");
                let mut text = format!("{:.2} % of {pruned} is zero\n", 100.0 * x);
                if let Some(error) = output_error {
                    text += &format!("{OUTPUT_ERROR} {:.1} %\n", 100.0 * error);
                }
                ui.print(text)
            }
            None => Ok(()),
        }
    }
}

/// Refuses what no matrix can be pruned by; whether one fits is seen when there is one.
fn check(pattern: Pattern) -> Result<()> {
    let n_cols = match pattern {
        Pattern::OfEach { m, .. } => m,
        Pattern::Ratio(_) => 1,
    };
    pattern.n_zeros(n_cols)?;
    Ok(())
}

fn rounded(count: &Count) -> f64 {
    (count.sparsity() * 1e6).round() / 1e6
}

fn parse_nm(text: &str) -> Result<(usize, usize), String> {
    let pair = text.split_once(':').and_then(|(n, m)| Some((n.parse().ok()?, m.parse().ok()?)));
    pair.ok_or_else(|| "expected N:M, as 2:4".into())
}
