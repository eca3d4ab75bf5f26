//! `aird study`: its arguments, and its results in print.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use super::args::{EngineArgs, output_path};
use super::definitions::Definitions;
use super::paths::Verb;
use super::study_text::before_after;
use super::ui::Ui;
use crate::study::{EXAMPLE, Failures, Keep, Override, Request, dry_run, run};

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
    /// may be given several times.
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
    /// Print results.json, or with --dry-run the plan, as JSON.
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
            let report = dry_run(&request, &verbs, ui)?;
            return ui.report(self.json, &report, || report.text());
        }
        let finished = run(&request, &verbs, ui)?;
        if self.json {
            ui.print(finished.json)?;
        } else {
            ui.print(before_after(&finished.results))?;
            ui.print(format_args!("\n{}\n", finished.page.display()))?;
        }
        match finished.failures {
            None => Ok(()),
            Some(Failures { n, of, first, why, log }) => bail!(
                "{n} of {of} steps failed, the first of them '{first}': {why}\n\
                 hint: all that it said is in {}",
                log.display()
            ),
        }
    }
}
