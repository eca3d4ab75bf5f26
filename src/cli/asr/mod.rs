//! `aird asr`: its arguments; `report.rs` has its report in print.

mod report;
mod sets;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use self::report::gate_text;
use self::sets::SetArgs;
use super::args::{EngineArgs, output_path};
use super::chat::ChatArgs;
use super::exit::GateFailed;
use super::judges::JudgeArgs;
use super::paths::{Paths, Verb};
use super::ui::Ui;
use crate::eval::asr::Gate;
use crate::gguf::same_file;
use crate::verbs::asr::{Request, plan, run};

/// Measure how often attacks succeed, and how often harmless prompts are refused
#[derive(Debug, Args)]
pub(super) struct Asr {
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
    /// Answer with a LoRA adapter: a GGUF file or a PEFT folder.
    #[arg(long, value_name = "ADAPTER")]
    lora: Option<PathBuf>,
    #[command(flatten)]
    judge: JudgeArgs,
    /// Keep the answers here, as MODEL.SET.jsonl; what is there already is not made again. Use one
    /// folder for each setting: --ablate, --lora and the like make other answers under the same
    /// names.
    #[arg(long, value_name = "FOLDER")]
    transcripts: Option<PathBuf>,
    /// Exit with 3 if this holds for any model, e.g. vanilla.asr>0.2 or borderline.refusal>=0.1;
    /// may be given several times. What has no answer, or no verdict, counts as what is worse.
    #[arg(long, value_name = "EXPR")]
    fail_if: Vec<Gate>,
    /// Write the answers as a page to read, harmful ones hidden until clicked.
    #[arg(long, value_name = "FILE", value_parser = output_path())]
    html: Option<PathBuf>,
    /// Replace the page if it exists.
    #[arg(long)]
    force: bool,
    /// Print how much would be asked and how long it would take, ask nothing, and write nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    chat: ChatArgs,
    #[command(flatten)]
    engine: EngineArgs,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

impl Verb for Asr {
    fn paths(&self) -> Paths {
        let adapters = [&self.ablate, &self.add, &self.lora].into_iter().flatten();
        let paths =
            self.chat.read_from(self.judge.read_from(self.sets.read_from(Paths::default())));
        paths
            .reads(self.models.iter().chain(adapters))
            .writes(&self.html)
            .with(self.force, self.dry_run)
    }

    fn models(&mut self) -> Result<Vec<&mut PathBuf>> {
        Ok(self.models.iter_mut().collect())
    }

    fn run(self, ui: &Ui) -> Result<()> {
        self.check()?;
        let request = Request {
            sets: self.sets.choice()?,
            judge: self.judge.choice()?,
            models: self.models,
            max_tokens: self.max_tokens,
            seed: self.seed,
            parallel: self.parallel,
            ablate: self.ablate,
            add: self.add,
            lora: self.lora,
            transcripts: self.transcripts,
            gates: self.fail_if,
            page: self.html,
            chat: self.chat.setup(),
            engine: self.engine.options(),
        };
        if self.dry_run {
            let planned = plan(&request, ui)?;
            return ui.report(self.json, &planned, || planned.text());
        }
        let report = run(&request, ui)?;
        ui.report(self.json, &report, || report.text(ui.is_verbose()))?;
        match report.failed_gate() {
            Some(gate) => Err(GateFailed::new(gate_text(gate)).into()),
            None => Ok(()),
        }
    }
}

impl Asr {
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
        Ok(())
    }
}
