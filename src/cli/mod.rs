//! The command line: one file a verb, its arguments and a `run` that reads as a sentence.
//!
//! Results go to stdout, talk and progress to stderr. Exit codes are decided in [`exit_code`].

mod args;
mod diff;
mod generate;
mod inspect;
mod merge;
mod text;
mod ui;
mod verify;

use anyhow::Result;
use clap::{ArgAction, Parser, Subcommand};

use crate::{adapter, gguf, quant};
use ui::Ui;

/// Done.
pub const DONE: u8 = 0;
/// Something failed.
pub const FAILED: u8 = 1;
/// Ctrl-C, or a polite kill.
pub const INTERRUPTED: u8 = 130;

/// Repairs the safety that compression breaks, on GGUF model files, offline.
#[derive(Debug, Parser)]
#[command(name = "aird", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// Say only what went wrong.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Say more; twice for llama.cpp's own log.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Inspect(inspect::Inspect),
    Diff(diff::Diff),
    Verify(verify::Verify),
    Merge(merge::Merge),
    Generate(generate::Generate),
}

impl Cli {
    /// Does what was asked for.
    ///
    /// # Errors
    /// Whatever went wrong, to be printed by [`report`].
    pub fn run(self) -> Result<()> {
        let ui = Ui::new(self.quiet, self.verbose)?;
        match self.verb {
            Verb::Inspect(verb) => verb.run(&ui),
            Verb::Diff(verb) => verb.run(&ui),
            Verb::Verify(verb) => verb.run(&ui),
            Verb::Merge(verb) => verb.run(&ui),
            Verb::Generate(verb) => verb.run(&ui),
        }
    }
}

/// Prints `error` to stderr and chooses the exit code. A reader that closed the pipe has what it
/// wanted: that is success, and silent.
pub fn report(error: &anyhow::Error) -> u8 {
    if error.chain().any(is_broken_pipe) {
        return DONE;
    }
    let code = exit_code(error);
    ui::print_error(error);
    code
}

fn exit_code(error: &anyhow::Error) -> u8 {
    if error.chain().any(is_interrupt) { INTERRUPTED } else { FAILED }
}

fn is_broken_pipe(cause: &(dyn std::error::Error + 'static)) -> bool {
    let io = cause.downcast_ref::<std::io::Error>();
    io.is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

fn is_interrupt(cause: &(dyn std::error::Error + 'static)) -> bool {
    let gguf = |e: &gguf::Error| e.is_interrupted();
    let quant = |e: &quant::Error| matches!(e, quant::Error::Gguf(e) if gguf(e));
    cause.downcast_ref::<gguf::Error>().is_some_and(gguf)
        || cause.downcast_ref::<quant::Error>().is_some_and(quant)
        || cause.downcast_ref::<adapter::Error>().is_some_and(|e| match e {
            adapter::Error::Gguf(e) => gguf(e),
            adapter::Error::Quant(e) => quant(e),
            _ => false,
        })
}
