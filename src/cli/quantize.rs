//! `aird quantize`: fewer bits a weight.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use indexmap::IndexMap;
use serde::Serialize;

use super::given::{Given, StatsArgs};
use super::output::{FileReport, OutputArgs, no_sha256, sha256_of};
use super::paths::{Paths, Verb};
use super::select::{TypeFor, parse_type, parse_type_for};
use super::swept::{OUTPUT_ERROR, Sweep};
use super::text::{by_kind, counted};
use super::ui::Ui;
use crate::compress::faithful::Scheme;
use crate::compress::int8::{OUTLIER_THRESHOLD, outlier_columns};
use crate::compress::{
    Assignment, Coding, Folds, GroupReport, Quantizing, Stayed, WhyStayed, assign, find_scales,
    groups, lacks_importance, quantize, stayed,
};
use crate::gguf::{GgmlType, Model, Rewrite, Step, TensorInfo, file_type_edit};
use crate::refit::{Job, Zeros};
use crate::stats::Stats;

/// Quantize the weights
#[derive(Debug, Args)]
pub struct Quantize {
    /// A GGUF file; any shard of a split one.
    model: PathBuf,
    /// How weights are rounded.
    #[arg(long, value_enum)]
    method: Method,
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
    #[arg(long, value_parser = parse_type_for, value_name = "REGEX=TYPE")]
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
enum Method {
    /// Channels scaled by their activations before they are rounded; needs statistics.
    Awq,
    /// q8_0: a scale for every 32 weights.
    Int8,
    /// LLM.int8()'s integers: a scale a row.
    LlmInt8,
    /// Column by column, what one loses made up for by those still to come; needs --data.
    Gptq,
    /// Rounded to the nearest, with --stats by importance.
    Rtn,
}

/// What `aird quantize --json` prints.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Files that were (with `--dry-run`, would be) written.
    pub files: Vec<FileReport>,
    /// True if nothing was written.
    pub dry_run: bool,
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
    /// gptq: the mean error of what its matrices put out, on held-out samples; null for others.
    pub output_error: Option<f64>,
    /// What the statistics hold about tensors that the model does not have.
    pub unused_statistics: Vec<String>,
    /// awq's groups: exponents, and what the scales save.
    pub groups: Vec<GroupReport>,
    /// llm-int8: input channels that LLM.int8() computes in f16, by weight, where statistics say.
    pub outlier_columns: Vec<Outliers>,
}

/// A tensor whose rows did not fit the type that it should have got.
#[derive(Debug, Serialize)]
pub struct FellBack {
    /// The tensor.
    pub name: String,
    /// The type that was meant for it.
    pub wanted: String,
    /// The type that it got.
    pub to: String,
}

/// A tensor that keeps its type and bytes.
#[derive(Debug, Serialize)]
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
#[derive(Debug, Serialize)]
pub struct Outliers {
    /// The weight.
    pub name: String,
    /// The channels.
    pub columns: Vec<usize>,
}

impl Verb for Quantize {
    fn paths(&self) -> Paths {
        self.stats.paths(&self.model, &self.out, self.method != Method::Gptq)
    }

    fn run(self, ui: &Ui) -> Result<()> {
        self.check()?;
        let model = Model::open(&self.model)?;
        let asked = self.asked()?;
        let assignments = assign(&model, &asked)?;
        let stayed = stayed(&model, &asked, &assignments);
        if assignments.is_empty() {
            bail!("there is nothing to quantize: {}", why_nothing(&stayed));
        }
        self.check_stats(&assignments)?;
        let no_folds = Folds::default();
        let mut plan = Rewrite::new(&model, self.out.layout());
        quantize(&mut plan, &model, None, &assignments, &no_folds)?;
        self.out.check_room(&plan)?;
        if self.method == Method::Gptq && !self.out.dry_run {
            let bytes = 2 * plan.plan(&self.out.output)?.bytes();
            return self.sweep(ui, (&model, bytes), &assignments, &stayed);
        }
        let given = match self.out.dry_run && self.stats.stats.is_none() {
            true => None,
            false => self.stats.given(ui, &model, &self.out.output)?,
        };
        let stats = given.as_ref().map(|g| &g.stats);
        let mut folds = Folds::default();
        let reports = match (self.method, stats) {
            (Method::Awq, Some(stats)) => {
                self.scale(ui, &model, stats, &assignments, &mut folds)?
            }
            _ => Vec::new(),
        };
        self.tell(ui, &assignments, &reports);
        tell_stayed(ui, &stayed);
        if let Some(stats) = stats {
            self.tell_lacking(ui, stats, &assignments);
        }

        let mut rewrite = Rewrite::new(&model, self.out.layout());
        quantize(&mut rewrite, &model, stats, &assignments, &folds)?;
        file_type_edit(self.ty()).into_iter().for_each(|edit| rewrite.edit(edit));
        let files = if self.out.dry_run {
            rewrite.record(self.step(&assignments, &no_sha256(), None));
            self.out.plan(ui, &rewrite, self.json)?
        } else {
            rewrite.record(self.step(&assignments, &sha256_of(ui, &model)?, given.as_ref()));
            self.out.write(ui, rewrite, self.stats.engine.options())?
        };
        self.print(ui, files, (&assignments, &stayed), reports, (given.as_ref(), None))
    }
}

impl Quantize {
    fn check(&self) -> Result<()> {
        if self.method == Method::Awq && !self.stats.any() {
            bail!("--method awq needs --stats FILE or --data FILE");
        }
        if matches!(self.method, Method::Rtn | Method::Gptq) && self.ty.is_none() {
            bail!("--method {} needs --type, as q4_k", self.method_name());
        }
        if self.method == Method::Gptq {
            Sweep::check(&self.stats, "gptq")?;
        }
        let fixed = matches!(self.method, Method::Int8 | Method::LlmInt8);
        if let Some(ty) = self.ty.filter(|ty| fixed && *ty != GgmlType::Q8_0) {
            bail!("--method int8 and llm-int8 write q8_0, not {ty}\nhint: --method rtn");
        }
        if self.faithful && self.method != Method::Awq {
            bail!("--faithful is about --method awq");
        }
        Ok(())
    }

    /// Statistics take minutes to collect: only where something goes by them.
    fn check_stats(&self, assignments: &[Assignment]) -> Result<()> {
        let of_use = match self.method {
            // llm-int8 reports outlier columns.
            Method::Awq | Method::Gptq | Method::LlmInt8 => true,
            Method::Int8 | Method::Rtn => assignments.iter().any(Assignment::uses_importance),
        };
        match of_use || !self.stats.any() {
            true => Ok(()),
            false => bail!(
                "--method {} to {} needs no statistics: leave --stats and --data out",
                self.method_name(),
                self.ty().name().to_lowercase()
            ),
        }
    }

    fn method_name(&self) -> String {
        self.method.to_possible_value().map_or_else(String::new, |v| v.get_name().into())
    }

    fn ty(&self) -> GgmlType {
        match self.method {
            Method::Int8 | Method::LlmInt8 => GgmlType::Q8_0,
            _ => self.ty.unwrap_or(GgmlType::Q4_1),
        }
    }

    fn coding(&self) -> Result<Coding> {
        if self.method == Method::LlmInt8 {
            return Ok(Coding::RowWise);
        }
        if !self.faithful {
            return Ok(Coding::Ggml);
        }
        let scheme = match self.ty() {
            GgmlType::Q4_1 => Scheme::Asymmetric,
            GgmlType::Q4_0 => Scheme::Symmetric,
            ty => bail!("--faithful writes q4_1 or q4_0, not {ty}"),
        };
        Ok(Coding::Faithful { scheme, clip: true })
    }

    fn asked(&self) -> Result<Quantizing<'_>> {
        Ok(Quantizing {
            ty: self.ty(),
            coding: self.coding()?,
            output: self.output_type,
            embedding: self.embedding_type,
            linear_only: self.method == Method::LlmInt8,
            for_names: Box::new(|name: &str| {
                self.type_for.iter().find(|t| t.pattern.is_match(name)).map(|t| t.ty)
            }),
            requantize: self.requantize,
            has_importance: self.stats.any(),
        })
    }

    /// `--method gptq`: the blocks' matrices swept, the others rounded.
    fn sweep(
        &self,
        ui: &Ui,
        (model, bytes): (&Model, u64),
        assignments: &[Assignment],
        stayed: &[Stayed],
    ) -> Result<()> {
        self.tell(ui, assignments, &[]);
        tell_stayed(ui, stayed);
        let sha256 = sha256_of(ui, model)?;
        let job = |info: &TensorInfo| {
            let assignment = assignments.iter().find(|a| a.name == info.name)?;
            Some(Job::Swept { ty: assignment.to, zeros: Zeros::Own })
        };
        let output = &self.out.output;
        let sweep = Sweep { model, stats: &self.stats, output, bytes, jobs: &job };
        let swept = sweep.run(ui, &self.step(assignments, &sha256, None))?;
        swept.warn_of_stacked(ui, "rounded to the nearest");
        let rounded: Vec<Assignment> =
            assignments.iter().filter(|a| !swept.has(&a.name)).cloned().collect();
        let of_no_block =
            rounded.iter().map(|a| a.name.as_str()).filter(|n| !n.starts_with("blk."));
        if of_no_block.clone().next().is_some() {
            ui.say(format_args!(
                "outside of the blocks, rounded to the nearest: {}",
                by_kind(of_no_block)
            ));
        }
        let no_folds = Folds::default();
        let mut rewrite = Rewrite::new(model, self.out.layout());
        quantize(&mut rewrite, model, None, &rounded, &no_folds)?;
        swept.write_into(&mut rewrite)?;
        file_type_edit(self.ty()).into_iter().for_each(|edit| rewrite.edit(edit));
        rewrite.record(swept.recorded(self.step(assignments, &sha256, None)));
        let files = self.out.write(ui, rewrite, self.stats.engine.options())?;
        let error = swept.error();
        swept.remove();
        self.print(ui, files, (assignments, stayed), Vec::new(), (None, Some(error)))
    }

    fn scale(
        &self,
        ui: &Ui,
        model: &Model,
        stats: &Stats,
        assignments: &[Assignment],
        folds: &mut Folds,
    ) -> Result<Vec<GroupReport>> {
        let groups = groups(model, &ui.prober().structure(model)?);
        Ok(find_scales(model, stats, &groups, assignments, folds, ui)?)
    }

    fn tell(&self, ui: &Ui, assignments: &[Assignment], reports: &[GroupReport]) {
        for a in assignments {
            let how = match a.coding {
                Coding::Ggml => "",
                Coding::RowWise => ", a scale a row",
                Coding::Faithful { .. } => ", in groups of 128",
            };
            ui.detail(format_args!("quantize {} {} -> {}{how}", a.name, a.from, a.to));
        }
        for GroupReport { name, exponent, relative_loss } in reports {
            let kept = 100.0 * relative_loss;
            ui.detail(format_args!("scale {name}: exponent {exponent:.2}, error {kept:.0} %"));
        }
        for ((wanted, to), names) in fallbacks(assignments) {
            ui.warn(format_args!(
                "{wanted} does not fit the rows of {}, so {to} is used: {}",
                counted(names.len(), "tensor"),
                by_kind(names)
            ));
        }
        let other_grid = |a: &&Assignment| a.coding == Coding::Ggml && a.to == self.ty();
        let n =
            assignments.iter().filter(other_grid).filter(|a| a.name.starts_with("blk.")).count();
        if self.faithful && n > 0 {
            ui.warn(format_args!(
                "groups of 128 do not fit the rows of {}, rounded as ggml does",
                counted(n, "tensor")
            ));
        }
        if assignments.iter().any(|a| a.from.is_quantized()) {
            ui.warn("quantized tensors are quantized once more: their errors add up");
        }
        if !reports.is_empty() {
            ui.say("scales are folded into the weights: adapters made before no longer fit");
        }
    }

    fn tell_lacking(&self, ui: &Ui, stats: &Stats, assignments: &[Assignment]) {
        let mut lacking = lacks_importance(stats, assignments);
        // No statistics hold what is looked up, and few the input of the output head.
        lacking.retain(|name| name.starts_with("blk."));
        if !lacking.is_empty() {
            ui.warn(format_args!(
                "the statistics say nothing about {}, rounded without importance: {}",
                counted(lacking.len(), "tensor"),
                by_kind(lacking.iter().map(String::as_str))
            ));
        }
        let has_sizes = stats.inputs.values().any(|input| input.max_abs.is_some());
        if self.method == Method::LlmInt8 && !has_sizes {
            ui.warn("the statistics do not hold the largest inputs: outlier columns are not known");
        }
    }

    fn step(&self, assignments: &[Assignment], source: &str, given: Option<&Given>) -> Step {
        let mut step = Step::new("quantize", crate::VERSION)
            .parameter("method", self.method_name())
            .parameter("type", self.ty().name().to_lowercase());
        if self.faithful {
            step = step.parameter("faithful", true);
        }
        let named = [("output_type", self.output_type), ("embedding_type", self.embedding_type)];
        for (name, ty) in named {
            if let Some(ty) = ty {
                step = step.parameter(name, ty.name().to_lowercase());
            }
        }
        if !self.type_for.is_empty() {
            let text = |t: &TypeFor| format!("{}={}", t.pattern, t.ty.name().to_lowercase());
            step = step.parameter("type_for", self.type_for.iter().map(text).collect::<Vec<_>>());
        }
        step = step.source("model", source);
        if let Some(given) = given {
            step = step.source("stats", &given.sha256);
        }
        step.changed(assignments.iter().map(|a| a.name.as_str()))
    }

    fn print(
        &self,
        ui: &Ui,
        files: Vec<FileReport>,
        (assignments, stayed): (&[Assignment], &[Stayed]),
        groups: Vec<GroupReport>,
        (given, output_error): (Option<&Given>, Option<f64>),
    ) -> Result<()> {
        let stats = given.map(|g| &g.stats);
        let unseen = stats.into_iter().flat_map(Stats::unseen_experts);
        let report = Report {
            files,
            dry_run: self.out.dry_run,
            quantized: assignments.len(),
            fell_back: assignments.iter().filter_map(FellBack::of).collect(),
            stayed: stayed.iter().map(Into::into).collect(),
            without_importance: stats
                .map(|stats| lacks_importance(stats, assignments))
                .unwrap_or_default(),
            unseen_experts: unseen.map(|(w, e)| format!("{w}#{e}")).collect(),
            unused_statistics: given.map(|g| g.beyond.clone()).unwrap_or_default(),
            output_error,
            outlier_columns: self.outliers(assignments, stats),
            groups,
        };
        if self.json { ui.print_json(&report) } else { ui.print(report.text()) }
    }

    fn outliers(&self, assignments: &[Assignment], stats: Option<&Stats>) -> Vec<Outliers> {
        let outliers = |a: &Assignment| {
            let columns = outlier_columns(&stats?.inputs.get(&a.name)?.max_abs()?);
            (!columns.is_empty()).then(|| Outliers { name: a.name.clone(), columns })
        };
        match self.method {
            Method::LlmInt8 => assignments.iter().filter_map(outliers).collect(),
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

/// Warns of tensors that somebody may have expected to change; says of the others how many.
fn tell_stayed(ui: &Ui, stayed: &[Stayed]) {
    for Stayed { name, ty, why } in stayed {
        ui.detail(format_args!("keep {name} {ty}: {why}"));
    }
    for (why, names) in reasons(stayed) {
        let text = stay_text(names.len(), why);
        match why {
            WhyStayed::Vector => ui.say(text),
            why if why.is_unexpected() => ui.warn(format_args!("{text}: {}", by_kind(names))),
            _ => ui.say(format_args!("{text}: {}", by_kind(names))),
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

impl Report {
    fn text(&self) -> String {
        if self.dry_run {
            return String::new();
        }
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
