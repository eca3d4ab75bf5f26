//! `aird tasks`: its arguments; `tasks_table.rs` has its report in print.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use super::args::EngineArgs;
use super::paths::Verb;
use super::tasks_table::text;
use super::ui::Ui;
use crate::verbs::tasks::{Request, run};

/// Measure what models can do: benchmarks of choices, perplexity, KL to another model
#[derive(Debug, Args)]
pub(super) struct Tasks {
    /// GGUF files, of each any shard. Each is compared with the first, and from the third on with
    /// the one before it as well: name a base, its pruned form and that one's repair in this order.
    #[arg(required = true)]
    models: Vec<PathBuf>,
    /// Benchmarks, separated by commas: rte, arc_challenge, arc_easy, boolq, winogrande, hellaswag.
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
    /// Keep every item's scores here, and continue from there if interrupted. Use one folder for
    /// each setting.
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

impl Verb for Tasks {
    fn models(&mut self) -> Result<Vec<&mut PathBuf>> {
        Ok(self.models.iter_mut().chain(&mut self.reference).collect())
    }

    fn run(self, ui: &Ui) -> Result<()> {
        if self.tasks.is_empty() && self.text.is_none() {
            bail!("nothing to measure: name --tasks with --data-dir, or a --text");
        }
        let too_short = self.ctx.is_some_and(|n| n < 4);
        if self.limit == 0 || self.parallel == 0 || self.chunks == 0 || too_short {
            bail!("--limit, --parallel and --chunks are at least 1, --ctx at least 4");
        }
        let request = Request {
            models: self.models,
            tasks: self.tasks,
            data_dir: self.data_dir,
            limit: self.limit,
            seed: self.seed,
            chat: self.chat,
            text: self.text,
            reference: self.reference,
            n_ctx: self.ctx,
            n_chunks: self.chunks,
            results: self.results,
            lm_eval_dir: self.lm_eval_dir,
            parallel: self.parallel,
            engine: self.engine.options(),
        };
        let report = run(&request, ui)?;
        ui.report(self.json, &report, || text(&report))
    }
}
