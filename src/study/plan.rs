//! The plan: all steps of a study in an order in which each can run, and which steps measure which
//! model.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use toml::Table;

use super::error::{Error, Result};
use super::folder::Keep;
use super::options::{Options, Verbs};
use super::reading::named_twice;
use super::recipe::{Recipe, Variant};
use super::repairs::Repair;
use super::sets::{AskedSet, asked_sets, plain};
use super::step::{Arg, Kept, Step, Work, is_sweep};
use crate::gguf::hex;
use crate::report::results::Role;

/// Hexadecimal digits of a hash in file names.
const MARK: usize = 8;

/// A step about several models.
#[derive(Debug, Clone, PartialEq)]
pub struct Several {
    /// Index of the step in the plan.
    pub step: usize,
    /// The models' names, in the command's order.
    pub names: Vec<String>,
}

/// A model of the study, and the steps that measure it.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedModel {
    /// Name of the model in the study.
    pub name: String,
    /// Its role in the study.
    pub role: Role,
    /// What it is made from.
    pub of: Option<String>,
    /// The name of the repair that makes it, unless the recipe has only one `[repair]`.
    pub repaired_by: Option<String>,
    /// How it is made, one line per step.
    pub made: Vec<String>,
    /// Where its file is or will be.
    pub file: Arg,
    /// Where its direction's file is or will be.
    pub direction: Option<Arg>,
    /// Its direction, compared with the base's.
    pub comparison: Option<usize>,
    /// Its answers first, then comparisons of them with others'.
    pub answers: Vec<Several>,
    /// Its answers without its direction.
    pub necessity: Option<usize>,
    /// Its answers with its direction added.
    pub sufficiency: Option<usize>,
    /// The step that repairs it.
    pub repair: Option<usize>,
    /// Its weights against those of what it was made from.
    pub weights: Option<usize>,
    /// Its benchmarks first, then comparisons of them with others'.
    pub tasks: Vec<Several>,
    /// Its perplexity, and KL to the base.
    pub text: Option<usize>,
}

impl PlannedModel {
    fn new(name: impl Into<String>, role: Role, of: Option<&str>, file: Arg) -> PlannedModel {
        PlannedModel {
            name: name.into(),
            role,
            of: of.map(str::to_owned),
            repaired_by: None,
            made: Vec::new(),
            file,
            direction: None,
            comparison: None,
            answers: Vec::new(),
            necessity: None,
            sufficiency: None,
            repair: None,
            weights: None,
            tasks: Vec::new(),
            text: None,
        }
    }
}

/// All steps, and the models that they are about.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// Each step after all steps that it needs.
    pub steps: Vec<Step>,
    /// The base, then each variant, followed by its repairs.
    pub models: Vec<PlannedModel>,
}

impl Plan {
    /// True if the file at `path` of the run's folder stays after the run.
    pub fn keeps(&self, keep: Keep, path: &str) -> bool {
        if !path.starts_with("models/") {
            return true;
        }
        let is_repaired =
            |m: &PlannedModel| m.role == Role::Repaired && m.file.path() == Path::new(path);
        match keep {
            Keep::None => false,
            Keep::Repaired => self.models.iter().any(is_repaired),
            Keep::All => true,
        }
    }

    /// Files from outside that do not exist.
    pub fn missing(&self) -> Vec<PathBuf> {
        let files = self.steps.iter().flat_map(Step::files);
        let mut missing: Vec<PathBuf> = files.filter(|p| !p.exists()).map(PathBuf::from).collect();
        missing.sort();
        missing.dedup();
        missing
    }
}

/// Makes the plan of `recipe`.
///
/// # Errors
/// Two models' files have the same name.
pub fn plan(recipe: &Recipe, verbs: &dyn Verbs) -> Result<Plan> {
    let sets = asked_sets(recipe, verbs)?;
    let mut planner = Planner { recipe, verbs, sets, plan: Plan::default() };
    let mut base = planner.base();
    planner.find_direction(&mut base);
    planner.measure(&mut base, &[]);
    planner.plan.models.push(base.clone());
    for variant in &recipe.variants {
        planner.variant(variant, &base);
    }
    planner.page();
    check_stems(&planner.plan)?;
    Ok(planner.plan)
}

/// Verbs name models by their files, so that names must differ.
fn check_stems(plan: &Plan) -> Result<()> {
    let mut stems: Vec<String> = plan.models.iter().map(|model| model.file.stem()).collect();
    stems.sort_by_key(|stem| stem.to_lowercase());
    match stems.windows(2).find(|two| two[0].to_lowercase() == two[1].to_lowercase()) {
        None => Ok(()),
        Some(two) => Err(Error::Recipe {
            what: format!(
                "{}\nhint: transcripts and reports go by the name",
                named_twice("models' files", &two[0], &two[1])
            ),
        }),
    }
}

struct Planner<'a> {
    recipe: &'a Recipe,
    verbs: &'a dyn Verbs,
    sets: Vec<AskedSet>,
    plan: Plan,
}

impl Planner<'_> {
    fn add(&mut self, step: Step) -> usize {
        self.plan.steps.push(step);
        self.plan.steps.len() - 1
    }

    fn options(&self, verb: &'static str, table: &Table) -> Vec<Arg> {
        Options::of(self.verbs, verb, &[]).arguments(table, &self.recipe.places)
    }

    fn base(&mut self) -> PlannedModel {
        let recipe = self.recipe;
        let file = Arg::File(recipe.places.resolve(&recipe.model));
        let Some(merge) = &recipe.merge else {
            return PlannedModel::new("base", Role::Base, None, file);
        };
        let (model, made) = self.make("base: merge", "merge", merge, file, "models/base.gguf");
        let mut base = PlannedModel::new("base", Role::Base, None, model);
        base.made = vec![made];
        base
    }

    /// Adds a step that makes a model; the model also gets a line that describes it.
    fn make(
        &mut self,
        name: &str,
        verb: &'static str,
        table: &Table,
        from: Arg,
        to: &str,
    ) -> (Arg, String) {
        let shown = self.options(verb, table).iter().map(Arg::shown).collect::<Vec<_>>();
        let made = [vec![verb.to_owned()], shown].concat().join(" ");
        let (table, stats) = self.statistics(verb, table, &from);
        let mut args = vec![Arg::text(verb), from];
        args.extend(self.options(verb, &table));
        if let Some(stats) = stats {
            args.extend([Arg::text("--stats"), stats]);
        }
        args.extend([Arg::text("-o"), Arg::Out(to.into())]);
        let step = Step { name: name.into(), args, outputs: vec![to.into()], ..Step::default() };
        let step = self.add(step);
        (Arg::Made { step, path: to.into() }, made)
    }

    /// Makes the statistics that a verb would collect first a separate step, which variants share;
    /// also returns the table without their options.
    fn statistics(
        &mut self,
        verb: &'static str,
        table: &Table,
        model: &Arg,
    ) -> (Table, Option<Arg>) {
        let method = table.get("method").and_then(|method| method.as_str());
        let alone = verb == "merge" || table.contains_key("sequential") || is_sweep(method);
        if alone || !table.contains_key("data") {
            return (table.clone(), None);
        }
        let calibrate = Options::of(self.verbs, "calibrate", &[]);
        let (about, rest): (Table, Table) =
            table.clone().into_iter().partition(|(name, _)| calibrate.get(name).is_some());
        let mut args = vec![Arg::text("calibrate"), model.clone()];
        args.extend(calibrate.arguments(&about, &self.recipe.places));
        let same = |step: &Step| step.args.starts_with(&args) && step.args.len() == args.len() + 2;
        if let Some(step) = self.plan.steps.iter().position(same) {
            let path = self.plan.steps[step].outputs[0].clone();
            return (rest, Some(Arg::Made { step, path }));
        }
        let path = self.statistics_path(&args);
        args.extend([Arg::text("-o"), Arg::Out(path.clone())]);
        let name = about.get("data").and_then(toml::Value::as_str).unwrap_or_default();
        let name = name.rsplit('/').next().unwrap_or(name);
        let name = format!("statistics of {name} in {}", model.stem());
        let step = Step { name, args, outputs: vec![path.clone()], ..Step::default() };
        (rest, Some(Arg::Made { step: self.add(step), path }))
    }

    /// The name depends on what is read, not on the place in the plan: another variant must not
    /// change it. Files of one name from different folders get different names.
    fn statistics_path(&self, args: &[Arg]) -> String {
        let words: Vec<String> = args.iter().map(Arg::shown).collect();
        let mark = hex(&Sha256::digest(words.join("\0")))[..MARK].to_owned();
        let path = |n: usize| match n {
            1 => format!("stats/{mark}.imatrix.gguf"),
            n => format!("stats/{mark}-{n}.imatrix.gguf"),
        };
        let taken = |path: &String| self.plan.steps.iter().any(|step| step.outputs.contains(path));
        (1..).map(path).find(|path| !taken(path)).unwrap_or_default()
    }

    /// Finds a model's direction. If a variant has none, its candidates are captured for the
    /// comparison.
    fn find_direction(&mut self, model: &mut PlannedModel) {
        let recipe = self.recipe;
        let is_base = model.role == Role::Base;
        if let Some(file) = recipe.direction_file.as_ref().filter(|_| is_base) {
            model.direction = Some(Arg::File(recipe.places.resolve(file)));
            return;
        }
        let path = format!("directions/{}.safetensors", model.name);
        let command = |planner: &Self, table: &Table, more: Option<&str>| {
            let mut args = vec![Arg::text("direction"), model.file.clone()];
            args.extend(planner.options("direction", table));
            args.extend(more.map(Arg::text));
            args.extend([Arg::text("-o"), Arg::Out(path.clone())]);
            args
        };
        let args = command(self, &recipe.direction, None);
        // Options that choose do not apply to a capture.
        let mut all = recipe.direction.clone();
        for choice in ["layer", "position", "exhaustive", "strict", "max-kl"] {
            all.remove(choice);
        }
        let fallback = (!is_base).then(|| command(self, &all, Some("--capture-only")));
        let name = format!("{}: direction", model.name);
        let outputs = vec![path.clone()];
        let step = self.add(Step { name, args, fallback, outputs, ..Step::default() });
        model.direction = Some(Arg::Made { step, path });
    }

    fn variant(&mut self, variant: &Variant, base: &PlannedModel) {
        let mut model = self.made(variant, base);
        model.weights = Some(self.diff(&model, base));
        self.find_direction(&mut model);
        model.comparison = self.compare(&model, base);
        let recipe = self.recipe;
        let repairs = recipe.repairs.iter().filter(|r| r.variants.contains(&variant.name));
        let repaired: Vec<PlannedModel> =
            repairs.filter_map(|repair| self.repair(repair, &model, base)).collect();
        self.measure(&mut model, &[base]);
        let of = model.clone();
        self.plan.models.push(model);
        for mut repaired in repaired {
            repaired.weights = Some(self.diff(&repaired, &of));
            self.measure(&mut repaired, &[&of, base]);
            self.plan.models.push(repaired);
        }
    }

    fn made(&mut self, variant: &Variant, base: &PlannedModel) -> PlannedModel {
        let name = &variant.name;
        if let Some(file) = &variant.file {
            let file = Arg::File(self.recipe.places.resolve(file));
            return PlannedModel::new(name, Role::Variant, Some("base"), file);
        }
        let (mut file, mut made) = (base.file.clone(), Vec::new());
        let n = variant.steps.len();
        for (i, (verb, table)) in (1..).zip(&variant.steps) {
            let of = if n > 1 { format!(" ({i} of {n})") } else { String::new() };
            let to = match i == n {
                true => format!("models/{name}.gguf"),
                false => format!("models/steps/{name}-{i}.gguf"),
            };
            let (model, how) = self.make(&format!("{name}: {verb}{of}"), verb, table, file, &to);
            (file, _) = (model, made.push(how));
        }
        let mut model = PlannedModel::new(name, Role::Variant, Some("base"), file);
        model.made = made;
        model
    }

    fn diff(&mut self, model: &PlannedModel, of: &PlannedModel) -> usize {
        let name = format!("{}: weights against {}", model.name, of.name);
        let args = vec![Arg::text("diff"), of.file.clone(), model.file.clone()];
        self.add(Step { name, args, ..Step::default() })
    }

    fn compare(&mut self, model: &PlannedModel, base: &PlannedModel) -> Option<usize> {
        let (own, of) = (model.direction.clone()?, base.direction.clone()?);
        let name = format!("{}: direction against base", model.name);
        let args = vec![Arg::text("compare"), of, own];
        Some(self.add(Step { name, args, ..Step::default() }))
    }

    fn repair(
        &mut self,
        repair: &Repair,
        model: &PlannedModel,
        base: &PlannedModel,
    ) -> Option<PlannedModel> {
        let name = repair.model_name(&model.name);
        let path = format!("models/{name}.gguf");
        // With one [repair] steps and fronts have the variants' names.
        let about = if repair.is_only() { &model.name } else { &name };
        let options = self.options("repair", &repair.options);
        let shown: Vec<String> = options.iter().map(Arg::shown).collect();
        let (restores, aim) = (repair.restores(), repair.text("aim"));
        let mut args = vec![Arg::text("repair"), model.file.clone()];
        // Without an edit along it a restore takes no direction.
        if !(restores && aim == Some("none")) {
            args.extend([Arg::text("--direction"), base.direction.clone()?]);
        }
        if restores || aim.is_some_and(|aim| aim != "strongest") {
            args.extend([Arg::text("--reference"), base.file.clone()]);
            if repair.text("method").is_none() {
                args.extend([Arg::text("--method"), Arg::text("aird")]);
            }
        }
        args.extend(options);
        args.extend([Arg::text("-o"), Arg::Out(path.clone())]);
        let mut outputs = vec![path.clone()];
        // If both are given nothing is searched, and there is no front.
        let given = |key: &str| repair.options.get(key).is_some_and(|v| v.as_str() != Some("auto"));
        let is_searched = !(given("block") && given("alpha"));
        if is_searched && !restores {
            let front = format!("fronts/{about}.json");
            args.extend([Arg::text("--front"), Arg::Out(front.clone())]);
            outputs.extend([front.clone(), front.replace(".json", ".svg")]);
        }
        let step = Step {
            name: format!("{about}: repair"),
            args,
            may_find_nothing: true,
            outputs,
            ..Step::default()
        };
        let step = self.add(step);
        let file = Arg::Made { step, path };
        let mut repaired = PlannedModel::new(name, Role::Repaired, Some(&model.name), file);
        repaired.repaired_by = (!repair.is_only()).then(|| repair.name.clone());
        repaired.made = vec![[vec!["repair".to_owned()], shown].concat().join(" ")];
        repaired.repair = Some(step);
        Some(repaired)
    }

    /// Plans all measurements of a model and its comparisons with `others`, the nearest first.
    fn measure(&mut self, model: &mut PlannedModel, others: &[&PlannedModel]) {
        if !self.sets.is_empty() {
            let against = match others {
                [] => vec![None],
                others => others.iter().copied().map(Some).collect(),
            };
            for other in against {
                let several = self.answers(other, model);
                model.answers.push(several);
            }
        }
        if model.role != Role::Repaired {
            if self.recipe.necessity {
                model.necessity = self.intervene(model, "necessity");
            }
            if self.recipe.sufficiency {
                model.sufficiency = self.intervene(model, "sufficiency");
            }
        }
        if self.recipe.tasks.contains_key("tasks") {
            let against: Vec<Option<&PlannedModel>> = match others {
                [] => vec![None],
                others => others.iter().copied().map(Some).collect(),
            };
            for other in against {
                let several = self.tasks(other, model);
                model.tasks.push(several);
            }
        }
        if self.recipe.tasks.contains_key("text") {
            model.text = Some(self.text(model, others.last().copied()));
        }
    }

    fn transcripts(&self, model: &PlannedModel) -> Vec<Kept> {
        let kept = |set: &AskedSet| Kept {
            path: format!("transcripts/{}.{}.jsonl", model.file.stem(), set.name),
            content: [vec![Arg::text("answers"), model.file.clone()], set.settings.clone()]
                .concat(),
        };
        self.sets.iter().map(kept).collect()
    }

    /// Plans a model's answers, and their comparison with another's.
    fn answers(&mut self, other: Option<&PlannedModel>, model: &PlannedModel) -> Several {
        let both: Vec<&PlannedModel> = other.into_iter().chain([model]).collect();
        let mut args = vec![Arg::text("asr")];
        args.extend(both.iter().map(|m| m.file.clone()));
        args.extend(self.options("asr", &self.recipe.attacks));
        args.extend([Arg::text("--transcripts"), Arg::Shared("transcripts".into())]);
        let again = !model.answers.is_empty();
        let name = match other {
            Some(other) if again => format!("{}: answers against {}", model.name, other.name),
            _ => format!("{}: answers", model.name),
        };
        let after = both.iter().filter_map(|m| m.answers.first()).map(|a| a.step).collect();
        let kept = both.iter().flat_map(|m| self.transcripts(m)).collect();
        let each = self.sets.iter().map(|set| set.work);
        let add = |a: Work, b: Work| Work { read: a.read + b.read, written: a.written + b.written };
        let work = if again { Work::default() } else { each.fold(Work::default(), add) };
        let step = self.add(Step { name, args, kept, after, work, ..Step::default() });
        Several { step, names: both.iter().map(|m| m.name.clone()).collect() }
    }

    /// Plans the same prompts with the model's own direction removed, or added.
    fn intervene(&mut self, model: &PlannedModel, what: &str) -> Option<usize> {
        let direction = model.direction.clone()?;
        let (set, sets, option) = match what {
            "necessity" => ("vanilla", ["vanilla", "none"], "--ablate"),
            _ => ("harmless", ["none", "harmless"], "--add"),
        };
        let plain = self.options("asr", &plain(&self.recipe.attacks));
        let [attack, benign] = sets;
        let mut args = vec![Arg::text("asr"), model.file.clone()];
        args.extend(["--attack", attack, "--benign", benign].map(Arg::text));
        args.extend([Arg::text(option), direction.clone()]);
        args.extend(plain);
        let folder = format!("transcripts/{what}");
        args.extend([Arg::text("--transcripts"), Arg::Shared(folder.clone())]);
        let asked = self.sets.iter().find(|asked| asked.name == set)?;
        let content = [Arg::text(what), model.file.clone(), direction.clone()];
        let kept = Kept {
            path: format!("{folder}/{}.{set}.jsonl", model.file.stem()),
            content: [&content[..], &asked.settings].concat(),
        };
        let work = asked.work;
        let needs_found = match direction {
            Arg::Made { step, .. } => Some(step),
            _ => None,
        };
        let name = format!("{}: {what}", model.name);
        let kept = vec![kept];
        Some(self.add(Step { name, args, kept, needs_found, work, ..Step::default() }))
    }

    /// Plans benchmarks, and their comparison with another's.
    fn tasks(&mut self, other: Option<&PlannedModel>, model: &PlannedModel) -> Several {
        let mut table = self.recipe.tasks.clone();
        for about_text in ["text", "ctx", "chunks"] {
            table.remove(about_text);
        }
        let options = self.options("tasks", &table);
        table.remove("tasks");
        let content = [vec![Arg::text("tasks")], self.options("tasks", &table)].concat();
        let both: Vec<&PlannedModel> = other.into_iter().chain([model]).collect();
        let mut args = vec![Arg::text("tasks")];
        args.extend(both.iter().map(|m| m.file.clone()));
        args.extend(options);
        let folders = [("--results", "tasks"), ("--lm-eval-dir", "lm-eval")];
        for (option, folder) in folders {
            args.extend([Arg::text(option), Arg::Shared(folder.into())]);
        }
        let kept = folders.map(|(_, path)| Kept { path: path.into(), content: content.clone() });
        let again = !model.tasks.is_empty();
        let name = match other {
            Some(other) if again => format!("{}: tasks against {}", model.name, other.name),
            _ => format!("{}: tasks", model.name),
        };
        let after = both.iter().filter_map(|m| m.tasks.first()).map(|t| t.step).collect();
        let step = self.add(Step { name, args, kept: kept.into(), after, ..Step::default() });
        Several { step, names: both.iter().map(|m| m.name.clone()).collect() }
    }

    /// Plans perplexity of the text, and KL to the base.
    fn text(&mut self, model: &PlannedModel, base: Option<&PlannedModel>) -> usize {
        let mut table = self.recipe.tasks.clone();
        for about_tasks in ["tasks", "data-dir", "limit", "seed", "chat"] {
            table.remove(about_tasks);
        }
        let options = self.options("tasks", &table);
        let mut args = vec![Arg::text("tasks"), model.file.clone()];
        args.extend(options.clone());
        if let Some(base) = base {
            args.extend([Arg::text("--reference"), base.file.clone()]);
        }
        let folder = format!("text/{}", model.name);
        args.extend([Arg::text("--results"), Arg::Shared(folder.clone())]);
        let reference = base.map(|base| base.file.clone());
        let content = [vec![Arg::text("text"), model.file.clone()], options].concat();
        let content = content.into_iter().chain(reference).collect();
        let kept = vec![Kept { path: folder, content }];
        let name = format!("{}: text", model.name);
        self.add(Step { name, args, kept, ..Step::default() })
    }

    /// Plans the page with all answers.
    fn page(&mut self) {
        let of = |m: &PlannedModel| Some((m.answers.first()?.step, m.file.clone()));
        let gathered: Vec<(usize, Arg)> = self.plan.models.iter().filter_map(of).collect();
        if gathered.is_empty() {
            return;
        }
        let mut args = vec![Arg::text("asr")];
        args.extend(self.options("asr", &self.recipe.attacks));
        args.extend([Arg::text("--transcripts"), Arg::Shared("transcripts".into())]);
        args.extend([Arg::text("--html"), Arg::Out("transcripts.html".into())]);
        let name = "transcripts".into();
        let outputs = vec!["transcripts.html".into()];
        let kept = self.plan.models.iter().flat_map(|m| self.transcripts(m)).collect();
        self.add(Step { name, args, outputs, kept, gathered, ..Step::default() });
    }
}
