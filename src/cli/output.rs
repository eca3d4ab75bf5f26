//! Where a verb writes a model, as the command line has it.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::args::output_path;
use super::text::{bytes_text, time_text};
use super::ui::Ui;
use crate::verbs::{FileReport, Output};

/// Where a model file goes.
#[derive(Debug, Args)]
pub(super) struct OutputArgs {
    /// The file to write.
    #[arg(short, long, value_name = "OUT", value_parser = output_path())]
    pub output: PathBuf,
    /// Replace OUT if it exists.
    #[arg(long)]
    pub force: bool,
    /// Print what would be written and how long it would take, and write nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Write as many shards as the model has, not one file.
    #[arg(long)]
    pub keep_shards: bool,
}

impl OutputArgs {
    /// As the verbs take it.
    pub(super) fn output(&self) -> Output {
        Output {
            path: self.output.clone(),
            force: self.force,
            dry_run: self.dry_run,
            keep_shards: self.keep_shards,
        }
    }
}

/// In a dry run, where `computed_bytes` are known, prints what would be written, and how long that
/// would take where it is known.
pub(super) fn print_plan(
    ui: &Ui,
    files: &[FileReport],
    computed_bytes: Option<u64>,
    seconds: Option<f64>,
) -> Result<()> {
    let Some(computed_bytes) = computed_bytes else { return Ok(()) };
    let mut text = String::from("would write\n");
    for file in files {
        text += &format!("  {}  {}\n", file.path, bytes_text(file.bytes));
    }
    ui.print(format_args!(
        "{text}  of which {} of tensors computed, the rest copied\n{}",
        bytes_text(computed_bytes),
        time_text(seconds)
    ))
}
