//! `aird prune`: its arguments, and its report in print.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use super::calibration::StatsArgs;
use super::output::{OutputArgs, print_plan};
use super::paths::{Paths, Verb};
use super::select::TensorArgs;
use super::text::{OUTPUT_ERROR, counted};
use super::ui::Ui;
use crate::compress::{Method, Pattern};
use crate::gguf::GgmlType;
use crate::verbs::parse_type;
use crate::verbs::prune::{Report, Request, Scoring, WeightChoice, run};

/// Zero the weights that matter least
#[derive(Debug, Args)]
pub(super) struct Prune {
    /// A GGUF file; any shard of a split one.
    model: PathBuf,
    /// How weights are chosen.
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
    /// Zero N of each M consecutive inputs, e.g. 2:4. No current runtime is faster for it.
    #[arg(long, value_name = "N:M", value_parser = parse_nm, allow_hyphen_values = true)]
    nm: Option<(usize, usize)>,
    /// How the sparsity is spread over blocks: owl prunes blocks with many outliers less.
    #[arg(long, value_enum, default_value = "uniform", conflicts_with = "nm")]
    allocation: Allocation,
    #[command(flatten)]
    tensors: TensorArgs,
    /// Type of the pruned matrices. Default: floats keep theirs, quantized ones become f16.
    #[arg(long = "type", value_parser = parse_type, value_name = "TYPE")]
    ty: Option<GgmlType>,
    #[command(flatten)]
    stats: StatsArgs,
    /// Collect statistics again after every N blocks, from the model as pruned so far.
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
    /// By the loss that remains after the other weights are adjusted, which they are; needs
    /// --data.
    #[value(name = "sparsegpt")]
    SparseGpt,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Allocation {
    Uniform,
    Owl,
}

impl Verb for Prune {
    fn paths(&self) -> Paths {
        self.stats.paths(&self.model, &self.out, self.method != MethodArg::SparseGpt)
    }

    fn models(&mut self) -> Result<Vec<&mut PathBuf>> {
        Ok(vec![&mut self.model])
    }

    fn run(self, ui: &Ui) -> Result<()> {
        let request = Request {
            pattern: self.pattern()?,
            choice: self.choice()?,
            model: self.model,
            tensors: self.tensors.choice(),
            ty: self.ty,
            output: self.out.output(),
            engine: self.stats.engine.options(),
        };
        let report = run(&request, ui)?;
        if self.json {
            return ui.print_json(&report);
        }
        print_plan(ui, &report.files, report.computed_bytes, report.estimated_seconds)?;
        text(&report).map_or(Ok(()), |text| ui.print(text))
    }
}

impl Prune {
    /// How much is asked for, before anything is read.
    fn pattern(&self) -> Result<Pattern> {
        match (self.nm, self.sparsity) {
            (None, Some(0.0)) => bail!("--sparsity 0 zeroes no weight: there is nothing to prune"),
            (None, sparsity) => Ok(Pattern::Ratio(sparsity.unwrap_or_default())),
            (Some((0, m)), _) => bail!("--nm 0:{m} zeroes no weight: there is nothing to prune"),
            (Some((n, m)), _) if n > m => {
                bail!("--nm {n}:{m} asks for {n} zeros of each {m} weights, expected N below M")
            }
            (Some((n, m)), _) => Ok(Pattern::OfEach { n, m }),
        }
    }

    fn choice(&self) -> Result<WeightChoice> {
        let by_outliers = self.allocation == Allocation::Owl;
        let method = match self.method {
            MethodArg::Magnitude => Method::Magnitude,
            MethodArg::Wanda => Method::Wanda,
            MethodArg::Ria => Method::Ria,
            MethodArg::SparseGpt => {
                let texts = self.stats.texts("sparsegpt")?;
                if self.sequential.is_some() || by_outliers {
                    bail!("--method sparsegpt goes block by block by itself, each pruned as much");
                }
                return Ok(WeightChoice::Swept(texts));
            }
        };
        let has_statistics = self.stats.any();
        if method.needs_stats() && !has_statistics {
            let name = self.method.to_possible_value();
            let name = name.as_ref().map_or("", |value| value.get_name());
            bail!("--method {name} needs --stats FILE or --data FILE");
        }
        if self.sequential.is_some() && !method.needs_stats() {
            bail!("--sequential is about statistics, and --method magnitude reads none");
        }
        if has_statistics && !method.needs_stats() && !by_outliers {
            bail!("--method magnitude needs no statistics: leave --stats and --data out");
        }
        if by_outliers && !has_statistics && !self.out.dry_run {
            bail!("--allocation owl needs --stats FILE or --data FILE");
        }
        let recollect_every = self.sequential.map(|n| n as usize);
        let statistics = self.stats.statistics()?;
        Ok(WeightChoice::Scored(Scoring { method, statistics, by_outliers, recollect_every }))
    }
}

/// What came of it; None in a dry run.
fn text(report: &Report) -> Option<String> {
    let pruned = counted(report.pruned, "matrix");
    let mut text = format!("{:.2} % of {pruned} is zero\n", 100.0 * report.sparsity?);
    if let Some(error) = report.output_error {
        text += &format!("{OUTPUT_ERROR} {:.1} %\n", 100.0 * error);
    }
    Some(text)
}

fn parse_nm(text: &str) -> Result<(usize, usize), String> {
    let pair = text.split_once(':').and_then(|(n, m)| Some((n.parse().ok()?, m.parse().ok()?)));
    pair.ok_or_else(|| "expected N:M, as 2:4".into())
}
