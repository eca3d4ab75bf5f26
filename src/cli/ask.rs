//! `aird ask`: greedy answers, for looking with one's own eyes.

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;

use super::args::EngineArgs;
use super::chat::{ChatArgs, hinted_too_long};
use super::direction::read_for;
use super::paths::Verb;
use super::text::Pieces;
use super::ui::Ui;
use crate::direction::{ablate, add};
use crate::gguf::Model;
use crate::llama::{Engine, Generation, Hooks, Listener, Sampling, generate};

/// Ask a model: greedy answers, as they come
#[derive(Debug, Args)]
pub struct Ask {
    /// A GGUF file; any shard of a split one.
    model: PathBuf,
    /// What to ask.
    #[arg(required = true)]
    prompts: Vec<String>,
    /// Take this direction out of the residual stream while answering; no file changes.
    #[arg(long, value_name = "DIR", conflicts_with = "add")]
    ablate: Option<PathBuf>,
    /// Add this direction at its layer while answering; no file changes.
    #[arg(long, value_name = "DIR")]
    add: Option<PathBuf>,
    /// Answer with a LoRA adapter.
    #[arg(long, value_name = "FILE")]
    lora: Option<PathBuf>,
    /// Tokens of an answer, at most.
    #[arg(long, default_value_t = 128, value_name = "N")]
    max_tokens: usize,
    /// Answers under way at once; their order stays.
    #[arg(long, default_value_t = 1, value_name = "N")]
    parallel: u32,
    #[command(flatten)]
    chat: ChatArgs,
    #[command(flatten)]
    engine: EngineArgs,
    /// Print the answers as JSON.
    #[arg(long)]
    json: bool,
}

/// What `aird ask --json` prints: a list of these.
#[derive(Debug, Serialize)]
pub struct Answered {
    /// What was asked.
    pub prompt: String,
    /// What came.
    pub answer: String,
    /// Tokens of the answer.
    pub tokens: usize,
}

impl Verb for Ask {
    fn run(self, ui: &Ui) -> Result<()> {
        if self.max_tokens == 0 || self.parallel == 0 {
            bail!("--max-tokens and --parallel are at least 1");
        }
        let model = Model::open(&self.model)?;
        let chat = self.chat.chat(&model)?;
        let engine = self.engine.load_with(ui, &model, self.lora.as_deref())?;
        let ablated = self.ablate.as_ref().map(|path| read_for(path, &engine)).transpose()?;
        let added = self.add.as_ref().map(|path| read_for(path, &engine)).transpose()?;
        let unit = ablated.as_ref().map(|d| d.unit()).transpose()?;
        let mut hooks = Hooks::new();
        if let Some(unit) = &unit {
            hooks = ablate(hooks, unit);
        }
        if let Some(direction) = &added {
            let layer = direction.about.layer.unwrap_or(0);
            hooks = add(hooks, engine.structure()?, direction.chosen()?, layer as u32);
        }
        let tokens: Vec<Vec<i32>> =
            self.prompts.iter().map(|p| Ok(chat.tokens(&engine, p)?)).collect::<Result<_>>()?;
        let settings = Generation {
            max_tokens: self.max_tokens,
            parallel: self.parallel,
            sampling: Sampling::Greedy,
        };
        let stream = !self.json && self.parallel == 1;
        let mut listener = Printer {
            ui,
            engine: &engine,
            prompts: &self.prompts,
            stream,
            begun: None,
            pieces: std::io::stdout().is_terminal().then(Pieces::default),
            printed: Ok(()),
        };
        let answers = generate(&engine, &tokens, settings, &mut hooks, &mut listener)
            .map_err(hinted_too_long)?;
        listener.printed?;
        let answered: Vec<Answered> = self
            .prompts
            .iter()
            .zip(&answers)
            .map(|(p, a)| Answered { prompt: p.clone(), answer: engine.answer(a), tokens: a.len() })
            .collect();
        if self.json {
            return ui.print_json(&answered);
        }
        if !stream {
            for a in &answered {
                ui.print_text(&format!("> {}\n{}\n\n", a.prompt, a.answer.trim()))?;
            }
        }
        Ok(())
    }
}

/// Prints tokens as they come.
struct Printer<'a> {
    ui: &'a Ui,
    engine: &'a Engine,
    prompts: &'a [String],
    stream: bool,
    /// The prompt whose answer is being printed.
    begun: Option<usize>,
    /// What a model writes may hold escapes, too: a terminal gets it with those shown.
    pieces: Option<Pieces>,
    /// The first error: nothing is printed after it.
    printed: Result<()>,
}

impl Printer<'_> {
    fn print(&mut self, bytes: &[u8]) {
        if self.stream && self.printed.is_ok() {
            self.printed = self.ui.print_bytes(bytes);
        }
    }
}

impl Listener for Printer<'_> {
    fn token(&mut self, index: usize, token: i32) {
        if self.begun != Some(index) {
            self.begun = Some(index);
            self.pieces = self.pieces.take().map(|_| Pieces::default());
            self.print(format!("> {}\n", self.prompts[index]).as_bytes());
        }
        // Bytes, not text: a character may come in several tokens.
        let bytes = self.engine.piece(token);
        let bytes = match &mut self.pieces {
            Some(pieces) => pieces.push(&bytes).into_bytes(),
            None => bytes,
        };
        self.print(&bytes);
    }

    fn answered(&mut self, _: usize) {
        self.print(b"\n\n");
    }
}
