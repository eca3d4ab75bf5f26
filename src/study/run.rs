//! Runs a study from its recipe to its report, in a folder where nothing is done twice.

use std::path::{Path, PathBuf};

use super::child::Children;
use super::collect::{collect, sha256_sums};
use super::error::{Error, Result, disk};
use super::estimate::{Rates, estimate, measure};
use super::execute::{Execution, Settled, execute};
use super::folder::{Folder, Keep};
use super::keys::{Keys, RunBy, keys};
use super::options::Verbs;
use super::overrides::Override;
use super::plan::{Plan, plan};
use super::planned::{PlanReport, plan_lines};
use super::recipe::Recipe;
use super::step::{Arg, Step};
use super::sums::Sums;
use super::toml_text::toml_text;
use crate::gguf::{Model, same_file, write_file};
use crate::llama::Options;
use crate::report::results::{Results, State};
use crate::report::{self, Bases};
use crate::verbs::{Host, load};

/// What to study, and where to put the results.
#[derive(Debug, Clone)]
pub struct Request {
    /// The recipe, as TOML.
    pub recipe: PathBuf,
    /// Changes to the recipe, from `--set`.
    pub set: Vec<Override>,
    /// The run's folder; a dry run may have none.
    pub output: Option<PathBuf>,
    /// Models that stay after the run.
    pub keep: Keep,
    /// Threads and GPU layers of llama.cpp.
    pub engine: Options,
}

/// A run that came to its end.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// The study of each base, in the recipe's order.
    pub studies: Vec<FinishedStudy>,
    /// Path of the report: the only study's or, of several bases, the one that leads to theirs.
    pub page: PathBuf,
}

/// The results of one base's study.
#[derive(Debug, Clone, PartialEq)]
pub struct FinishedStudy {
    /// Name of the base in a recipe with several.
    pub base: Option<String>,
    /// The contents of `results.json`.
    pub results: Results,
    /// The text of `results.json`.
    pub json: String,
    /// Steps that failed, if any.
    pub failures: Option<Failures>,
}

/// Steps of a run that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failures {
    /// Number of steps that failed.
    pub n: usize,
    /// Number of all steps.
    pub of: usize,
    /// The first one's name.
    pub first: String,
    /// Its last error.
    pub why: String,
    /// Path of its log.
    pub log: PathBuf,
}

/// A recipe with its plan and keys.
struct Prepared {
    recipe: Recipe,
    plan: Plan,
    keys: Keys,
}

/// Runs a study, or continues it. A recipe with several bases is a study of each, in turn.
///
/// # Errors
/// The recipe is wrong or names files that are missing; the run's folder belongs to another run or
/// cannot be written; an interrupt. A step that fails is not an error.
pub fn run(request: &Request, verbs: &dyn Verbs, host: &dyn Host) -> Result<Finished> {
    let recipes = Recipe::read(&request.recipe, &request.set, verbs)?;
    let plans = recipes.iter().map(|recipe| plan(recipe, verbs)).collect::<Result<Vec<Plan>>>()?;
    let mut missing: Vec<PathBuf> = plans.iter().flat_map(Plan::missing).collect();
    missing.sort();
    missing.dedup();
    if !missing.is_empty() {
        return Err(Error::MissingFiles { files: missing });
    }
    let Some(run) = &request.output else { return Err(Error::NoFolder) };
    let bases = bases_of(&recipes);
    if let Some(bases) = &bases {
        open_for_bases(run, bases)?;
    }
    let mut studies = Vec::new();
    for (recipe, plan) in recipes.into_iter().zip(plans) {
        studies.push(run_study(request, &study_folder(run, &recipe), (recipe, plan), verbs, host)?);
    }
    if bases.is_some() {
        report::write_overview(run)?;
    }
    Ok(Finished { studies, page: run.join(report::PAGE) })
}

/// The study of one base, in its folder.
fn run_study(
    request: &Request,
    run: &Path,
    (recipe, plan): (Recipe, Plan),
    verbs: &dyn Verbs,
    host: &dyn Host,
) -> Result<FinishedStudy> {
    let wait = || {
        host.say(format_args!(
            "waiting: another run, or a step that outlived one, is at work in {}",
            run.display()
        ));
    };
    let interrupt = host.prober().interrupt;
    let folder = Folder::open(run, &interrupt, wait)?;
    let mut sums = Sums::remembered(&folder.sums(), interrupt);
    let keys = keys(&plan, RunBy::this(request.engine), &mut sums)?;
    keep_recipe(&request.recipe, run, &recipe)?;
    let prepared = Prepared { recipe, plan, keys };
    let settled = prepared.execute(request, verbs, host, &folder, &mut sums)?;
    prepared.finish(request.keep, &settled, &folder, &mut sums)
}

/// The bases of a recipe that has several.
fn bases_of(recipes: &[Recipe]) -> Option<Bases> {
    let names: Option<Vec<String>> = recipes.iter().map(|recipe| recipe.base.clone()).collect();
    Some(Bases { bases: names? })
}

/// The folder of a base's study: the run's own if the recipe has only one base.
fn study_folder(run: &Path, recipe: &Recipe) -> PathBuf {
    recipe.base.as_ref().map_or_else(|| run.into(), |name| run.join(name))
}

/// Prepares a run's folder for the studies of several bases.
fn open_for_bases(run: &Path, bases: &Bases) -> Result<()> {
    let path = run.join(report::BASES);
    let in_use = std::fs::read_dir(run).is_ok_and(|mut entries| entries.next().is_some());
    if in_use && !path.is_file() {
        return Err(Error::OtherFolder { path: run.into() });
    }
    std::fs::create_dir_all(run).map_err(disk(run, "make"))?;
    Ok(report::write_bases(run, bases)?)
}

/// Plans a study without running it: the plan of each base.
///
/// # Errors
/// The recipe is wrong; a file cannot be read; an interrupt.
pub fn dry_run(request: &Request, verbs: &dyn Verbs, host: &dyn Host) -> Result<Vec<PlanReport>> {
    let recipes = Recipe::read(&request.recipe, &request.set, verbs)?;
    let run = request.output.as_deref().unwrap_or(Path::new("RUN"));
    recipes.iter().map(|recipe| plan_study(request, run, recipe, verbs, host)).collect()
}

fn plan_study(
    request: &Request,
    run: &Path,
    recipe: &Recipe,
    verbs: &dyn Verbs,
    host: &dyn Host,
) -> Result<PlanReport> {
    let plan = plan(recipe, verbs)?;
    let folder = Folder::look(&study_folder(run, recipe));
    let mut sums = Sums::fresh(host.prober().interrupt);
    let keys = keys(&plan, RunBy::this(request.engine), &mut sums)?;
    let settled = plan.settled(&keys, &folder);
    let due = plan.due(&settled, &folder, request.keep, &mut sums)?;
    let rates = match due.contains(&true) {
        true => rates(&plan, &folder, request.engine, host)?,
        false => None,
    };
    let estimate = estimate(&plan, &due, &folder, rates);
    Ok(PlanReport::new(recipe, &plan, &keys, (&settled, &due), &estimate, rates))
}

/// The speed of the base here; None if it does not exist.
fn rates(plan: &Plan, folder: &Folder, engine: Options, host: &dyn Host) -> Result<Option<Rates>> {
    let Some(base) = plan.models.first() else { return Ok(None) };
    // Merged already, or the original file.
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
    host.say("measuring how fast the base model is here");
    Ok(Some(measure(&load(host, &model, engine)?)?))
}

/// Writes the whole recipe into the run's folder, unless it was read from there: a user's comments
/// must not be overwritten.
fn keep_recipe(read: &Path, run: &Path, recipe: &Recipe) -> Result<()> {
    let (kept, text) = (run.join("recipe.toml"), toml_text(recipe));
    if !same_file(read, &kept) {
        return Ok(write_file(&kept, text.as_bytes())?);
    }
    match std::fs::read_to_string(&kept).is_ok_and(|found| found == text) {
        true => Ok(()),
        false => Err(Error::RecipeInRun { path: kept }),
    }
}

impl Prepared {
    fn execute(
        &self,
        request: &Request,
        verbs: &dyn Verbs,
        host: &dyn Host,
        folder: &Folder,
        sums: &mut Sums,
    ) -> Result<Vec<Settled>> {
        let Prepared { recipe, plan, keys } = self;
        let settled = plan.settled(keys, folder);
        let due = plan.due(&settled, folder, request.keep, sums)?;
        for note in &recipe.notes {
            host.say(note);
        }
        let (n, n_due) = (plan.steps.len(), due.iter().filter(|due| **due).count());
        host.say(format_args!("{}: {n} steps, {} of them done", recipe.name, n - n_due));
        for line in plan_lines(plan, &due) {
            host.say(format_args!("  {line}"));
        }
        let prober = host.prober();
        let Some(program) = prober.program else { return Err(Error::NoProgram) };
        let children = Children { program, interrupt: prober.interrupt };
        let engine = engine_words(request.engine);
        let keep = request.keep;
        let run = Execution { plan, keys, folder, children: &children, verbs, engine, keep, host };
        execute(&run, sums)
    }

    /// Writes the results, and removes the models that do not stay.
    fn finish(
        &self,
        keep: Keep,
        settled: &[Settled],
        folder: &Folder,
        sums: &mut Sums,
    ) -> Result<FinishedStudy> {
        let results = collect(&self.recipe, (&self.plan, &self.keys), settled, folder, keep)?;
        let path = folder.path.join("results.json");
        let json = serde_json::to_string_pretty(&results)
            .map_err(|e| Error::File { path: path.clone(), what: e.to_string() })?
            + "\n";
        write_file(&path, json.as_bytes())?;
        report::write(&folder.path)?;
        let listed = sha256_sums(&self.plan, settled, folder, keep, sums)?;
        write_file(&folder.path.join("SHA256SUMS"), listed.as_bytes())?;
        for settled in settled {
            let Settled::Done(record) = settled else { continue };
            for made in &record.outputs {
                if !self.plan.keeps(keep, &made.path) {
                    folder.remove(&made.path)?;
                }
            }
        }
        sums.remember()?;
        let failures = failures(&results, folder);
        Ok(FinishedStudy { base: self.recipe.base.clone(), results, json, failures })
    }
}

/// Options of the engine, for the verbs that have one.
fn engine_words(engine: Options) -> Vec<String> {
    let mut words = Vec::new();
    if engine.threads > 0 {
        words.extend(["--threads".to_owned(), engine.threads.to_string()]);
    }
    // With workers the default is all blocks.
    if engine.gpu_layers > 0 || !engine.workers.is_empty() {
        words.extend(engine.device_words());
    }
    for endpoint in engine.workers.endpoints() {
        words.extend(["--rpc".to_owned(), endpoint.to_string()]);
    }
    if !engine.workers.is_empty() {
        let waits = [
            ("--rpc-timeout", engine.workers.timeout()),
            ("--rpc-silence", engine.workers.silence()),
        ];
        words.extend(waits.iter().flat_map(|(n, t)| [(*n).to_owned(), t.as_secs().to_string()]));
    }
    words
}

fn failures(results: &Results, folder: &Folder) -> Option<Failures> {
    let failed: Vec<_> = results.steps.iter().filter(|step| step.state == State::Failed).collect();
    let first = failed.first()?;
    Some(Failures {
        n: failed.len(),
        of: results.steps.len(),
        first: first.name.clone(),
        why: first.error.clone().unwrap_or_else(|| "it gave no reason".into()),
        log: folder.step_file(&first.key, "log"),
    })
}
