//! `aird study`: the whole job, by a recipe, in a folder where nothing is done twice.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;

use super::args::{EngineArgs, output_path};
use super::definitions::Definitions;
use super::paths::Verb;
use super::study_text::{PlanReport, before_after, plan_lines};
use super::ui::Ui;
use crate::gguf::{Model, same_file, write_file};
use crate::report;
use crate::report::results::{Results, State};
use crate::study::Error::MissingFiles;
use crate::study::{
    Arg, Children, EXAMPLE, Execution, Folder, Keep, Keys, Listener, Override, Plan, Rates, Recipe,
    RunBy, Settled, Step, Sums, collect, estimate, execute, keys, measure, plan, sha256_sums,
    toml_text,
};

/// Run a study: compress, find directions, repair, measure, report
#[derive(Debug, Args)]
pub struct Study {
    /// What to do, as TOML; --example shows every key.
    #[arg(required_unless_present = "example")]
    recipe: Option<PathBuf>,
    /// The folder for everything that comes of it; a run that was cut off goes on there.
    #[arg(
        short,
        long,
        value_name = "RUN",
        required_unless_present_any = ["example", "dry_run"],
        value_parser = output_path()
    )]
    output: Option<PathBuf>,
    /// Change the recipe: a dotted key, as attacks.limit=8 or variant.NAME.prune.sparsity=0.4; may
    /// be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<Override>,
    /// Which models stay in the end: none, repaired or all.
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

/// A recipe with its plan and keys.
struct Planned {
    recipe: Recipe,
    plan: Plan,
    keys: Keys,
}

impl Verb for Study {
    fn run(self, ui: &Ui) -> Result<()> {
        let Some(recipe_path) = &self.recipe else { return ui.print(EXAMPLE) };
        let verbs = Definitions::new();
        let recipe = Recipe::read(recipe_path, &self.set, &verbs)?;
        let plan = plan(&recipe, &verbs)?;
        if self.dry_run {
            return self.show(ui, recipe, plan);
        }
        let missing = plan.missing();
        if !missing.is_empty() {
            return Err(MissingFiles { files: missing }.into());
        }
        let run = self.output.as_deref().context("no -o")?;
        let wait = || {
            ui.say(format_args!(
                "waiting: another run, or a step that outlived one, is at work in {}",
                run.display()
            ));
        };
        let folder = Folder::open(run, &ui.interrupt(), wait)?;
        let mut sums = Sums::remembered(&folder.sums(), ui.interrupt());
        let keys = keys(&plan, RunBy::this(self.engine.gpu_layers), &mut sums)?;
        let planned = Planned { recipe, plan, keys };
        keep_recipe(recipe_path, run, &planned.recipe)?;
        let settled = self.execute(ui, &verbs, &planned, &folder, &mut sums)?;
        self.finish(ui, &planned, &settled, &folder, &mut sums)
    }
}

/// Writes the whole recipe into the run's folder, unless it was read from there: a user's comments
/// are not written over.
fn keep_recipe(read: &Path, run: &Path, recipe: &Recipe) -> Result<()> {
    let (kept, text) = (run.join("recipe.toml"), toml_text(recipe));
    if !same_file(read, &kept) {
        return Ok(write_file(&kept, text.as_bytes())?);
    }
    match std::fs::read_to_string(&kept).is_ok_and(|found| found == text) {
        true => Ok(()),
        false => bail!(
            "{} is the input itself, and would be written over\n\
             hint: run a copy of it that lies outside the run's folder",
            kept.display()
        ),
    }
}

impl Study {
    /// `--dry-run`.
    fn show(&self, ui: &Ui, recipe: Recipe, plan: Plan) -> Result<()> {
        let folder = Folder::look(self.output.as_deref().unwrap_or(Path::new("RUN")));
        let mut sums = Sums::fresh(ui.interrupt());
        let keys = keys(&plan, RunBy::this(self.engine.gpu_layers), &mut sums)?;
        let settled = plan.settled(&keys, &folder);
        let due = plan.due(&settled, &folder, self.keep_models, &mut sums)?;
        let rates = match due.contains(&true) {
            true => self.rates(ui, &plan, &folder)?,
            false => None,
        };
        let estimate = estimate(&plan, &due, &folder, rates);
        let report = PlanReport::new((&recipe, &plan, &keys), (&settled, &due), &estimate, rates);
        if self.json { ui.print_json(&report) } else { ui.print(report.text()) }
    }

    /// How fast the base is here; None where it is not there.
    fn rates(&self, ui: &Ui, plan: &Plan, folder: &Folder) -> Result<Option<Rates>> {
        let Some(base) = plan.models.first() else { return Ok(None) };
        // Merged already, or as it comes.
        let made = match &base.file {
            Arg::Made { path, .. } => Some(folder.path.join(path)),
            _ => None,
        };
        let given = plan.steps.iter().flat_map(Step::files).next().map(PathBuf::from);
        let first = base.file.path().to_path_buf();
        let all = made.into_iter().chain([first]).chain(given);
        let Some(model) = all.filter(|p| p.is_file()).find_map(|p| Model::open(&p).ok()) else {
            return Ok(None);
        };
        ui.say("measuring how fast the base model is here");
        let engine = self.engine.load(ui, &model)?;
        Ok(Some(measure(&engine)?))
    }

    fn execute(
        &self,
        ui: &Ui,
        verbs: &Definitions,
        planned: &Planned,
        folder: &Folder,
        sums: &mut Sums,
    ) -> Result<Vec<Settled>> {
        let Planned { recipe, plan, keys } = planned;
        let settled = plan.settled(keys, folder);
        let due = plan.due(&settled, folder, self.keep_models, sums)?;
        for note in &recipe.notes {
            ui.say(note);
        }
        let (n, n_due) = (plan.steps.len(), due.iter().filter(|due| **due).count());
        ui.say(format_args!("{}: {n} steps, {} of them done", recipe.name, n - n_due));
        for line in plan_lines(plan, &due) {
            ui.say(format_args!("  {line}"));
        }
        let program = std::env::current_exe().context("cannot find aird itself")?;
        let children = Children { program, interrupt: ui.interrupt() };
        let keep = self.keep_models;
        let engine = self.engine_words();
        let run = Execution { plan, keys, folder, children: &children, verbs, engine, keep };
        let mut teller = Teller { ui, n };
        Ok(execute(&run, sums, &mut teller)?)
    }

    fn engine_words(&self) -> Vec<String> {
        let mut words = Vec::new();
        let options =
            [("--threads", self.engine.threads), ("--gpu-layers", self.engine.gpu_layers)];
        for (name, number) in options.into_iter().filter(|(_, number)| *number > 0) {
            words.extend([name.to_owned(), number.to_string()]);
        }
        words
    }

    fn finish(
        &self,
        ui: &Ui,
        planned: &Planned,
        settled: &[Settled],
        folder: &Folder,
        sums: &mut Sums,
    ) -> Result<()> {
        let Planned { recipe, plan, keys } = planned;
        let keep = self.keep_models;
        let results = collect(recipe, (plan, keys), settled, folder, keep)?;
        let json = serde_json::to_string_pretty(&results).context("cannot write JSON")? + "\n";
        write_file(&folder.path.join("results.json"), json.as_bytes())?;
        report::write(&folder.path)?;
        let listed = sha256_sums(settled, folder, keep, sums)?;
        write_file(&folder.path.join("SHA256SUMS"), listed.as_bytes())?;
        for settled in settled {
            let Settled::Done(record) = settled else { continue };
            for made in record.outputs.iter().filter(|made| !keep.wants(&made.path)) {
                folder.remove(&made.path)?;
            }
        }
        sums.remember()?;
        if self.json {
            ui.print(json)?;
        } else {
            ui.print(before_after(&results))?;
            ui.print(format_args!("\n{}\n", folder.path.join(report::PAGE).display()))?;
        }
        failures(&results, folder)
    }
}

/// An error if any step failed.
fn failures(results: &Results, folder: &Folder) -> Result<()> {
    let failed = results.steps.iter().filter(|step| step.state == State::Failed);
    let failed: Vec<_> = failed.collect();
    let Some(first) = failed.first() else { return Ok(()) };
    bail!(
        "{} of {} steps failed, the first of them '{}': {}\nhint: all that it said is in {}",
        failed.len(),
        results.steps.len(),
        first.name,
        first.error.as_deref().unwrap_or("it did not say why"),
        folder.step_file(&first.key, "log").display()
    )
}

/// Says how it goes, a line a step.
struct Teller<'a> {
    ui: &'a Ui,
    /// Steps of the plan.
    n: usize,
}

impl Listener for Teller<'_> {
    fn begins(&mut self, number: usize, step: &Step) {
        let (n, width) = (self.n, self.n.to_string().len());
        self.ui.say(format_args!("[{:>width$}/{n}] {}", number + 1, step.name));
        self.ui.detail(format_args!("    aird {}", step.shown(&|_| true)));
    }

    fn says(&mut self, line: &str) {
        match line.strip_prefix("warning: ") {
            Some(warning) => self.ui.warn(warning),
            None => self.ui.detail(format_args!("    {line}")),
        }
    }

    fn ended(&mut self, _: usize, step: &Step, settled: &Settled, took: Duration) {
        match settled {
            Settled::Failed(why) => self.ui.warn(format_args!("'{}' failed: {why}", step.name)),
            Settled::Done(record) if !record.found => {
                self.ui.say(format_args!("    {}", record.why.as_deref().unwrap_or("not found")));
            }
            _ => {}
        }
        self.ui.detail(format_args!("    {:.1} s", took.as_secs_f64()));
    }
}
