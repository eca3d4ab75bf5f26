//! `aird ask`: its arguments, and answers printed as they come.

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use super::args::EngineArgs;
use super::chat::ChatArgs;
use super::paths::Verb;
use super::text::Pieces;
use super::ui::Ui;
use crate::verbs::ask::{AnswerEvent, Request, run};

/// Ask a model: greedy answers, as they come
#[derive(Debug, Args)]
pub(super) struct Ask {
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
    /// Answer with a LoRA adapter: a GGUF file or a PEFT folder.
    #[arg(long, value_name = "ADAPTER")]
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

impl Verb for Ask {
    fn models(&mut self) -> Result<Vec<&mut PathBuf>> {
        Ok(vec![&mut self.model])
    }

    fn run(self, ui: &Ui) -> Result<()> {
        if self.max_tokens == 0 || self.parallel == 0 {
            bail!("--max-tokens and --parallel are at least 1");
        }
        let streams = !self.json && self.parallel == 1;
        let request = Request {
            model: self.model,
            prompts: self.prompts,
            ablate: self.ablate,
            add: self.add,
            lora: self.lora,
            max_tokens: self.max_tokens,
            parallel: self.parallel,
            chat: self.chat.setup(),
            engine: self.engine.options(),
        };
        let mut printer = Printer::new(ui, &request.prompts);
        let report = run(&request, ui, &mut |progress| {
            if streams {
                printer.hear(progress);
            }
        })?;
        printer.printed?;
        if self.json {
            return ui.print_json(&report);
        }
        if !streams {
            for reply in &report.replies {
                ui.print_text(&format!("> {}\n{}\n\n", reply.prompt, reply.answer.trim()))?;
            }
        }
        Ok(())
    }
}

/// Prints tokens as they come.
struct Printer<'a> {
    ui: &'a Ui,
    prompts: &'a [String],
    /// The prompt whose answer is being printed.
    begun: Option<usize>,
    /// What a model writes may hold escapes, too: a terminal gets it with those shown.
    pieces: Option<Pieces>,
    /// The first error: nothing is printed after it.
    printed: Result<()>,
}

impl Printer<'_> {
    fn new<'a>(ui: &'a Ui, prompts: &'a [String]) -> Printer<'a> {
        let pieces = std::io::stdout().is_terminal().then(Pieces::default);
        Printer { ui, prompts, begun: None, pieces, printed: Ok(()) }
    }

    fn hear(&mut self, progress: AnswerEvent<'_>) {
        match progress {
            AnswerEvent::Token { prompt, bytes } => self.token(prompt, bytes),
            AnswerEvent::Complete { .. } => self.print(b"\n\n"),
        }
    }

    fn token(&mut self, prompt: usize, bytes: &[u8]) {
        if self.begun != Some(prompt) {
            self.begun = Some(prompt);
            self.pieces = self.pieces.take().map(|_| Pieces::default());
            self.print(format!("> {}\n", self.prompts[prompt]).as_bytes());
        }
        match &mut self.pieces {
            Some(pieces) => {
                let shown = pieces.push(bytes);
                self.print(shown.as_bytes());
            }
            None => self.print(bytes),
        }
    }

    fn print(&mut self, bytes: &[u8]) {
        if self.printed.is_ok() {
            self.printed = self.ui.print_bytes(bytes);
        }
    }
}
