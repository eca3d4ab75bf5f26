//! What can models still do? Benchmarks of choices, perplexity of a text, KL to a reference.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::chat::warn_of_date;
use super::error::{Context, Error, Result};
use super::host::Host;
use super::model::{load, model_name};
use super::pairs::compared;
use super::stopped::Stopped;
use crate::eval::tasks::{
    self, Metric, Run, Scored, Tally, Task, TaskData, difference, evaluate, tally, task,
};
use crate::eval::text::{Kl, Measured, Perplexity, Windows, kl, perplexity};
use crate::gguf::{Model, model_sha256};
use crate::llama::{Engine, Options};
use crate::prompts::{ChatTemplate, TextFile};
use crate::report::lm_eval;
pub use crate::report::results::TaskDifference;

/// Letters of a sha256 in names of files.
const MARK: usize = 12;
/// The least tokens of a window: half of them are scored.
const MIN_CTX: usize = 4;
/// Tokens of a window of the text, unless the request has its own number.
const N_CTX: usize = 512;

/// Which models are measured by what.
#[derive(Debug, Clone)]
pub struct Request {
    /// GGUF files; any shard of a split one. Each is compared with the first, and from the third on
    /// with the one before it as well.
    pub models: Vec<PathBuf>,
    /// Names of benchmarks, see [`tasks::TASKS`].
    pub tasks: Vec<String>,
    /// The folder with their data; benchmarks need it.
    pub data_dir: Option<PathBuf>,
    /// Items of each benchmark, at most; at least 1.
    pub limit: usize,
    /// Shuffles the items; None takes the first ones.
    pub seed: Option<u64>,
    /// Put benchmarks through the model's chat template.
    pub chat: bool,
    /// A text for perplexity.
    pub text: Option<PathBuf>,
    /// A model whose predictions in the text are the measure: KL to it.
    pub reference: Option<PathBuf>,
    /// Tokens of a window of the text, at least 4. None: 512, or what the models were trained for
    /// if that is less.
    pub n_ctx: Option<usize>,
    /// Windows of the text, at most; at least 1.
    pub n_chunks: usize,
    /// The folder that keeps every item's scores: a run that was cut off goes on from there.
    pub results: Option<PathBuf>,
    /// The folder for results and samples in lm-evaluation-harness's shapes, a folder for each
    /// model.
    pub lm_eval_dir: Option<PathBuf>,
    /// Choices scored at once; at least 1.
    pub parallel: u32,
    /// How llama.cpp runs.
    pub engine: Options,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// aird's version.
    pub version: String,
    /// Items of each benchmark, at most.
    pub limit: usize,
    /// What the items were shuffled with; null: the file's order.
    pub seed: Option<u64>,
    /// Whether the models were asked through their chat templates.
    pub chat: bool,
    /// What KL is taken to.
    pub reference: Option<ModelId>,
    /// The models' figures, in the order given.
    pub models: Vec<ModelFigures>,
    /// Each further model against the first, and from the third on against the one before it, on
    /// the same items.
    pub differences: Vec<TaskDifference>,
}

/// A model by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelId {
    /// Its file's name.
    pub name: String,
    /// Its sha256.
    pub sha256: String,
}

/// A model's figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFigures {
    /// Its file's name, with a number after it where there are several of that name.
    pub name: String,
    /// Its sha256.
    pub sha256: String,
    /// Benchmarks by name, in the order asked for.
    pub tasks: IndexMap<String, Tally>,
    /// Perplexity of the text.
    pub perplexity: Option<Perplexity>,
    /// Distance to the reference's predictions in the text.
    pub kl: Option<Kl>,
}

/// What every model is measured by.
struct Measures {
    data: Vec<TaskData>,
    text: Option<WindowedText>,
    reference: Option<LoadedReference>,
}

/// The text that models read, and how.
struct WindowedText {
    file: TextFile,
    n_ctx: usize,
    n_chunks: usize,
}

/// A reference model, loaded, with the text as it reads it.
struct LoadedReference {
    id: ModelId,
    engine: Engine,
    windows: Windows,
}

/// All that is known of one model.
struct Measurement {
    figures: ModelFigures,
    /// Tokens of the text, as this model reads it.
    n_text_tokens: Option<usize>,
    /// The scored items of every benchmark, in the order of the data.
    items: Vec<Vec<Scored>>,
}

/// Measures every model, and compares them on the same items.
///
/// # Errors
/// A file cannot be read or written, a name or a row of data is wrong, the text is too short or
/// read as other tokens than the reference's, results were made with other settings, an interrupt.
pub fn run(request: &Request, host: &dyn Host) -> Result<Report, Stopped> {
    check(request)?;
    let data = load_data(request)?;
    for folder in [&request.results, &request.lm_eval_dir].into_iter().flatten() {
        make_folder(folder)?;
    }
    // Read here and once: it may be a pipe.
    let file = request.text.as_deref().map(TextFile::read).transpose()?;
    let n_ctx_train = check_models(request, host)?;
    let text = match file {
        None => None,
        Some(file) => {
            let n_ctx = window_len(request, host, n_ctx_train)?;
            Some(WindowedText { file, n_ctx, n_chunks: request.n_chunks })
        }
    };
    let reference = load_reference(request, host, text.as_ref())?;
    let measures = Measures { data, text, reference };

    let mut measured: Vec<Measurement> = Vec::new();
    for path in &request.models {
        let taken: Vec<String> = measured.iter().map(|m| m.figures.name.clone()).collect();
        measured.push(measure(request, host, path, &taken, &measures)?);
    }
    warn_of_tokens(host, &measured);
    Ok(Report {
        version: crate::VERSION.into(),
        limit: request.limit,
        seed: request.seed,
        chat: request.chat,
        differences: differences(&measures.data, &measured),
        reference: measures.reference.map(|reference| reference.id),
        models: measured.into_iter().map(|m| m.figures).collect(),
    })
}

fn check(request: &Request) -> Result<()> {
    if request.tasks.is_empty() && request.text.is_none() {
        return Err(Error::sentence("nothing to measure: there is no benchmark and no text"));
    }
    if !request.tasks.is_empty() && request.data_dir.is_none() {
        return Err(Error::sentence("benchmarks need the folder with their data"));
    }
    let too_short = request.n_ctx.is_some_and(|n| n < MIN_CTX);
    match request.limit == 0 || request.parallel == 0 || request.n_chunks == 0 || too_short {
        false => Ok(()),
        true => Err(Error::Sentence(format!(
            "limit, parallel and n_chunks are at least 1, n_ctx at least {MIN_CTX}"
        ))),
    }
}

/// The data of every benchmark asked for: what is missing is found before anything is computed.
fn load_data(request: &Request) -> Result<Vec<TaskData>> {
    let Some(folder) = &request.data_dir else { return Ok(Vec::new()) };
    let mut wanted: Vec<&'static dyn Task> = Vec::new();
    for name in &request.tasks {
        let task = task(name.trim())?;
        if !wanted.iter().any(|other| other.name() == task.name()) {
            wanted.push(task);
        }
    }
    let load = |task| Ok(tasks::load(task, folder, request.limit, request.seed)?);
    wanted.into_iter().map(load).collect()
}

fn make_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|source| {
        let what = format!("cannot make {}", folder.display());
        Error::Io { what, source }
    })
}

/// Opens every model, so that none is missing when the first one's figures are there; the tokens
/// that all of them were trained for.
fn check_models(request: &Request, host: &dyn Host) -> Result<usize> {
    let mut dated = false;
    let mut n_ctx_train = usize::MAX;
    for path in &request.models {
        let model = Model::open(path)?;
        n_ctx_train = n_ctx_train.min(context_length(&model)?);
        if request.chat {
            let template = ChatTemplate::from_model(&model);
            let template = template.and_then(|t| t.check(None).map(|()| t));
            dated |= template.about(|| path.display().to_string())?.prints_date();
        }
    }
    if let Some(path) = &request.reference {
        n_ctx_train = n_ctx_train.min(context_length(&Model::open(path)?)?);
    }
    if dated {
        warn_of_date(host);
    }
    Ok(n_ctx_train)
}

/// Tokens that the model was trained for; without end where its file does not say.
fn context_length(model: &Model) -> Result<usize> {
    let n_ctx = model.hparam("context_length")?.and_then(|n| usize::try_from(n).ok());
    Ok(n_ctx.unwrap_or(usize::MAX))
}

/// Tokens of a window, the same for all models: no more than they were trained for.
fn window_len(request: &Request, host: &dyn Host, trained: usize) -> Result<usize> {
    match request.n_ctx {
        Some(n_ctx) if n_ctx > trained => Err(Error::ContextTooLong { n_ctx, trained }),
        Some(n_ctx) => Ok(n_ctx),
        None if trained < MIN_CTX => Err(Error::Sentence(format!(
            "context_length is {trained}, expected at least {MIN_CTX} for a window"
        ))),
        None if trained < N_CTX => {
            host.say(format_args!("windows have {trained} tokens: what the model was trained for"));
            Ok(trained)
        }
        None => Ok(N_CTX),
    }
}

fn load_reference(
    request: &Request,
    host: &dyn Host,
    text: Option<&WindowedText>,
) -> Result<Option<LoadedReference>> {
    let (Some(path), Some(text)) = (&request.reference, text) else { return Ok(None) };
    let model = Model::open(path)?;
    let id = ModelId { name: model_name(&model), sha256: model_sha256(&model, host)? };
    let engine = load(host, &model, request.engine)?;
    let windows = text.windows(&engine)?;
    Ok(Some(LoadedReference { id, engine, windows }))
}

/// All that is to be known of the model at `path`; `taken` are names of models before it.
fn measure(
    request: &Request,
    host: &dyn Host,
    path: &Path,
    taken: &[String],
    measures: &Measures,
) -> Result<Measurement> {
    let model = Model::open(path)?;
    let sha256 = model_sha256(&model, host)?;
    let engine = load(host, &model, request.engine)?;
    // What is wrong with the text is found before benchmarks are run.
    let windows = measures.text.as_ref().map(|text| text.windows(&engine)).transpose()?;
    let reference = measures.reference.as_ref();
    if let (Some(windows), Some(reference)) = (&windows, reference) {
        windows.check_same(&reference.windows)?;
    }
    let chat = request.chat.then(|| ChatTemplate::from_model(&model)).transpose()?;
    let run = Run {
        engine: &engine,
        model_sha256: &sha256,
        chat: chat.as_ref(),
        limit: request.limit,
        seed: request.seed,
        parallel: request.parallel,
    };
    let name = unique(model_name(&model), taken);
    let mut items = Vec::with_capacity(measures.data.len());
    for data in &measures.data {
        items.push(score(request, host, &name, &run, data)?);
    }
    let perplexity = windows.as_ref().map(|w| read_text(request, host, &run, w)).transpose()?;
    let kl = match (&windows, reference) {
        (Some(windows), Some(to)) => Some(distance(request, host, &run, windows, to)?),
        _ => None,
    };
    let scored: Vec<(&TaskData, &[Scored])> =
        measures.data.iter().zip(&items).map(|(data, items)| (data, items.as_slice())).collect();
    if let Some(folder) = &request.lm_eval_dir {
        write_lm_eval(folder, &name, &run, &scored)?;
    }
    let tallied = |(data, items): &(&TaskData, &[Scored])| {
        (data.task.name().to_owned(), tally(data.task, items))
    };
    let tasks: IndexMap<String, Tally> = scored.iter().map(tallied).collect();
    let n_text_tokens = windows.as_ref().map(Windows::n_tokens);
    let figures = ModelFigures { name, sha256, tasks, perplexity, kl };
    warn_if_cut(host, &figures);
    Ok(Measurement { figures, n_text_tokens, items })
}

/// The scored items of one benchmark.
fn score(
    request: &Request,
    host: &dyn Host,
    name: &str,
    run: &Run<'_>,
    data: &TaskData,
) -> Result<Vec<Scored>> {
    let start = std::time::Instant::now();
    let file = kept(request, data.task.name(), run.model_sha256);
    let (items, n_tokens) = evaluate(run, data, file.as_deref(), host)?;
    let seconds = start.elapsed().as_secs_f64();
    host.detail(format_args!(
        "{name}: {} in {seconds:.1} s, {n_tokens} tokens, {:.0} a second",
        data.task.name(),
        n_tokens as f64 / seconds
    ));
    Ok(items)
}

fn read_text(
    request: &Request,
    host: &dyn Host,
    run: &Run<'_>,
    windows: &Windows,
) -> Result<Perplexity> {
    let model = Measured { engine: run.engine, sha256: run.model_sha256 };
    let file = kept(request, "perplexity", run.model_sha256);
    Ok(perplexity(model, windows, file.as_deref(), host)?)
}

fn distance(
    request: &Request,
    host: &dyn Host,
    run: &Run<'_>,
    windows: &Windows,
    to: &LoadedReference,
) -> Result<Kl> {
    let model = Measured { engine: run.engine, sha256: run.model_sha256 };
    let reference = Measured { engine: &to.engine, sha256: &to.id.sha256 };
    let file = kept(request, "kl", run.model_sha256);
    Ok(kl(model, reference, (windows, &to.windows), file.as_deref(), host)?)
}

/// Where the scores of `what` are kept.
fn kept(request: &Request, what: &str, sha256: &str) -> Option<PathBuf> {
    let mark = &sha256[..MARK.min(sha256.len())];
    request.results.as_ref().map(|folder| folder.join(format!("{what}-{mark}.jsonl")))
}

fn warn_if_cut(host: &dyn Host, figures: &ModelFigures) {
    for (task, tally) in figures.tasks.iter().filter(|(_, tally)| tally.n_cut > 0) {
        host.warn(format_args!(
            "{}: {} of {} items of {task} are longer than the model's context and lost their \
             beginning",
            figures.name, tally.n_cut, tally.n
        ));
    }
}

impl WindowedText {
    fn windows(&self, engine: &Engine) -> Result<Windows> {
        Ok(Windows::new(engine, &self.file, self.n_ctx, self.n_chunks)?)
    }
}

/// `name`, with a number after it if it is taken.
fn unique(name: String, taken: &[String]) -> String {
    let numbered = |n: usize| if n == 1 { name.clone() } else { format!("{name} ({n})") };
    let free = (1..).map(numbered).find(|name| !taken.contains(name));
    free.unwrap_or(name)
}

fn write_lm_eval(
    folder: &Path,
    name: &str,
    run: &Run<'_>,
    tasks: &[(&TaskData, &[Scored])],
) -> Result<()> {
    let folder = folder.join(lm_eval::sanitized(name));
    let failed = |source| {
        let what = format!("cannot write into {}", folder.display());
        Error::Io { what, source }
    };
    std::fs::create_dir_all(&folder).map_err(failed)?;
    for file in lm_eval::files(name, run, tasks) {
        std::fs::write(folder.join(file.name), file.text).map_err(failed)?;
    }
    Ok(())
}

/// Perplexities a token say little where one model's tokens are longer than another's.
fn warn_of_tokens(host: &dyn Host, measured: &[Measurement]) {
    let counts = measured.iter().filter_map(|m| Some((&m.figures.name, m.n_text_tokens?)));
    let counts: Vec<(&String, usize)> = counts.collect();
    if counts.windows(2).any(|two| two[0].1 != two[1].1) {
        let counts = counts.iter().map(|(name, n)| format!("{name} {n}"));
        let counts = counts.collect::<Vec<_>>().join(", ");
        host.warn(format_args!(
            "perplexities are not comparable: the models read the text as other tokens ({counts})"
        ));
    }
}

fn differences(data: &[TaskData], measured: &[Measurement]) -> Vec<TaskDifference> {
    let mut differences = Vec::new();
    for (first, other) in compared(measured) {
        for ((data, a), b) in data.iter().zip(&first.items).zip(&other.items) {
            differences.extend(Metric::of(data.task).into_iter().map(|metric| TaskDifference {
                model: other.figures.name.clone(),
                against: first.figures.name.clone(),
                task: data.task.name().into(),
                metric: metric.name().into(),
                difference: difference(metric, a, b),
            }));
        }
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_of_one_name_are_numbered() {
        let taken = ["a.gguf".to_owned(), "a.gguf (2)".to_owned()];
        assert_eq!(unique("a.gguf".into(), &taken), "a.gguf (3)");
        assert_eq!(unique("b.gguf".into(), &taken), "b.gguf");
    }
}
