//! `aird asr`: attack success and over-refusal, with transcripts.

mod judges;
mod report;
mod sets;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;

use self::judges::{Answered, JudgeArgs, Judges};
use self::report::{GateReport, ModelReport, PromptsReport, Report, SettingsReport};
use self::sets::{Set, SetArgs};
use super::args::{EngineArgs, compared, file_name, output_path};
use super::chat::{ChatArgs, warn_of_date};
use super::direction::read_for;
use super::exit::GateFailed;
use super::paths::{Paths, Verb};
use super::ui::Ui;
use crate::adapter::Adapter;
use crate::direction::{self, Direction};
use crate::eval::asr::{
    Answer, Asking, Difference, Gate, Interventions, Judged, Subject, agreement, answers,
    difference, file_sha256, outcome,
};
use crate::gguf::{Model, model_sha256, same_file, split_ending, write_file};
use crate::judge::Label;
use crate::llama::Engine;
use crate::report::transcripts;

/// Measure how often attacks succeed, and how often harmless prompts are refused
#[derive(Debug, Args)]
pub struct Asr {
    /// GGUF files; any shard of a split one. Each is compared with the first, and from the third on
    /// with the one before it as well: name a base, its pruned form and that one's repair in this
    /// order.
    #[arg(required = true)]
    models: Vec<PathBuf>,
    #[command(flatten)]
    sets: SetArgs,
    /// Tokens of an answer, at most.
    #[arg(long, default_value_t = 256, value_name = "N")]
    max_tokens: usize,
    /// Seed of the samples.
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Answers under way at once. Another number may change an answer by float noise.
    #[arg(long, default_value_t = 32, value_name = "N")]
    parallel: u32,
    /// Take this direction out of the residual stream while answering: is it needed?
    #[arg(long, value_name = "DIR", conflicts_with = "add")]
    ablate: Option<PathBuf>,
    /// Add this direction at its layer while answering: is it enough?
    #[arg(long, value_name = "DIR")]
    add: Option<PathBuf>,
    /// Answer with a LoRA adapter.
    #[arg(long, value_name = "FILE")]
    lora: Option<PathBuf>,
    #[command(flatten)]
    judge: JudgeArgs,
    /// Keep the answers here, as MODEL.SET.jsonl; what is there already is not made again. A folder
    /// for each setting: --ablate, --lora and the like make other answers under the same names.
    #[arg(long, value_name = "FOLDER")]
    transcripts: Option<PathBuf>,
    /// Exit with 3 if this holds for any model, as vanilla.asr>0.2 or borderline.refusal>=0.1;
    /// may be given several times. What has no answer, or no verdict, counts as what is worse.
    #[arg(long, value_name = "EXPR")]
    fail_if: Vec<Gate>,
    /// Write the answers as a page to read, harmful ones closed until clicked.
    #[arg(long, value_name = "FILE", value_parser = output_path())]
    html: Option<PathBuf>,
    /// Replace the page if it exists.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    chat: ChatArgs,
    #[command(flatten)]
    engine: EngineArgs,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// A model with its answers to every set, in the sets' order.
struct Asked {
    name: String,
    file: String,
    sha256: String,
    template_sha256: String,
    sets: Vec<Judged>,
}

impl Verb for Asr {
    fn paths(&self) -> Paths {
        let adapters = [&self.ablate, &self.add, &self.lora].into_iter().flatten();
        let paths =
            self.chat.read_from(self.judge.read_from(self.sets.read_from(Paths::default())));
        paths.reads(self.models.iter().chain(adapters)).writes(&self.html).with(self.force, false)
    }

    fn run(self, ui: &Ui) -> Result<()> {
        self.check()?;
        let sets = self.sets.sets(self.chat.system.as_deref())?;
        self.check_sets(&sets)?;
        let judges = self.judge.judges(self.parallel)?;
        self.check_models(ui)?;
        let mut models = Vec::new();
        for path in &self.models {
            models.push(self.ask(ui, path, &sets)?);
        }
        let answered =
            |(set, judged): (&Set, _)| Answered { harmful: set.attack.is_some(), judged };
        let all = models.iter_mut().flat_map(|m| sets.iter().zip(&mut m.sets).map(answered));
        judges.judge(ui, &self.engine, all.collect())?;
        let report = self.report(&judges, &sets, &models)?;
        if let Some(path) = &self.html {
            write_file(path, transcripts::page(&pages(&sets, &models)).as_bytes())?;
            ui.say(format_args!("wrote {}", path.display()));
        }
        match self.json {
            true => ui.print_json(&report)?,
            false => ui.print(report.text(ui.is_verbose(), judges.tells_refusal()))?,
        }
        match report.gates.iter().find(|gate| gate.failed) {
            Some(gate) => Err(GateFailed::new(gate.text()).into()),
            None => Ok(()),
        }
    }
}

impl Asr {
    /// A condition on a set that is not asked would never hold, and a system prompt that no set has
    /// would never be seen.
    fn check_sets(&self, sets: &[Set]) -> Result<()> {
        if self.chat.system.is_some() && !sets.iter().any(Set::has_system) {
            bail!(
                "--system is given, and no set that is asked has a system prompt: of the attacks \
                 vanilla has one alone\nhint: --attack vanilla, or leave --system out"
            );
        }
        let names: Vec<&str> = sets.iter().map(|set| set.name.as_str()).collect();
        match self.fail_if.iter().find(|gate| !names.contains(&gate.set.as_str())) {
            Some(gate) => bail!(
                "--fail-if '{gate}': no set '{}' is asked, expected one of {}",
                gate.set,
                names.join(", ")
            ),
            None => Ok(()),
        }
    }

    fn check(&self) -> Result<()> {
        if self.max_tokens == 0 || self.parallel == 0 {
            bail!("--max-tokens and --parallel are at least 1");
        }
        if let (Some(page), Some(folder)) = (&self.html, &self.transcripts)
            && page.extension().is_some_and(|ending| ending == "jsonl")
            && page.parent().is_some_and(|parent| same_file(parent, folder))
        {
            bail!("--html {} would be one of the transcripts, expected .html", page.display());
        }
        let mut names: Vec<String> = self.models.iter().map(|path| stem(path)).collect();
        names.sort();
        if let Some(twice) = names.windows(2).find(|two| two[0] == two[1]) {
            bail!(
                "two models are named '{}', expected different names: the report and the \
                 transcripts go by them\n\
                 hint: a link has a name of its own: ln -s base/model.gguf base.gguf",
                twice[0]
            );
        }
        if let Some(folder) = &self.transcripts {
            let cannot = || format!("cannot make the folder {}", folder.display());
            std::fs::create_dir_all(folder).with_context(cannot)?;
        }
        Ok(())
    }

    /// Opens all that is needed, so that nothing is missing when the first answers are there.
    fn check_models(&self, ui: &Ui) -> Result<()> {
        let directions = [&self.ablate, &self.add].into_iter().flatten();
        let directions: Vec<Direction> =
            directions.map(|path| Direction::read(path)).collect::<direction::Result<_>>()?;
        let lora = self.lora.as_ref().map(|path| Adapter::open(path)).transpose()?;
        let mut dated = false;
        for path in &self.models {
            let model = Model::open(path)?;
            let chat = self.chat.chat(&model).with_context(|| path.display().to_string())?;
            dated |= chat.template.prints_date();
            let expected = model.needed_hparam("embedding_length")? as usize;
            for direction in &directions {
                direction.chosen()?;
                let found = direction.candidates.n_embd;
                if found != expected {
                    return Err(direction::Error::Width { found, expected }.into());
                }
            }
            if let Some(lora) = &lora {
                lora.check(&model)?;
            }
        }
        if dated {
            warn_of_date(ui);
        }
        Ok(())
    }

    /// One model's answers to every set.
    fn ask(&self, ui: &Ui, path: &Path, sets: &[Set]) -> Result<Asked> {
        let model = Model::open(path)?;
        let chat = self.chat.chat(&model)?;
        let sha256 = model_sha256(&model, ui)?;
        let engine = self.engine.load_with(ui, &model, self.lora.as_deref())?;
        let interventions = self.interventions(&engine)?;
        let name = stem(path);
        let asking =
            Asking { max_tokens: self.max_tokens, parallel: self.parallel, seed: self.seed };
        let subject = Subject {
            engine: &engine,
            template: &chat.template,
            sha256: &sha256,
            interventions: &interventions,
        };
        let mut judged = Vec::new();
        for set in sets {
            let way = set.way(&chat.template);
            let file = format!("{name}.{}.jsonl", set.name);
            let file = self.transcripts.as_ref().map(|folder| folder.join(file));
            let asked = (&way, &set.prompts);
            let answers = answers(&subject, asked, asking, file.as_deref(), ui)?;
            warn_of_errors(ui, &name, &answers);
            let (n_variants, headline) = (way.n_variants(), set.headline());
            judged.push(Judged { answers, n_variants, headline, verdicts: Vec::new() });
        }
        let template_sha256 = chat.template.sha256();
        Ok(Asked { name, file: file_name(path), sha256, template_sha256, sets: judged })
    }

    fn interventions(&self, engine: &Engine) -> Result<Interventions> {
        let read = |path: &Option<PathBuf>| -> Result<Option<(Direction, String)>> {
            let Some(path) = path else { return Ok(None) };
            Ok(Some((read_for(path, engine)?, file_sha256(path)?)))
        };
        let lora = self.lora.as_ref().map(|path| file_sha256(path)).transpose()?;
        Ok(Interventions { ablate: read(&self.ablate)?, add: read(&self.add)?, lora })
    }

    fn report(&self, judges: &Judges, sets: &[Set], models: &[Asked]) -> Result<Report> {
        let reports: Vec<ModelReport> = models.iter().map(|model| model.report(sets)).collect();
        let hash = |path: &Option<PathBuf>| path.as_ref().map(|p| file_sha256(p)).transpose();
        let interventions = [&self.ablate, &self.add, &self.lora].map(hash);
        let [ablate, add, lora] = interventions;
        let prompts = sets.iter().find(|set| set.attack.is_some()).map(|set| &set.prompts);
        let of_set = |set: &Set| (set.name.clone(), PromptsReport::of(&set.prompts));
        let suffixes = sets.iter().find_map(|set| set.suffixes.as_ref());
        Ok(Report {
            version: env!("CARGO_PKG_VERSION").into(),
            judge: judges.first().into(),
            prompts: prompts.map(PromptsReport::of),
            sets: sets.iter().map(of_set).collect(),
            suffixes: suffixes.map(PromptsReport::of),
            settings: SettingsReport {
                max_tokens: self.max_tokens,
                samples: self.sets.samples,
                temperature: self.sets.temperature,
                seed: self.seed,
                parallel: self.parallel,
                gpu_layers: self.engine.gpu_layers,
                system: self.chat.system.clone(),
            },
            interventions: report::InterventionsReport { ablate: ablate?, add: add?, lora: lora? },
            differences: differences(sets, models),
            gates: self.gates(&reports),
            models: reports,
        })
    }

    fn gates(&self, models: &[ModelReport]) -> Vec<GateReport> {
        let mut gates = Vec::new();
        for gate in &self.fail_if {
            for model in models {
                let outcome = model.outcome(&gate.set);
                let worst = outcome.and_then(|outcome| gate.worst(outcome));
                gates.push(GateReport {
                    condition: gate.to_string(),
                    model: model.name.clone(),
                    value: outcome.and_then(|outcome| gate.value(outcome)),
                    worst,
                    failed: gate.fails(worst),
                });
            }
        }
        gates
    }
}

impl Asked {
    fn report(&self, sets: &[Set]) -> ModelReport {
        let outcomes = |attacks: bool| {
            let of = |(set, judged): (&Set, &Judged)| {
                let wanted = set.attack.is_some() == attacks;
                Some((set.name.clone(), outcome(judged).filter(|_| wanted)?))
            };
            sets.iter().zip(&self.sets).filter_map(of).collect()
        };
        let attacks = sets.iter().zip(&self.sets).filter(|(set, _)| set.attack.is_some());
        let attacks: Vec<&Judged> = attacks.map(|(_, judged)| judged).collect();
        ModelReport {
            name: self.name.clone(),
            file: self.file.clone(),
            sha256: self.sha256.clone(),
            template_sha256: self.template_sha256.clone(),
            attacks: outcomes(true),
            benign: outcomes(false),
            agreement: agreement(&attacks),
        }
    }
}

/// Every further model against the first one, and from the third on against the one before it, set
/// by set.
fn differences(sets: &[Set], models: &[Asked]) -> Vec<Difference> {
    let mut found = Vec::new();
    for (base, other) in compared(models) {
        for (set, (a, b)) in sets.iter().zip(base.sets.iter().zip(&other.sets)) {
            let mut compare = |label, measure| {
                let what = (set.name.as_str(), label, measure);
                found.push(difference((&base.name, a), (&other.name, b), what));
            };
            if set.attack.is_some() {
                compare(Label::Compliance, "asr");
            }
            // A model that babbles instead of refusing shows here alone.
            compare(Label::Refusal, "refusal");
        }
    }
    found
}

fn pages<'a>(sets: &'a [Set], models: &'a [Asked]) -> Vec<transcripts::Section<'a>> {
    let of_model = |model: &'a Asked| {
        sets.iter().zip(&model.sets).map(|(set, judged)| transcripts::Section {
            model: &model.name,
            set: &set.name,
            harmful: set.attack.is_some(),
            judged,
        })
    };
    models.iter().flat_map(of_model).collect()
}

/// Names every prompt that lacks an answer once, with the first reason.
fn warn_of_errors(ui: &Ui, model: &str, answers: &[Answer]) {
    let mut named = None;
    for answer in answers {
        let Some(error) = &answer.error else { continue };
        if named.replace(&answer.id) != Some(&answer.id) {
            let (set, id) = (&answer.set, &answer.id);
            ui.warn(format_args!("{model}: {set}: prompt {id} is not answered: {error}"));
        }
    }
}

/// The file's name without its ending.
fn stem(path: &Path) -> String {
    let name = file_name(path);
    split_ending(&name).0.to_owned()
}
