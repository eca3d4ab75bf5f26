//! The manners of verbs that write a model: where it goes, what would be written, and a final check
//! of what was.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;

use super::args::output_path;
use super::text::bytes_text;
use super::ui::{Progress, Ui};
use super::verify::{self, Through};
use crate::gguf::{Layout, Model, Plan, Rewrite, Watch, check_room, model_sha256};
use crate::llama::Options;

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
    /// One file or as many as there were.
    pub fn layout(&self) -> Layout {
        if self.keep_shards { Layout::KeepShards } else { Layout::Single }
    }

    /// `--dry-run`: prints the files and their bytes, unless `json` will; returns them.
    pub fn plan(&self, ui: &Ui, rewrite: &Rewrite<'_>, json: bool) -> Result<Vec<FileReport>> {
        let plan = rewrite.plan(&self.output)?;
        if !json {
            ui.print(self.plan_text(&plan))?;
        }
        Ok(reports(plan.files.iter().map(|f| (f.path.as_path(), f.bytes))))
    }

    /// Checks at the start of a long job that there will be room for what `rewrite` writes.
    pub fn check_room(&self, rewrite: &Rewrite<'_>) -> Result<()> {
        if self.dry_run {
            return Ok(());
        }
        Ok(check_room(&self.output, rewrite.plan(&self.output)?.bytes())?)
    }

    /// Writes, checks the result, and says where it is.
    pub fn write(&self, ui: &Ui, rewrite: Rewrite<'_>, engine: Options) -> Result<Vec<FileReport>> {
        self.write_if(ui, rewrite, engine, |_, _| Ok(()))
    }

    /// As [`OutputArgs::write`]. The file gets its name only if `check` passes, its values are
    /// finite, and llama.cpp runs it.
    pub fn write_if(
        &self,
        ui: &Ui,
        rewrite: Rewrite<'_>,
        engine: Options,
        check: impl FnOnce(&Model, &Progress<'_>) -> Result<()>,
    ) -> Result<Vec<FileReport>> {
        let progress = ui.progress();
        let prober = ui.prober();
        let through = Through { prober: &prober, options: engine };
        let mut lacking = None;
        // The bytes were compared while writing; here it is what they mean.
        let final_check = |temp: &Path| -> Result<()> {
            let model = Model::open(temp)?;
            check(&model, &progress)?;
            let report = verify::check(&progress, &model, Some(through), false)?;
            let complaint = report.complaint();
            lacking = report.lacking;
            match complaint.is_empty() {
                true => Ok(()),
                false => bail!(
                    "{} was not written, for it would not be sound: {complaint}",
                    self.output.display()
                ),
            }
        };
        let written = rewrite.write_if(&self.output, self.force, &progress, final_check)?;
        drop(progress);
        if let Some(said) = lacking {
            ui.warn(format_args!(
                "{} was not tried in llama.cpp, for this machine cannot run it now: {said}",
                self.output.display()
            ));
        }
        for (path, bytes) in &written.files {
            ui.say(format_args!("wrote {} ({})", path.display(), bytes_text(*bytes)));
        }
        Ok(reports(written.files.iter().map(|(path, bytes)| (path.as_path(), *bytes))))
    }

    /// The files and their bytes.
    fn plan_text(&self, plan: &Plan) -> String {
        let line = |path: &Path, bytes| format!("{}  {}\n", path.display(), bytes_text(bytes));
        let mut text = String::from("would write\n");
        for file in &plan.files {
            text += &format!("  {}", line(&file.path, file.bytes));
        }
        text + &format!(
            "  of which {} of tensors made anew, the rest copied\n",
            bytes_text(plan.produced_bytes())
        )
    }
}

/// One output file, as `--json` shows it.
#[derive(Debug, Serialize)]
pub struct FileReport {
    /// Where it is.
    pub path: String,
    /// Its size.
    pub bytes: u64,
}

fn reports<'a>(files: impl Iterator<Item = (&'a Path, u64)>) -> Vec<FileReport> {
    let report =
        |(path, bytes): (&Path, u64)| FileReport { path: path.display().to_string(), bytes };
    files.map(report).collect()
}

/// The sha256 of `model`'s files, with progress.
pub fn sha256_of(ui: &Ui, model: &Model) -> Result<String> {
    let progress = ui.progress();
    progress.stage("sha256", model.file_bytes());
    Ok(model_sha256(model, &progress)?)
}

/// As long as a sha256: for a plan of bytes that is made without reading them.
pub fn no_sha256() -> String {
    "0".repeat(64)
}
