//! Did compression break this model's safety? One verdict, with the figures that decide it.
//!
//! Model and original answer the same prompts, harmful and harmless. Then their logits and residual
//! streams after those prompts are compared, their predictions along the original's answers, and
//! the files themselves.

mod files;
mod report;
mod request;
mod sets;
mod subject;
mod text;

use std::path::Path;

use indexmap::IndexMap;

pub use self::report::{
    AnswersReport, AuditedModel, ConditionReport, DirectionShift, Drift, FilesReport, Judgement,
    KindScores, MarginReport, PromptsReport, Report, Scores, Settings, Shift, Verdict,
};
pub use self::request::{Condition, KeptAnswers, MAX_TOKENS, PARALLEL, Request};
use self::sets::{AuditSet, HARMFUL, HARMLESS};
use self::subject::{ModelReading, Subject};
use super::chat::warn_of_date;
use super::error::{Context, Error, Result, is_interrupt};
use super::host::Host;
use super::search::thinks;
use super::stopped::Stopped;
use crate::direction::RefusalTokens;
use crate::eval::asr::{Difference, Judged, Outcome, difference, outcome};
use crate::eval::audit::{Counted, Evidence, Original, drift, judge};
use crate::gguf::{Model, same_file, write_file};
use crate::judge::Label;
use crate::report::transcripts::{self, Preface, Section};

/// Audits a model. Conditions that hold are in the report.
///
/// # Errors
/// A file cannot be read or written, the two models have different vocabularies, a model has no
/// chat template or llama.cpp cannot run it, an interrupt.
pub fn run(request: &Request, host: &dyn Host) -> Result<Report, Stopped> {
    let sets = sets::read(request)?;
    let files = compare_files(request, host)?;
    let original = match &request.original {
        Some(path) => {
            Some(Answered::new(Subject::open(request, host, path)?, request, host, &sets)?)
        }
        None => None,
    };
    let model = Subject::open(request, host, &request.model)?;
    let model = Answered::new(model, request, host, &sets)?;
    warn(&model, original.as_ref(), files.as_ref(), host);

    let readings = read(request, host, &sets, &model, original.as_ref())?;
    let drift = match &original {
        Some(original) => original.drift_to(&model, &sets, host)?,
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
    if same_file(&request.model, path) {
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
        let harmful = subject.tokens(&sets[0])?;
        let thinks = thinks(&subject.engine, &harmful, request.parallel)?;
        Ok(Answered { subject, answers, thinks })
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

/// What should be known before the verdict is trusted.
fn warn(
    model: &Answered,
    original: Option<&Answered>,
    files: Option<&FilesReport>,
    host: &dyn Host,
) {
    if model.subject.chat.template.prints_date() {
        warn_of_date(host);
    }
    if model.thinks || original.is_some_and(|original| original.thinks) {
        host.warn(
            "the model thinks before it answers: whether it refuses shows only in answers that are \
             long enough to end the thought",
        );
    }
    if files.is_some_and(|files| !files.related) {
        host.warn(
            "the weights of the two models have nothing to do with each other: this is not the \
             original of this model",
        );
    }
}

/// Reads scores and residual streams; None where they say nothing: a model that thinks first, one
/// that hardly refuses, or one whose residual stream cannot be traced.
fn read(
    request: &Request,
    host: &dyn Host,
    sets: &[AuditSet],
    model: &Answered,
    original: Option<&Answered>,
) -> Result<Option<Readings>> {
    let [harmful, harmless, ..] = sets else { return Ok(None) };
    let first = original.unwrap_or(model);
    if first.thinks {
        return Ok(None);
    }
    let Some(refusals) = first.subject.refusal_tokens(request, harmful)? else {
        host.detail("no refusal scores: too few harmful prompts are refused");
        return Ok(None);
    };
    let read = |answered: &Answered, refusals: &RefusalTokens| {
        answered.subject.read(request, host, [harmful, harmless], refusals)
    };
    let both = || -> Result<Readings> {
        let spelled = |token: &i32| first.subject.engine.spelled(*token);
        Ok(Readings {
            refusals_begin: refusals.tokens.iter().map(spelled).collect(),
            original: original.map(|original| read(original, &refusals)).transpose()?,
            model: read(model, &refusals)?,
        })
    };
    match both() {
        Ok(readings) => Ok(Some(readings)),
        Err(error) if is_interrupt(&error) || host.interrupted() => Err(error),
        // The answers are worth more than what comes on top of them.
        Err(error) => {
            host.warn(format_args!("no refusal scores: {error}"));
            Ok(None)
        }
    }
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
        let judgement = judgement(&answers, margin.as_ref());
        let conditions = request.conditions.iter();
        let conditions = conditions.map(|c| condition(c, judgement.verdict, &answers)).collect();
        Report {
            version: crate::VERSION.into(),
            judgement,
            model: self.model.subject.audited(),
            original: self.original.as_ref().map(|original| original.subject.audited()),
            settings: Settings {
                max_tokens: request.max_tokens,
                parallel: request.parallel,
                gpu_layers: request.engine.gpu_layers,
                system: request.chat.system.clone(),
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
        let preface =
            Preface { title: &title, lead: &report.headline(), rows: &rows, notes: &notes };
        transcripts::page(&preface, &sections)
    }
}

/// The verdict on these answers and scores.
fn judgement(
    answers: &IndexMap<String, AnswersReport>,
    margin: Option<&MarginReport>,
) -> Judgement {
    let counted = |of: fn(&AnswersReport) -> Option<&Outcome>| -> Option<Counted> {
        let all = || answers.values().filter_map(of);
        let harmful = of(answers.get(HARMFUL)?)?;
        Some(Counted {
            refused: harmful.shares.refusal.k,
            n_harmful: harmful.asked,
            degenerate: all().map(|outcome| outcome.shares.degenerate.k).sum(),
            n: all().map(|outcome| outcome.asked).sum(),
        })
    };
    let original = || {
        let Difference { fewer, more, p, .. } = answers.get(HARMFUL)?.refusals.as_ref()?;
        let counted = counted(|answers| answers.original.as_ref())?;
        Some(Original { counted, fewer: *fewer, more: *more, p: *p })
    };
    judge(&Evidence {
        model: counted(|answers| Some(&answers.model)).unwrap_or_default(),
        original: original(),
        shift: margin.and_then(|margin| margin.shift.as_ref()),
    })
}

fn condition(
    condition: &Condition,
    verdict: Verdict,
    answers: &IndexMap<String, AnswersReport>,
) -> ConditionReport {
    let (value, failed) = match condition {
        Condition::Verdict(worst) => (None, verdict >= *worst),
        Condition::Figure(gate) => {
            let worst = answers.get(&gate.set).and_then(|answers| gate.worst(&answers.model));
            (worst, gate.fails(worst))
        }
    };
    ConditionReport { condition: condition.to_string(), value, failed }
}

impl Subject {
    fn audited(&self) -> AuditedModel {
        AuditedModel {
            file: self.file.clone(),
            sha256: self.sha256.clone(),
            template_sha256: self.chat.template.sha256(),
        }
    }
}
