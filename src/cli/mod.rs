//! The command line: one file a verb, its arguments and a `run` that reads as a sentence.
//!
//! Results go to stdout, talk and progress to stderr. Exit codes are decided in `exit.rs`.

mod agreement;
mod args;
mod ask;
mod asr;
mod audit;
mod calibrate;
mod calibration;
mod chat;
mod checkpoints;
mod compare;
mod definitions;
mod devices;
mod diff;
mod direction;
mod exit;
mod export;
mod faster;
mod generate;
mod hints;
mod import;
mod inspect;
mod judge;
mod judges;
mod merge;
mod origin;
mod output;
mod paths;
mod probe;
mod progress;
mod prune;
mod quantize;
mod repair;
mod report;
mod search;
mod select;
mod signals;
mod spinning;
mod stopped;
mod structure;
mod study;
mod study_text;
mod tasks;
mod tasks_table;
mod text;
mod ui;
mod undo;
mod verify;
mod worker;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{ArgAction, CommandFactory, Parser, Subcommand};

pub use exit::exit_code_of;
use ui::Ui;

/// Repairs the safety that compression breaks, on GGUF model files, offline.
#[derive(Debug, Parser)]
#[command(name = "aird", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// Print only errors and warnings.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Print more; -vv also prints llama.cpp's log.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    /// Where Hugging Face folders are imported to that are given in place of a model. Default: aird
    /// in the user's cache folder.
    #[arg(long, global = true, value_name = "FOLDER")]
    cache_dir: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Inspect(inspect::Inspect),
    Diff(diff::Diff),
    Verify(verify::Verify),
    Merge(merge::Merge),
    Import(import::Import),
    Export(export::Export),
    Calibrate(calibrate::Calibrate),
    Prune(prune::Prune),
    Quantize(quantize::Quantize),
    Direction(direction::FindDirection),
    Compare(compare::Compare),
    Repair(repair::Repair),
    Undo(undo::Undo),
    Tasks(tasks::Tasks),
    Ask(ask::Ask),
    Audit(audit::Audit),
    Asr(asr::Asr),
    Judge(judge::Judge),
    Study(study::Study),
    Report(report::Report),
    Devices(devices::Devices),
    Worker(worker::Worker),
    Generate(generate::Generate),
    #[command(hide = true)]
    Probe(probe::Probe),
}

impl Cli {
    /// Parses the command line; usage errors end the process with 2, as clap does it.
    ///
    /// # Errors
    /// An argument is not UTF-8: llama.cpp and JSON take no such names.
    pub fn from_command_line() -> Result<Cli> {
        faster::take_over();
        spinning::limit();
        for argument in std::env::args_os().skip(1) {
            if argument.to_str().is_none() {
                bail!(
                    "{argument:?} is not UTF-8, expected names in UTF-8\n\
                     hint: rename the file, or make a link to it: ln -s FILE model.gguf"
                );
            }
        }
        Ok(Cli::parse())
    }

    /// Does what was asked for.
    ///
    /// # Errors
    /// Whatever went wrong, to be printed by [`exit_code_of`].
    pub fn run(self) -> Result<()> {
        let ui = Ui::new(self.quiet, self.verbose, Cli::command)?;
        let cache = self.cache_dir.as_deref();
        match self.verb {
            Verb::Inspect(verb) => paths::run(verb, cache, &ui),
            Verb::Diff(verb) => paths::run(verb, cache, &ui),
            Verb::Verify(verb) => paths::run(verb, cache, &ui),
            Verb::Merge(verb) => paths::run(verb, cache, &ui),
            Verb::Import(verb) => paths::run(verb, cache, &ui),
            Verb::Export(verb) => paths::run(verb, cache, &ui),
            Verb::Calibrate(verb) => paths::run(verb, cache, &ui),
            Verb::Prune(verb) => paths::run(verb, cache, &ui),
            Verb::Quantize(verb) => paths::run(verb, cache, &ui),
            Verb::Direction(verb) => paths::run(verb, cache, &ui),
            Verb::Compare(verb) => paths::run(verb, cache, &ui),
            Verb::Repair(verb) => paths::run(verb, cache, &ui),
            Verb::Undo(verb) => paths::run(verb, cache, &ui),
            Verb::Tasks(verb) => paths::run(verb, cache, &ui),
            Verb::Ask(verb) => paths::run(verb, cache, &ui),
            Verb::Audit(verb) => paths::run(verb, cache, &ui),
            Verb::Asr(verb) => paths::run(verb, cache, &ui),
            Verb::Judge(verb) => paths::run(verb, cache, &ui),
            Verb::Study(verb) => paths::run(verb, cache, &ui),
            Verb::Report(verb) => paths::run(verb, cache, &ui),
            Verb::Devices(verb) => paths::run(verb, cache, &ui),
            Verb::Worker(verb) => paths::run(verb, cache, &ui),
            Verb::Generate(verb) => paths::run(verb, cache, &ui),
            Verb::Probe(verb) => paths::run(verb, cache, &ui),
        }
    }
}
