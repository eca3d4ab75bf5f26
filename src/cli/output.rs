//! Where a verb writes a model, as the command line has it.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::args::output_path;
use super::text::bytes_text;
use super::ui::Ui;
use crate::gguf::{Layout, Model, Rewrite, Watch};
use crate::llama::Options;
use crate::verbs::{self, Output};
pub use crate::verbs::{FileReport, no_sha256};

/// Where a model file goes.
#[derive(Debug, Args)]
pub struct OutputArgs {
    /// The file to write.
    #[arg(short, long, value_name = "OUT", value_parser = output_path())]
    pub output: PathBuf,
    /// Replace OUT if it exists.
    #[arg(long)]
    pub force: bool,
    /// Print what would be written, and write nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Write as many shards as the model has, not one file.
    #[arg(long)]
    pub keep_shards: bool,
}

impl OutputArgs {
    /// As the verbs take it.
    pub fn output(&self) -> Output {
        let OutputArgs { output, force, dry_run, keep_shards } = self;
        let (force, dry_run, keep_shards) = (*force, *dry_run, *keep_shards);
        Output { path: output.clone(), force, dry_run, keep_shards }
    }

    /// One file or as many as there were.
    pub fn layout(&self) -> Layout {
        self.output().layout()
    }

    /// `--dry-run`: prints the files and their bytes, unless `json` will; returns them.
    pub fn plan(&self, ui: &Ui, rewrite: &Rewrite<'_>, json: bool) -> Result<Vec<FileReport>> {
        let plan = self.output().plan(rewrite)?;
        if !json {
            print_plan(ui, &plan.files, Some(plan.computed_bytes))?;
        }
        Ok(plan.files)
    }

    /// Checks at the start of a long job that there will be room for what `rewrite` writes.
    pub fn check_room(&self, rewrite: &Rewrite<'_>) -> Result<()> {
        Ok(self.output().check_room(rewrite)?)
    }

    /// Writes, checks the result, and says where it is.
    pub fn write(&self, ui: &Ui, rewrite: Rewrite<'_>, engine: Options) -> Result<Vec<FileReport>> {
        Ok(self.output().write(ui, rewrite, engine)?)
    }

    /// As [`OutputArgs::write`], with a check.
    pub fn write_if(
        &self,
        ui: &Ui,
        rewrite: Rewrite<'_>,
        engine: Options,
        check: impl FnOnce(&Model, &dyn Watch) -> verbs::Result<()>,
    ) -> Result<Vec<FileReport>> {
        Ok(self.output().write_if(ui, rewrite, engine, check)?)
    }
}

/// In a dry run, where `computed_bytes` are known, prints what would be written.
pub fn print_plan(ui: &Ui, files: &[FileReport], computed_bytes: Option<u64>) -> Result<()> {
    let Some(computed_bytes) = computed_bytes else { return Ok(()) };
    let mut text = String::from("would write\n");
    for file in files {
        text += &format!("  {}  {}\n", file.path, bytes_text(file.bytes));
    }
    ui.print(format_args!(
        "{text}  of which {} of tensors computed, the rest copied\n",
        bytes_text(computed_bytes)
    ))
}

/// The sha256 of `model`'s files, with progress.
pub fn sha256_of(ui: &Ui, model: &Model) -> Result<String> {
    Ok(verbs::sha256_of(ui, model)?)
}
