//! `aird study`: its arguments, and its results in print.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use indexmap::IndexMap;

use super::args::{EngineArgs, output_path};
use super::definitions::Definitions;
use super::paths::Verb;
use super::study_text::before_after;
use super::ui::Ui;
use crate::report::results::Results;
use crate::study::{
    EXAMPLE, Failures, FinishedStudy, Keep, Override, PlanReport, Request, dry_run, run,
};

/// Run a study: compress, find directions, repair, measure, report
#[derive(Debug, Args)]
pub(super) struct Study {
    /// What to do, as TOML; --example shows every key.
    #[arg(required_unless_present = "example")]
    recipe: Option<PathBuf>,
    /// The folder for all results; an interrupted run continues there.
    #[arg(
        short,
        long,
        value_name = "RUN",
        required_unless_present_any = ["example", "dry_run"],
        value_parser = output_path()
    )]
    output: Option<PathBuf>,
    /// Change the recipe: a dotted key, e.g. attacks.limit=8 or variant.NAME.prune.sparsity=0.4;
    /// base.NAME.KEY and repair.NAME.KEY where there are several. May be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<Override>,
    /// Models that stay in the end: none, repaired or all.
    #[arg(long, default_value = "repaired", value_name = "WHICH")]
    keep_models: Keep,
    /// Print the steps, their commands, bytes and time, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print a recipe with every key explained.
    #[arg(long, conflicts_with_all = ["recipe", "dry_run"])]
    example: bool,
    #[command(flatten)]
    engine: EngineArgs,
    /// Print results.json, or with --dry-run the plan, as JSON; several bases by name.
    #[arg(long)]
    json: bool,
}

impl Verb for Study {
    fn run(self, ui: &Ui) -> Result<()> {
        let Some(recipe) = self.recipe else { return ui.print(EXAMPLE) };
        let request = Request {
            recipe,
            set: self.set,
            output: self.output,
            keep: self.keep_models,
            engine: self.engine.options(),
        };
        let verbs = Definitions::new(ui.command());
        if self.dry_run {
            let plans = dry_run(&request, &verbs, ui)?;
            return match plans.as_slice() {
                [plan] => ui.report(self.json, plan, || plan.text()),
                plans => ui.report(self.json, &plans, || {
                    plans.iter().map(PlanReport::text).collect::<Vec<_>>().join("\n")
                }),
            };
        }
        let finished = run(&request, &verbs, ui)?;
        match (self.json, finished.studies.as_slice()) {
            (true, [study]) => ui.print(&study.json)?,
            (true, studies) => ui.print_json(&by_base(studies))?,
            (false, studies) => {
                for study in studies {
                    let title =
                        study.base.iter().map(|base| format!("{base}\n")).collect::<String>();
                    ui.print(title + &before_after(&study.results) + "\n")?;
                }
                ui.print(format_args!("{}\n", finished.page.display()))?;
            }
        }
        let failed =
            finished.studies.into_iter().find_map(|study| Some((study.base, study.failures?)));
        match failed {
            None => Ok(()),
            Some((base, Failures { n, of, first, why, log })) => bail!(
                "{}{n} of {of} steps failed, the first of them '{first}': {why}\n\
                 hint: all that it said is in {}",
                base.map_or(String::new(), |base| format!("{base}: ")),
                log.display()
            ),
        }
    }
}

/// The results of several bases, by their names.
fn by_base(studies: &[FinishedStudy]) -> IndexMap<&str, &Results> {
    let named = studies.iter().filter_map(|study| Some((study.base.as_deref()?, &study.results)));
    named.collect()
}
