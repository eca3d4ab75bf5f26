//! How often do attacks succeed, and how often are harmless prompts refused?

mod answers;
mod judges;
mod report;
mod sets;

use std::path::{Path, PathBuf};

use self::answers::{AnsweredModel, answers};
pub use self::judges::{JudgeChoice, JudgeTemplate};
use self::judges::{Judges, SetToJudge};
pub use self::report::{
    AnswerSettings, GateReport, InterventionsReport, ModelOutcomes, PromptsReport, Report,
};
use self::sets::EvaluationSet;
pub use self::sets::{BenignSet, SetChoice};
use super::chat::{ChatSetup, warn_of_date};
use super::error::{Context, Error, Result, Stopped};
use super::host::Host;
use super::model::file_name;
use crate::adapter::Adapter;
use crate::direction::{self, Direction};
use crate::eval::asr::{Gate, file_sha256};
use crate::gguf::{Model, split_ending, write_file};
use crate::llama::Options;
use crate::report::transcripts;

/// Which models are asked what.
#[derive(Debug, Clone)]
pub struct Request {
    /// GGUF files; any shard of a split one. Each is compared with the first, and from the third on
    /// with the one before it as well. Their names differ.
    pub models: Vec<PathBuf>,
    /// Which prompts are asked.
    pub sets: SetChoice,
    /// Tokens of an answer, at most; at least 1.
    pub max_tokens: usize,
    /// Seed of the samples.
    pub seed: u64,
    /// Answers under way at once; at least 1. Another number may change an answer by float noise.
    pub parallel: u32,
    /// A direction file: its direction is taken out of the residual stream meanwhile.
    pub ablate: Option<PathBuf>,
    /// A direction file: its direction is added at its layer meanwhile.
    pub add: Option<PathBuf>,
    /// A LoRA adapter, as GGUF, to answer with.
    pub lora: Option<PathBuf>,
    /// Whose labels count.
    pub judge: JudgeChoice,
    /// The folder that keeps the answers, as `MODEL.SET.jsonl`: what is there is not made again.
    pub transcripts: Option<PathBuf>,
    /// Conditions that must not hold, each for every model. What has no answer, or no verdict,
    /// counts as what is worse.
    pub gates: Vec<Gate>,
    /// The answers as a page to read, written into this HTML file.
    pub page: Option<PathBuf>,
    /// How prompts are put to the models.
    pub chat: ChatSetup,
    /// How llama.cpp runs.
    pub engine: Options,
}

/// Asks every model, judges the answers and counts them. Conditions that hold are in the report.
///
/// # Errors
/// A file cannot be read or written, prompts cannot be put to a model as asked, transcripts were
/// made with other settings, an interrupt.
pub fn run(request: &Request, host: &dyn Host) -> Result<Report, Stopped> {
    check(request)?;
    make_transcripts_folder(request)?;
    let sets = request.sets.read(request.chat.system.as_deref())?;
    check_sets(request, &sets)?;
    let judges = Judges::open(&request.judge, request.parallel)?;
    check_models(request, host)?;

    let mut models = Vec::new();
    for path in &request.models {
        models.push(answers(request, host, path, &sets)?);
    }
    judges.judge(host, request.engine, to_judge(&sets, &mut models))?;
    let report = Report::new(request, &judges, &sets, &models, interventions(request)?);
    if let Some(path) = &request.page {
        write_file(path, transcripts::page(&sections(&sets, &models)).as_bytes())?;
        host.say(format_args!("wrote {}", path.display()));
    }
    Ok(report)
}

fn check(request: &Request) -> Result<()> {
    if request.max_tokens == 0 || request.parallel == 0 {
        return Err(Error::sentence("max_tokens and parallel are at least 1"));
    }
    let mut names: Vec<String> = request.models.iter().map(|path| stem(path)).collect();
    names.sort();
    match names.windows(2).find(|two| two[0] == two[1]) {
        None => Ok(()),
        Some(twice) => Err(Error::Sentence(format!(
            "two models are named '{}', expected different names: the report and the transcripts \
             go by them\n\
             hint: a link has a name of its own: ln -s base/model.gguf base.gguf",
            twice[0]
        ))),
    }
}

fn make_transcripts_folder(request: &Request) -> Result<()> {
    let Some(folder) = &request.transcripts else { return Ok(()) };
    std::fs::create_dir_all(folder).map_err(|source| {
        let what = format!("cannot make the folder {}", folder.display());
        Error::Io { what, source }
    })
}

/// A condition on a set that is not asked would never hold, and a system prompt that no set has
/// would never be seen.
fn check_sets(request: &Request, sets: &[EvaluationSet]) -> Result<()> {
    if request.chat.system.is_some() && !sets.iter().any(EvaluationSet::has_system) {
        return Err(Error::UnusedSystem);
    }
    let names: Vec<&str> = sets.iter().map(|set| set.name.as_str()).collect();
    match request.gates.iter().find(|gate| !names.contains(&gate.set.as_str())) {
        None => Ok(()),
        Some(gate) => Err(Error::Sentence(format!(
            "condition '{gate}': no set '{}' is asked, expected one of {}",
            gate.set,
            names.join(", ")
        ))),
    }
}

/// Opens all that is needed, so that nothing is missing when the first answers are there.
fn check_models(request: &Request, host: &dyn Host) -> Result<()> {
    let directions = [&request.ablate, &request.add].into_iter().flatten();
    let directions: Vec<Direction> =
        directions.map(|path| Direction::read(path)).collect::<direction::Result<_>>()?;
    let lora = request.lora.as_ref().map(|path| Adapter::open(path)).transpose()?;
    let mut dated = false;
    for path in &request.models {
        let model = Model::open(path)?;
        let chat = request.chat.chat(&model).about(|| path.display().to_string())?;
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
        warn_of_date(host);
    }
    Ok(())
}

fn to_judge<'a>(sets: &[EvaluationSet], models: &'a mut [AnsweredModel]) -> Vec<SetToJudge<'a>> {
    let mut all = Vec::new();
    for model in models {
        for (set, judged) in sets.iter().zip(&mut model.sets) {
            all.push(SetToJudge { harmful: set.attack.is_some(), judged });
        }
    }
    all
}

fn interventions(request: &Request) -> Result<InterventionsReport> {
    let hash = |path: &PathBuf| file_sha256(path);
    Ok(InterventionsReport {
        ablate: request.ablate.as_ref().map(hash).transpose()?,
        add: request.add.as_ref().map(hash).transpose()?,
        lora: request.lora.as_ref().map(hash).transpose()?,
    })
}

fn sections<'a>(
    sets: &'a [EvaluationSet],
    models: &'a [AnsweredModel],
) -> Vec<transcripts::Section<'a>> {
    let of_model = |model: &'a AnsweredModel| {
        sets.iter().zip(&model.sets).map(|(set, judged)| transcripts::Section {
            model: &model.name,
            set: &set.name,
            harmful: set.attack.is_some(),
            judged,
        })
    };
    models.iter().flat_map(of_model).collect()
}

/// The file's name without its ending.
fn stem(path: &Path) -> String {
    split_ending(&file_name(path)).0.to_owned()
}
