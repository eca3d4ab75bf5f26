//! How often do attacks succeed, and how often are harmless prompts refused?

mod answers;
mod plan;
mod report;
mod request;
mod sets;

use std::path::PathBuf;
use std::time::Instant;

use self::answers::{AnsweredModel, answers, lora_sha256};
pub use self::plan::PlanReport;
use self::plan::asked;
pub use self::report::{
    AnswerSettings, GateReport, InterventionsReport, ModelOutcomes, PromptsReport, Report,
};
pub use self::request::Request;
use self::sets::EvaluationSet;
pub use self::sets::{BenignSet, SetChoice};
use super::chat::warn_of_date;
use super::error::{Context, Error, Result};
use super::gates::check_asked;
use super::host::Host;
use super::judges::{JudgeChoice, Judges, SetToJudge};
use super::model::file_stem;
use super::stopped::Stopped;
use crate::adapter::Adapter;
use crate::direction::{self, Direction};
use crate::eval::asr::file_sha256;
use crate::gguf::{Model, write_file};
use crate::report::transcripts::{self, Preface};

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
        let page = transcripts::page(&Preface::ANSWERS, &sections(&sets, &models));
        write_file(path, page.as_bytes())?;
        host.say(format_args!("wrote {}", path.display()));
    }
    Ok(report)
}

/// What [`run`] would ask, and how long it would take here: each model is loaded, and reads and
/// writes for about two seconds. Nothing is written, and no answer is made.
///
/// # Errors
/// As [`run`], as far as they are found before the first answer.
pub fn plan(request: &Request, host: &dyn Host) -> Result<PlanReport, Stopped> {
    let begun = Instant::now();
    check(request)?;
    let sets = request.sets.read(request.chat.system.as_deref())?;
    check_sets(request, &sets)?;
    Judges::open(&request.judge, request.parallel)?;
    check_models(request, host)?;
    let mut report = PlanReport {
        n_prompts: sets.iter().map(|set| set.prompts.len()).sum(),
        max_tokens: request.max_tokens,
        ..PlanReport::default()
    };
    let mut seconds = 0.0;
    for path in &request.models {
        let of_model = asked(request, host, path, &sets)?;
        report.n_answers += of_model.n_answers;
        report.prompt_tokens += of_model.prompt_tokens;
        seconds += of_model.seconds;
    }
    let is_model = matches!(request.judge, JudgeChoice::Model { .. });
    report.estimated_seconds = (!is_model).then(|| begun.elapsed().as_secs_f64() + seconds);
    Ok(report)
}

fn check(request: &Request) -> Result<()> {
    if request.max_tokens == 0 || request.parallel == 0 {
        return Err(Error::sentence("max_tokens and parallel are at least 1"));
    }
    let mut names: Vec<String> = request.models.iter().map(|path| file_stem(path)).collect();
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
    check_asked(&request.gates, &names)
}

/// Opens all that is needed, so that nothing is missing when the first answers are there.
fn check_models(request: &Request, host: &dyn Host) -> Result<()> {
    let directions = [&request.ablate, &request.add].into_iter().flatten();
    let directions: Vec<Direction> =
        directions.map(|path| Direction::read(path)).collect::<direction::Result<_>>()?;
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
        if let Some(lora) = &request.lora {
            Adapter::open_for(lora, &model)?.check(&model)?;
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
        lora: request.lora.as_ref().map(|path| lora_sha256(path)).transpose()?,
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
