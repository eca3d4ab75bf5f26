//! The manners of verbs that write a model: where it goes, what would be written, and a final check
//! of what was.

use std::path::{Path, PathBuf};

use super::error::{Error, Result};
use super::estimate::DryRun;
use super::files::{FileReport, Planned};
use super::host::Host;
use super::verify::{self, Through};
use super::words::bytes_text;
use crate::gguf::{Assembly, Layout, Model, Rewrite, Watch, Written, check_room};
use crate::llama::Options;

/// Where a model file goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The file to write.
    pub path: PathBuf,
    /// Replace the file if it exists.
    pub force: bool,
    /// Write nothing: only say what would be written.
    pub dry_run: bool,
    /// Write as many shards as the model has, not one file.
    pub keep_shards: bool,
}

impl Output {
    /// One file, or as many as there were.
    pub fn layout(&self) -> Layout {
        if self.keep_shards { Layout::KeepShards } else { Layout::Single }
    }

    /// The files that `rewrite` would write, and their bytes. The time is not estimated.
    ///
    /// # Errors
    /// An edit that does not fit its key.
    pub fn plan(&self, rewrite: &Rewrite<'_>) -> Result<Planned> {
        let plan = rewrite.plan(&self.path)?;
        let files = plan.files.iter().map(|file| FileReport::new(&file.path, file.bytes)).collect();
        let computed_bytes = plan.produced_bytes();
        Ok(Planned { files, computed_bytes, estimated_seconds: None })
    }

    /// As [`Output::plan`], with the time that the verb would take.
    ///
    /// # Errors
    /// As [`Output::plan`]; an interrupt.
    pub(super) fn timed_plan(&self, rewrite: Rewrite<'_>, run: DryRun<'_>) -> Result<Planned> {
        let planned = self.plan(&rewrite)?;
        let estimated_seconds = run.seconds(rewrite, &self.path)?;
        Ok(Planned { estimated_seconds, ..planned })
    }

    /// Checks at the start of a long job that there will be room for what `rewrite` writes.
    ///
    /// # Errors
    /// The disk is too full.
    pub fn check_room(&self, rewrite: &Rewrite<'_>) -> Result<()> {
        if self.dry_run {
            return Ok(());
        }
        Ok(check_room(&self.path, rewrite.plan(&self.path)?.bytes())?)
    }

    /// Writes, checks the result, and notes where it is.
    ///
    /// # Errors
    /// The disk's; what was written is not sound; an interrupt. Nothing is left behind then.
    pub fn write(
        &self,
        host: &dyn Host,
        rewrite: Rewrite<'_>,
        engine: Options,
    ) -> Result<Vec<FileReport>> {
        self.write_if(host, rewrite, engine, |_, _| Ok(()))
    }

    /// As [`Output::write`]. The file gets its name only if `check` passes, its values are finite,
    /// and llama.cpp runs it.
    ///
    /// # Errors
    /// See [`Output::write`]; those of `check`.
    pub fn write_if(
        &self,
        host: &dyn Host,
        rewrite: Rewrite<'_>,
        engine: Options,
        check: impl FnOnce(&Model, &dyn Watch) -> Result<()>,
    ) -> Result<Vec<FileReport>> {
        let mut lacking = None;
        let written = rewrite.write_if(&self.path, self.force, host, |temp| {
            lacking = self.check_new(host, temp, engine, check)?;
            Ok::<_, Error>(())
        })?;
        Ok(self.report(host, &written, lacking))
    }

    /// As [`Output::write`], of a file that is put together from others, which are `inputs`.
    ///
    /// # Errors
    /// See [`Output::write`].
    pub(super) fn write_assembly(
        &self,
        host: &dyn Host,
        assembly: Assembly<'_>,
        inputs: &[&Path],
        engine: Options,
    ) -> Result<Vec<FileReport>> {
        let mut lacking = None;
        let written = assembly.write_if(&self.path, self.force, inputs, host, |temp| {
            lacking = self.check_new(host, temp, engine, |_, _| Ok(()))?;
            Ok::<_, Error>(())
        })?;
        Ok(self.report(host, &written, lacking))
    }

    /// The check of a file before it gets its name; returns what this machine lacks to run it. The
    /// bytes were compared while writing; here it is what they mean.
    fn check_new(
        &self,
        host: &dyn Host,
        temp: &Path,
        engine: Options,
        check: impl FnOnce(&Model, &dyn Watch) -> Result<()>,
    ) -> Result<Option<String>> {
        let prober = host.prober();
        let through = Through { prober: &prober, options: engine };
        let model = Model::open(temp)?;
        check(&model, host)?;
        let report = verify::check(host, &model, Some(through), false)?;
        let complaint = report.complaint();
        match complaint.is_empty() {
            true => Ok(report.lacking),
            false => Err(Error::Sentence(format!(
                "{} was not written, for it would not be sound: {complaint}",
                self.path.display()
            ))),
        }
    }

    /// Notes what was written, and that it could not be tried where that is so.
    fn report(
        &self,
        host: &dyn Host,
        written: &Written,
        lacking: Option<String>,
    ) -> Vec<FileReport> {
        if let Some(said) = lacking {
            host.warn(format_args!(
                "{} was not tried in llama.cpp, for this machine cannot run it now: {said}",
                self.path.display()
            ));
        }
        for (path, bytes) in &written.files {
            host.say(format_args!("wrote {} ({})", path.display(), bytes_text(*bytes)));
        }
        written.files.iter().map(|(path, bytes)| FileReport::new(path, *bytes)).collect()
    }
}

/// As long as a sha256: for a plan of bytes that is made without reading them.
pub fn no_sha256() -> String {
    "0".repeat(64)
}
