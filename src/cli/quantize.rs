//! `aird quantize`: fewer bits a weight.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::given::{Given, StatsArgs};
use super::output::{FileReport, OutputArgs, no_sha256, sha256_of};
use super::paths::{Paths, Verb};
use super::select::{TypeFor, parse_type, parse_type_for};
use super::ui::Ui;
use crate::compress::faithful::Scheme;
use crate::compress::int8::{OUTLIER_THRESHOLD, outlier_columns};
use crate::compress::{
    Assignment, Coding, Folds, GroupReport, Quantizing, assign, find_scales, groups, quantize,
};
use crate::gguf::{GgmlType, Model, Rewrite, Step, file_type_edit};
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
    pub fell_back: Vec<String>,
    /// awq's groups: exponents, and what the scales save.
    pub groups: Vec<GroupReport>,
    /// llm-int8: input channels that LLM.int8() computes in f16, by weight, where statistics say.
    pub outlier_columns: Vec<Outliers>,
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
        self.stats
            .paths(&self.out.output)
            .reads([&self.model])
            .with(self.out.force, self.out.dry_run)
    }

    fn run(self, ui: &Ui) -> Result<()> {
        self.check()?;
        let model = Model::open(&self.model)?;
        let assignments = assign(&model, &self.asked()?)?;
        if assignments.is_empty() {
            bail!("there is nothing to quantize: every matrix is of the type asked for");
        }
        let no_folds = Folds::default();
        let mut plan = Rewrite::new(&model, self.out.layout());
        quantize(&mut plan, &model, None, &assignments, &no_folds)?;
        self.out.check_room(&plan)?;
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
        self.print(ui, files, &assignments, reports, stats)
    }
}

impl Quantize {
    fn check(&self) -> Result<()> {
        if self.method == Method::Awq && !self.stats.any() {
            bail!("--method awq needs --stats FILE or --data FILE");
        }
        if self.method == Method::Rtn && self.ty.is_none() {
            bail!("--method rtn needs --type, as q4_k");
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

    fn scale(
        &self,
        ui: &Ui,
        model: &Model,
        stats: &Stats,
        assignments: &[Assignment],
        folds: &mut Folds,
    ) -> Result<Vec<GroupReport>> {
        let groups = match groups(model) {
            Ok(groups) => groups,
            Err(error) => {
                ui.warn(format_args!("{error}\nquantizing with importance alone"));
                return Ok(Vec::new());
            }
        };
        Ok(find_scales(model, stats, &groups, assignments, folds, &ui.progress())?)
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
        let fell_back: Vec<_> = assignments.iter().filter(|a| a.to != a.wanted).collect();
        if let Some(first) = fell_back.first() {
            let n = fell_back.len();
            ui.warn(format_args!(
                "rows of {n} tensors do not fit their type: {} became {}, not {}",
                first.name, first.to, first.wanted
            ));
        }
        let other_grid = |a: &&Assignment| a.coding == Coding::Ggml && a.to == self.ty();
        let n =
            assignments.iter().filter(other_grid).filter(|a| a.name.starts_with("blk.")).count();
        if self.faithful && n > 0 {
            ui.warn(format_args!(
                "rows of {n} tensors are no groups of 128: they are rounded as ggml does"
            ));
        }
        if assignments.iter().any(|a| a.from.is_quantized()) {
            ui.warn("quantized tensors are quantized once more: their errors add up");
        }
        if !reports.is_empty() {
            ui.say("scales are folded into the weights: adapters made before no longer fit");
        }
    }

    fn step(&self, assignments: &[Assignment], source: &str, given: Option<&Given>) -> Step {
        let name =
            self.method.to_possible_value().map_or_else(String::new, |v| v.get_name().into());
        let mut step = Step::new("quantize")
            .parameter("method", name)
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
        assignments: &[Assignment],
        groups: Vec<GroupReport>,
        stats: Option<&Stats>,
    ) -> Result<()> {
        let fell_back = assignments.iter().filter(|a| a.to != a.wanted).map(|a| a.name.clone());
        let report = Report {
            files,
            dry_run: self.out.dry_run,
            quantized: assignments.len(),
            fell_back: fell_back.collect(),
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

impl Report {
    fn text(&self) -> String {
        if self.dry_run {
            return String::new();
        }
        let mut text = format!("{} tensors quantized\n", self.quantized);
        if !self.groups.is_empty() {
            let n = self.groups.len() as f64;
            let mean = self.groups.iter().map(|g| g.relative_loss).sum::<f64>() / n;
            text += &format!(
                "scales of {} groups leave {:.0} % of the layers' output error, on average\n",
                self.groups.len(),
                100.0 * mean
            );
        }
        if !self.outlier_columns.is_empty() {
            let n: usize = self.outlier_columns.iter().map(|o| o.columns.len()).sum();
            text += &format!(
                "{n} input channels of {} weights reach |x| = {OUTLIER_THRESHOLD}: LLM.int8() \
                 computes those in f16\n",
                self.outlier_columns.len()
            );
        }
        text
    }
}
