//! The command line: one file a verb, its arguments and a `run` that reads as a sentence.
//!
//! Results go to stdout, talk and progress to stderr. Exit codes are decided in `exit.rs`.

mod args;
mod ask;
mod asr;
mod calibrate;
mod calibration;
mod chat;
mod compare;
mod definitions;
mod diff;
mod direction;
mod exit;
mod generate;
mod given;
mod inspect;
mod merge;
mod output;
mod prune;
mod quantize;
mod repair;
mod report;
mod search;
mod select;
mod sequential;
mod study;
mod study_text;
mod tasks;
mod tasks_table;
mod text;
mod ui;
mod undo;
mod verify;

use anyhow::Result;
use clap::{ArgAction, Parser, Subcommand};

pub use exit::{DONE, report};
use ui::Ui;

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
    Calibrate(calibrate::Calibrate),
    Prune(prune::Prune),
    Quantize(quantize::Quantize),
    Direction(direction::FindDirection),
    Compare(compare::Compare),
    Repair(repair::Repair),
    Undo(undo::Undo),
    Tasks(tasks::Tasks),
    Ask(ask::Ask),
    Asr(asr::Asr),
    Study(study::Study),
    Report(report::Report),
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
            Verb::Calibrate(verb) => verb.run(&ui),
            Verb::Prune(verb) => verb.run(&ui),
            Verb::Quantize(verb) => verb.run(&ui),
            Verb::Direction(verb) => verb.run(&ui),
            Verb::Compare(verb) => verb.run(&ui),
            Verb::Repair(verb) => verb.run(&ui),
            Verb::Undo(verb) => verb.run(&ui),
            Verb::Tasks(verb) => verb.run(&ui),
            Verb::Ask(verb) => verb.run(&ui),
            Verb::Asr(verb) => verb.run(&ui),
            Verb::Study(verb) => verb.run(&ui),
            Verb::Report(verb) => verb.run(&ui),
            Verb::Generate(verb) => verb.run(&ui),
        }
    }
}
