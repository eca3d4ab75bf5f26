//! `aird tasks`: what a model can still do, by benchmarks of choices, perplexity and KL.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use indexmap::IndexMap;
use serde::{Serialize, Serializer};

use super::args::{EngineArgs, compared, model_name};
use super::chat::warn_of_date;
use super::paths::Verb;
use super::tasks_table::text;
use super::ui::Ui;
use crate::eval::tasks::{
    self, Difference, Metric, Run, Scored, Tally, Task, TaskData, difference, evaluate, tally, task,
};
use crate::eval::text::{Kl, Measured, Perplexity, Windows, kl, perplexity};
use crate::gguf::{Model, model_sha256};
use crate::llama::Engine;
use crate::prompts::{ChatTemplate, TextFile};
use crate::report::lm_eval;

/// Letters of a sha256 in names of files.
const MARK: usize = 12;
/// The least tokens of a window: half of them are scored.
const MIN_CTX: usize = 4;
/// Tokens of a window of the text, unless said otherwise.
const N_CTX: usize = 512;

/// Measure what models can do: benchmarks of choices, perplexity, KL to another model
#[derive(Debug, Args)]
pub struct Tasks {
    /// GGUF files, of each any shard. Each is compared with the first, and from the third on with
    /// the one before it as well: name a base, its pruned form and that one's repair in this order.
    #[arg(required = true)]
    models: Vec<PathBuf>,
    /// Benchmarks, with commas between: rte, arc_challenge, arc_easy, boolq, winogrande,
    /// hellaswag.
    #[arg(long, value_delimiter = ',', value_name = "LIST", requires = "data_dir")]
    tasks: Vec<String>,
    /// The folder with their data.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Items of each benchmark, at most.
    #[arg(long, default_value_t = 200, value_name = "N")]
    limit: usize,
    /// Shuffle the items with this seed; without it the first ones are taken.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Ask through the model's chat template.
    #[arg(long)]
    chat: bool,
    /// A text for perplexity.
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// A model whose predictions in the text are the measure: KL to it.
    #[arg(long, value_name = "MODEL", requires = "text")]
    reference: Option<PathBuf>,
    /// Tokens of a window of the text. Default: 512, or what the models were trained for if that
    /// is less.
    #[arg(long, value_name = "N")]
    ctx: Option<usize>,
    /// Windows of the text, at most.
    #[arg(long, default_value_t = usize::MAX, hide_default_value = true, value_name = "N")]
    chunks: usize,
    /// Keep every item's scores here, and go on from there if cut off. A folder for each setting.
    #[arg(long, value_name = "FOLDER")]
    results: Option<PathBuf>,
    /// Write results and samples as lm-evaluation-harness does, a folder for each model. They
    /// compare with its own runs with add_bos_token=True; hellaswag from a .txt file does not.
    #[arg(long, value_name = "DIR", requires = "tasks")]
    lm_eval_dir: Option<PathBuf>,
    /// Choices scored at once.
    #[arg(long, default_value_t = 64, value_name = "N")]
    parallel: u32,
    #[command(flatten)]
    engine: EngineArgs,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// What `aird tasks --json` prints.
#[derive(Debug, Serialize)]
pub struct Report {
    /// aird's version.
    pub version: &'static str,
    /// Items of each benchmark, at most.
    pub limit: usize,
    /// What the items were shuffled with; null: the file's order.
    pub seed: Option<u64>,
    /// Whether the models were asked through their chat templates.
    pub chat: bool,
    /// What KL is taken to.
    pub reference: Option<Name>,
    /// The models' figures, in the order given.
    pub models: Vec<Figures>,
    /// Each further model against the first, and from the third on against the one before it, on
    /// the same items.
    pub differences: Vec<Compared>,
}

/// A model by name.
#[derive(Debug, Clone, Serialize)]
pub struct Name {
    /// Its file's name.
    pub name: String,
    /// Its sha256.
    pub sha256: String,
}

/// A model's figures.
#[derive(Debug, Serialize)]
pub struct Figures {
    /// Its file's name, with a number behind it where there are several of that name.
    #[serde(flatten)]
    pub model: Name,
    /// Benchmarks by name, in the order asked for.
    #[serde(serialize_with = "as_map")]
    pub tasks: IndexMap<&'static str, Tally>,
    /// Perplexity of the text.
    pub perplexity: Option<Perplexity>,
    /// Distance to the reference's predictions in the text.
    pub kl: Option<Kl>,
    /// Tokens of the text, as this model reads it.
    #[serde(skip)]
    pub n_text_tokens: Option<usize>,
}

fn as_map<S: Serializer>(
    tasks: &IndexMap<&'static str, Tally>,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_map(tasks)
}

/// A model against another.
#[derive(Debug, Serialize)]
pub struct Compared {
    /// The model's name.
    pub model: String,
    /// The name of that which it is compared with.
    pub against: String,
    /// The benchmark.
    pub task: &'static str,
    /// The rule that says what is right.
    pub metric: &'static str,
    /// What changed.
    #[serde(flatten)]
    pub difference: Difference,
}

/// The text that models read, and how.
struct Text {
    file: TextFile,
    n_ctx: usize,
    n_chunks: usize,
}

/// A reference model, loaded.
struct Reference {
    name: Name,
    engine: Engine,
    windows: Windows,
}

impl Verb for Tasks {
    fn run(self, ui: &Ui) -> Result<()> {
        let data = self.data()?;
        for folder in [&self.results, &self.lm_eval_dir].into_iter().flatten() {
            let made = std::fs::create_dir_all(folder);
            made.with_context(|| format!("cannot make {}", folder.display()))?;
        }
        // Read here and once: it may be a pipe.
        let file = self.text.as_deref().map(TextFile::read).transpose()?;
        let trained = self.check_models(ui)?;
        let n_chunks = self.chunks;
        let read = match file {
            Some(file) => Some(Text { file, n_ctx: self.n_ctx(ui, trained)?, n_chunks }),
            None => None,
        };
        let reference = self.load_reference(ui, read.as_ref())?;
        let mut models: Vec<Figures> = Vec::new();
        let mut scored: Vec<Vec<Vec<Scored>>> = Vec::new();
        for path in &self.models {
            let named = models.iter().map(|m| m.model.name.clone()).collect::<Vec<_>>();
            let (figures, items) =
                self.measure(ui, path, &named, &data, (read.as_ref(), reference.as_ref()))?;
            self.warn_if_cut(ui, &figures);
            models.push(figures);
            scored.push(items);
        }
        warn_of_tokens(ui, &models);
        let differences = differences(&models, &data, &scored);
        let report = Report {
            version: env!("CARGO_PKG_VERSION"),
            limit: self.limit,
            seed: self.seed,
            chat: self.chat,
            reference: reference.map(|reference| reference.name),
            models,
            differences,
        };
        if self.json { ui.print_json(&report) } else { ui.print(text(&report)) }
    }
}

impl Tasks {
    /// The data of every task asked for: what is missing is said before anything is computed.
    fn data(&self) -> Result<Vec<TaskData>> {
        if self.tasks.is_empty() && self.text.is_none() {
            bail!("nothing to measure: name --tasks with --data-dir, or a --text");
        }
        let too_short = self.ctx.is_some_and(|n| n < 4);
        if self.limit == 0 || self.parallel == 0 || self.chunks == 0 || too_short {
            bail!("--limit, --parallel and --chunks are at least 1, --ctx at least 4");
        }
        let Some(folder) = &self.data_dir else { return Ok(Vec::new()) };
        let mut wanted: Vec<&'static dyn Task> = Vec::new();
        for name in &self.tasks {
            let task = task(name.trim())?;
            if !wanted.iter().any(|other| other.name() == task.name()) {
                wanted.push(task);
            }
        }
        let load = |task| Ok(tasks::load(task, folder, self.limit, self.seed)?);
        wanted.into_iter().map(load).collect()
    }

    /// Opens every model, so that none is missing when the first one's figures are there; the
    /// tokens that all of them were trained for.
    fn check_models(&self, ui: &Ui) -> Result<usize> {
        let mut dated = false;
        let mut trained = usize::MAX;
        let mut seen = |model: &Model| {
            let n_ctx = model.hparam("context_length")?.and_then(|n| usize::try_from(n).ok());
            trained = trained.min(n_ctx.unwrap_or(usize::MAX));
            Ok::<(), anyhow::Error>(())
        };
        for path in &self.models {
            let model = Model::open(path)?;
            seen(&model)?;
            if self.chat {
                let template = ChatTemplate::from_model(&model);
                let template = template.and_then(|t| t.check(None).map(|()| t));
                dated |= template.with_context(|| path.display().to_string())?.prints_date();
            }
        }
        if let Some(path) = &self.reference {
            seen(&Model::open(path)?)?;
        }
        if dated {
            warn_of_date(ui);
        }
        Ok(trained)
    }

    /// Tokens of a window, the same for all models: no more than they were trained for.
    fn n_ctx(&self, ui: &Ui, trained: usize) -> Result<usize> {
        match self.ctx {
            Some(ctx) if ctx > trained => {
                bail!("--ctx is {ctx}, the model was trained for {trained} tokens")
            }
            Some(ctx) => return Ok(ctx),
            None if trained < MIN_CTX => {
                bail!("context_length is {trained}, expected at least {MIN_CTX} for a window")
            }
            None if trained < N_CTX => ui
                .say(format_args!("windows have {trained} tokens: what the model was trained for")),
            None => {}
        }
        Ok(N_CTX.min(trained))
    }

    fn load_reference(&self, ui: &Ui, text: Option<&Text>) -> Result<Option<Reference>> {
        let (Some(path), Some(text)) = (&self.reference, text) else { return Ok(None) };
        let model = Model::open(path)?;
        let name = Name { name: model_name(&model), sha256: model_sha256(&model, ui)? };
        let engine = self.engine.load(ui, &model)?;
        let windows = text.windows(&engine)?;
        Ok(Some(Reference { name, engine, windows }))
    }

    /// All that is to be known of one model.
    fn measure(
        &self,
        ui: &Ui,
        path: &Path,
        named: &[String],
        data: &[TaskData],
        (text, reference): (Option<&Text>, Option<&Reference>),
    ) -> Result<(Figures, Vec<Vec<Scored>>)> {
        let model = Model::open(path)?;
        let sha256 = model_sha256(&model, ui)?;
        let engine = self.engine.load(ui, &model)?;
        // What is wrong with the text is said before benchmarks are run.
        let windows = text.map(|text| text.windows(&engine)).transpose()?;
        if let (Some(windows), Some(reference)) = (&windows, reference) {
            windows.check_same(&reference.windows)?;
        }
        let chat = self.chat.then(|| ChatTemplate::from_model(&model)).transpose()?;
        let run = Run {
            engine: &engine,
            model_sha256: &sha256,
            chat: chat.as_ref(),
            limit: self.limit,
            seed: self.seed,
            parallel: self.parallel,
        };
        let name = unique(model_name(&model), named);
        let mut scored = Vec::with_capacity(data.len());
        for data in data {
            let start = std::time::Instant::now();
            let file = self.kept(data.task.name(), &sha256);
            let (items, n_tokens) = evaluate(&run, data, file.as_deref(), ui)?;
            let seconds = start.elapsed().as_secs_f64();
            ui.detail(format_args!(
                "{name}: {} in {seconds:.1} s, {n_tokens} tokens, {:.0} a second",
                data.task.name(),
                n_tokens as f64 / seconds
            ));
            scored.push(items);
        }
        let (perplexity, kl) = match &windows {
            Some(windows) => self.read_text(&run, windows, reference, ui)?,
            None => (None, None),
        };
        let pairs: Vec<(&TaskData, &[Scored])> =
            data.iter().zip(&scored).map(|(data, items)| (data, items.as_slice())).collect();
        if let Some(folder) = &self.lm_eval_dir {
            write_lm_eval(folder, &name, &run, &pairs)?;
        }
        let tallies = pairs.iter().map(|(data, items)| (data.task.name(), tally(data.task, items)));
        let tasks = tallies.collect();
        let n_text_tokens = windows.as_ref().map(Windows::n_tokens);
        let model = Name { name, sha256 };
        Ok((Figures { model, tasks, perplexity, kl, n_text_tokens }, scored))
    }

    fn read_text(
        &self,
        run: &Run<'_>,
        windows: &Windows,
        reference: Option<&Reference>,
        ui: &Ui,
    ) -> Result<(Option<Perplexity>, Option<Kl>)> {
        let model = Measured { engine: run.engine, sha256: run.model_sha256 };
        let file = self.kept("perplexity", run.model_sha256);
        let perplexity = perplexity(model, windows, file.as_deref(), ui)?;
        let Some(reference) = reference else { return Ok((Some(perplexity), None)) };
        let file = self.kept("kl", run.model_sha256);
        let both = (windows, &reference.windows);
        let to = Measured { engine: &reference.engine, sha256: &reference.name.sha256 };
        let kl = kl(model, to, both, file.as_deref(), ui)?;
        Ok((Some(perplexity), Some(kl)))
    }

    /// Where the scores of `what` are kept.
    fn kept(&self, what: &str, sha256: &str) -> Option<PathBuf> {
        let mark = &sha256[..MARK.min(sha256.len())];
        self.results.as_ref().map(|folder| folder.join(format!("{what}-{mark}.jsonl")))
    }

    fn warn_if_cut(&self, ui: &Ui, figures: &Figures) {
        for (task, tally) in figures.tasks.iter().filter(|(_, tally)| tally.n_cut > 0) {
            ui.warn(format_args!(
                "{}: {} of {} items of {task} are longer than the model's context and lost their \
                 beginning",
                figures.model.name, tally.n_cut, tally.n
            ));
        }
    }
}

impl Text {
    fn windows(&self, engine: &Engine) -> Result<Windows> {
        Ok(Windows::new(engine, &self.file, self.n_ctx, self.n_chunks)?)
    }
}

/// `name`, with a number behind it if it is taken.
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
    let failed = || format!("cannot write into {}", folder.display());
    std::fs::create_dir_all(&folder).with_context(failed)?;
    for file in lm_eval::files(name, run, tasks) {
        std::fs::write(folder.join(file.name), file.text).with_context(failed)?;
    }
    Ok(())
}

/// Perplexities a token say little where one model's tokens are longer than another's.
fn warn_of_tokens(ui: &Ui, models: &[Figures]) {
    let counts = models.iter().filter_map(|m| Some((&m.model.name, m.n_text_tokens?)));
    let counts: Vec<(&String, usize)> = counts.collect();
    if counts.windows(2).any(|two| two[0].1 != two[1].1) {
        let counts = counts.iter().map(|(name, n)| format!("{name} {n}"));
        let counts = counts.collect::<Vec<_>>().join(", ");
        ui.warn(format_args!(
            "perplexities are not comparable: the models read the text as other tokens ({counts})"
        ));
    }
}

fn differences(
    models: &[Figures],
    data: &[TaskData],
    scored: &[Vec<Vec<Scored>>],
) -> Vec<Compared> {
    let models: Vec<(&Figures, &Vec<Vec<Scored>>)> = models.iter().zip(scored).collect();
    let mut differences = Vec::new();
    for ((first, a), (other, b)) in compared(&models) {
        for ((data, a), b) in data.iter().zip(*a).zip(*b) {
            differences.extend(Metric::of(data.task).into_iter().map(|metric| Compared {
                model: other.model.name.clone(),
                against: first.model.name.clone(),
                task: data.task.name(),
                metric: metric.name(),
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
    fn names_are_told_apart() {
        let taken = ["a.gguf".to_owned(), "a.gguf (2)".to_owned()];
        assert_eq!(unique("a.gguf".into(), &taken), "a.gguf (3)");
        assert_eq!(unique("b.gguf".into(), &taken), "b.gguf");
    }
}
