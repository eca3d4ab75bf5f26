//! Did compression break this model's safety? One verdict, with the figures that decide it.
//!
//! Model and original answer the same prompts, harmful and harmless. Then their logits and residual
//! streams after those prompts are compared, their predictions along the original's answers, and
//! the files themselves.

mod evidence;
mod files;
mod report;
mod request;
mod sets;
mod subject;
mod text;

use std::path::{Path, PathBuf};

use indexmap::IndexMap;

use self::evidence::{counted, original};
pub use self::report::{
    AnswersReport, AuditedModel, ConditionReport, DirectionShift, Drift, FilesReport, Judgement,
    KindScores, MarginReport, PromptsReport, Report, Scores, Settings, Shift, Verdict,
};
pub use self::request::{Condition, KeptAnswers, MAX_TOKENS, PARALLEL, Request};
use self::sets::{AuditSet, HARMLESS};
use self::subject::{ModelReading, Subject, kept_folder};
use super::chat::warn_of_date;
use super::error::{Context, Error, Result, is_interrupt};
use super::host::Host;
use super::search::thinks;
use super::stopped::Stopped;
use super::words;
use crate::eval::asr::{Judged, difference, outcome};
use crate::eval::audit::{Evidence, Original, drift, judge};
use crate::gguf::{Model, Shard, same_file, write_file};
use crate::judge::Label;
use crate::llama::cpu_features;
use crate::report::transcripts::{self, Preface, Section};

/// Audits a model. Conditions that hold are in the report.
///
/// # Errors
/// A file cannot be read or written, the two models have different vocabularies, a model has no
/// chat template or llama.cpp cannot run it, an interrupt.
pub fn run(request: &Request, host: &dyn Host) -> Result<Report, Stopped> {
    let sets = sets::read(request)?;
    let files = compare_files(request, host)?;
    let kept = |path: &Path| kept_folder(&request.kept, path, host);
    let of_original = request.original.as_deref().map(kept).transpose()?.flatten();
    let of_model = kept(&request.model)?;
    let answered = |path: &Path, kept: Option<PathBuf>| {
        Answered::new(Subject::open(request, host, path, kept)?, request, host, &sets)
    };
    let original =
        request.original.as_deref().map(|path| answered(path, of_original)).transpose()?;
    let model = answered(&request.model, of_model)?;
    warn(&model, original.as_ref(), host);

    let readings = read(request, host, &sets, &model, original.as_ref())?;
    let drift = match &original {
        Some(original) => or_warning("no comparison of predictions", host, || {
            original.drift_to(&model, &sets, host)
        })?,
        None => None,
    };
    let found = Found { model, original, readings, drift, files };
    let report = found.report(request, &sets);
    if let Some(path) = &request.page {
        write_file(path, found.page(&report, &sets).as_bytes())?;
        host.say(format_args!("wrote {}", path.display()));
    }
    Ok(report)
}

/// A model with its answers to every set.
struct Answered {
    subject: Subject,
    answers: Vec<Judged>,
    /// True if it thinks before it answers.
    thinks: bool,
}

/// What was read from the logits of both.
struct Readings {
    refusals_begin: Vec<String>,
    model: ModelReading,
    original: Option<ModelReading>,
}

/// All that was found.
struct Found {
    model: Answered,
    original: Option<Answered>,
    readings: Option<Readings>,
    drift: Option<Drift>,
    files: Option<FilesReport>,
}

/// Compares the files, and opens all that is needed, before any model runs: what is wrong with the
/// second model is not found after the first one's answers.
fn compare_files(request: &Request, host: &dyn Host) -> Result<Option<FilesReport>> {
    let open = |path: &Path| -> Result<Model> {
        let model = Model::open(path)?;
        request.chat.chat(&model).about(|| path.display().to_string())?;
        Ok(model)
    };
    let model = open(&request.model)?;
    let Some(path) = &request.original else { return Ok(None) };
    let original = open(path)?;
    let is_of_original =
        |shard: &Shard| original.shards().iter().any(|other| same_file(&shard.path, &other.path));
    if model.shards().iter().any(is_of_original) {
        return Err(Error::Sentence(format!(
            "the original is the model itself: {}\n{}",
            path.display(),
            files::HINT
        )));
    }
    files::check_tokens(&model, &original)?;
    files::compare(&model, &original, host).map(Some)
}

impl Answered {
    fn new(
        subject: Subject,
        request: &Request,
        host: &dyn Host,
        sets: &[AuditSet],
    ) -> Result<Answered> {
        host.detail(format_args!("{}: asking", subject.file));
        let answers = subject.answers(request, host, sets)?;
        for (set, judged) in sets.iter().zip(&answers) {
            warn_of_errors(host, &subject.file, set.name, judged);
        }
        let mut answered = Answered { subject, answers, thinks: false };
        let harmful = answered.tokens(&[&answered], (0, &sets[0]))?;
        answered.thinks = thinks(&answered.subject.engine, &harmful, request.parallel)?;
        Ok(answered)
    }

    /// The prompts of the set at `place` that all of `models` answered, as this one reads them: no
    /// prompt that is too long for a context is read.
    fn tokens(
        &self,
        models: &[&Answered],
        (place, set): (usize, &AuditSet),
    ) -> Result<Vec<Vec<i32>>> {
        let is_answered =
            |i: usize| models.iter().all(|one| one.answers[place].answers[i].error.is_none());
        let tokens = self.subject.tokens(set)?.into_iter().enumerate();
        Ok(tokens.filter(|(i, _)| is_answered(*i)).map(|(_, tokens)| tokens).collect())
    }

    /// How far the predictions of `model` drift along this original's answers to harmless prompts.
    fn drift_to(
        &self,
        model: &Answered,
        sets: &[AuditSet],
        host: &dyn Host,
    ) -> Result<Option<Drift>> {
        let is_harmless = |set: &AuditSet| set.name == HARMLESS;
        let Some(place) = sets.iter().position(is_harmless) else { return Ok(None) };
        let answers = &self.answers[place];
        let complies = |i: usize| answers.answers[i].label == Some(Label::Compliance);
        let texts = self.subject.answered(&sets[place], answers, complies)?;
        Ok(drift(&model.subject.engine, &self.subject.engine, &texts, host)?)
    }
}

/// Says how many prompts lack an answer, with the first reason.
fn warn_of_errors(host: &dyn Host, model: &str, set: &str, judged: &Judged) {
    let errors = || judged.answers.iter().filter_map(|answer| answer.error.as_ref());
    if let Some(first) = errors().next() {
        let n = words::counted(errors().count(), "prompt");
        host.warn(format_args!("{model}: {set}: {n} without an answer: {first}"));
    }
}

/// What should be known before the verdict is trusted.
fn warn(model: &Answered, original: Option<&Answered>, host: &dyn Host) {
    if model.subject.chat.template.prints_date() {
        warn_of_date(host);
    }
    if model.thinks || original.is_some_and(|original| original.thinks) {
        host.warn(
            "the model thinks before it answers: whether it refuses shows only in answers that are \
             long enough to end the thought",
        );
    }
}

/// What comes on top of the answers, and is worth less than they are: where it cannot be found
/// that is a warning.
fn or_warning<T>(
    missing: &str,
    host: &dyn Host,
    find: impl FnOnce() -> Result<Option<T>>,
) -> Result<Option<T>> {
    match find() {
        Err(error) if is_interrupt(&error) || host.interrupted() => Err(error),
        Err(error) => {
            host.warn(format_args!("{missing}: {error}"));
            Ok(None)
        }
        found => found,
    }
}

/// Reads scores and residual streams; None where they say nothing: a model that thinks first, one
/// whose refusals begin in no known way and that hardly refuses, or one whose residual stream
/// cannot be traced.
fn read(
    request: &Request,
    host: &dyn Host,
    sets: &[AuditSet],
    model: &Answered,
    original: Option<&Answered>,
) -> Result<Option<Readings>> {
    let [harmful, harmless, ..] = sets else { return Ok(None) };
    let first = original.unwrap_or(model);
    if model.thinks || first.thinks {
        return Ok(None);
    }
    or_warning("no refusal scores", host, || {
        let both = [first, model];
        let prompts = |of: &Answered| -> Result<[Vec<Vec<i32>>; 2]> {
            Ok([of.tokens(&both, (0, harmful))?, of.tokens(&both, (1, harmless))?])
        };
        let of_first = prompts(first)?;
        if of_first.iter().any(Vec::is_empty) {
            return Ok(None);
        }
        let Some(refusals) = first.subject.refusal_tokens(request, &of_first[0])? else {
            host.detail("no refusal scores: too few harmful prompts are refused");
            return Ok(None);
        };
        let read = |answered: &Answered, prompts: &[Vec<Vec<i32>>; 2]| {
            answered.subject.read(request, host, prompts, &refusals)
        };
        let spelled = |token: &i32| first.subject.engine.spelled(*token);
        Ok(Some(Readings {
            refusals_begin: refusals.tokens.iter().map(spelled).collect(),
            original: original.map(|original| read(original, &of_first)).transpose()?,
            model: read(model, &prompts(model)?)?,
        }))
    })
}

impl Found {
    fn report(&self, request: &Request, sets: &[AuditSet]) -> Report {
        let readings = self.readings.as_ref();
        let margin = readings.and_then(|readings| {
            let begin = readings.refusals_begin.clone();
            MarginReport::new(begin, &readings.model, readings.original.as_ref())
        });
        let direction = readings
            .and_then(|readings| DirectionShift::new(&readings.model, readings.original.as_ref()?));
        let answers = sets.iter().enumerate().filter_map(|(i, set)| self.answers(i, set));
        let answers: IndexMap<String, AnswersReport> = answers.collect();
        let judgement = self.judgement(&answers, margin.as_ref(), request.max_tokens);
        let conditions = request.conditions.iter();
        let conditions = conditions.map(|c| condition(c, judgement.verdict, &answers)).collect();
        Report {
            version: crate::VERSION.into(),
            judgement,
            model: self.model.audited(),
            original: self.original.as_ref().map(Answered::audited),
            settings: Settings {
                max_tokens: request.max_tokens,
                parallel: request.parallel,
                gpu_layers: request.engine.gpu_layers,
                system: request.chat.system.clone(),
                build: crate::BUILD.into(),
                cpu: cpu_features(),
            },
            prompts: sets
                .iter()
                .map(|set| (set.name.to_owned(), PromptsReport::of(&set.prompts)))
                .collect(),
            answers,
            margin,
            drift: self.drift.clone(),
            direction,
            files: self.files.clone(),
            conditions,
        }
    }

    /// The answers of both to the set at `place`.
    fn answers(&self, place: usize, set: &AuditSet) -> Option<(String, AnswersReport)> {
        let of = |answered: &Answered| outcome(&answered.answers[place]);
        let refusals = self.original.as_ref().map(|original| {
            difference(
                (&original.subject.file, &original.answers[place]),
                (&self.model.subject.file, &self.model.answers[place]),
                (set.name, Label::Refusal, "refusal"),
            )
        });
        let original = self.original.as_ref().and_then(of);
        let report = AnswersReport { model: of(&self.model)?, original, refusals };
        Some((set.name.to_owned(), report))
    }

    /// The verdict on these answers and scores.
    fn judgement(
        &self,
        answers: &IndexMap<String, AnswersReport>,
        margin: Option<&MarginReport>,
        max_tokens: usize,
    ) -> Judgement {
        let is_unrelated = self.files.as_ref().is_some_and(|files| !files.related);
        let mut all = self.original.iter().chain([&self.model]);
        judge(&Evidence {
            model: counted(answers, |answers| Some(&answers.model)).unwrap_or_default(),
            original: original(answers).map(|found| Original { is_unrelated, ..found }),
            shift: margin.and_then(|margin| margin.shift.as_ref()),
            thinks: all.any(|answered| answered.thinks),
            max_tokens,
        })
    }

    fn page(&self, report: &Report, sets: &[AuditSet]) -> String {
        let models = self.original.iter().chain([&self.model]);
        let sections: Vec<Section<'_>> = models
            .flat_map(|answered| {
                sets.iter().zip(&answered.answers).map(|(set, judged)| Section {
                    model: &answered.subject.file,
                    set: set.name,
                    harmful: set.is_harmful,
                    judged,
                })
            })
            .collect();
        let rows = report.rows();
        let title = format!("Audit of {}", report.model.file);
        let notes = report.notes();
        let lead = report.lead();
        let preface = Preface { title: &title, lead: &lead, rows: &rows, notes: &notes };
        transcripts::page(&preface, &sections)
    }
}

fn condition(
    condition: &Condition,
    verdict: Verdict,
    answers: &IndexMap<String, AnswersReport>,
) -> ConditionReport {
    let (value, failed) = match condition {
        Condition::Verdict(worst) => (None, verdict.fails(*worst)),
        Condition::Figure(gate) => {
            let worst = answers.get(&gate.set).and_then(|answers| gate.worst(&answers.model));
            (worst, gate.fails(worst))
        }
    };
    ConditionReport { condition: condition.to_string(), value, failed }
}

impl Answered {
    fn audited(&self) -> AuditedModel {
        AuditedModel {
            file: self.subject.file.clone(),
            sha256: self.subject.sha256.clone(),
            template_sha256: self.subject.chat.template.sha256(),
            thinks: self.thinks,
        }
    }
}
