//! `aird verify`: its arguments, and its report in print.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use super::args::{TrialArgs, file_name};
use super::paths::Verb;
use super::text::{bytes_text, counted};
use super::ui::Ui;
use crate::verbs::verify::{Report, Request, run};

/// Check a model: structure, finite numbers, loads in llama.cpp, one token comes out
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// A GGUF file; any shard of a split one.
    model: PathBuf,
    /// Do not run the model in llama.cpp.
    #[arg(long)]
    quick: bool,
    /// Print the sha256 of each file.
    #[arg(long)]
    sha256: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: TrialArgs,
}

impl Verb for Verify {
    fn models(&mut self) -> Result<Vec<&mut PathBuf>> {
        Ok(vec![&mut self.model])
    }

    fn run(self, ui: &Ui) -> Result<()> {
        let name = file_name(&self.model);
        let (quick, sha256, engine) = (self.quick, self.sha256, self.engine.options());
        let report = run(&Request { model: self.model, quick, sha256, engine }, ui)?;
        ui.report(self.json, &report, || text(&report))?;
        match (&report.lacking, report.complaint()) {
            (None, complaint) if complaint.is_empty() => Ok(()),
            (Some(said), complaint) if complaint.is_empty() => {
                bail!("{name} could not be run here, the rest of it is sound: {said}")
            }
            (_, complaint) => bail!("{name} is not sound: {complaint}"),
        }
    }
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    for file in &report.files {
        match &file.sha256 {
            // As sha256sum prints it.
            Some(sum) => text += &format!("{sum}  {}\n", file.path),
            None => text += &format!("{}  {}\n", file.path, bytes_text(file.bytes)),
        }
    }
    text += &format!("  structure  ok, {}\n", counted(report.tensors, "tensor"));
    text += match report.non_finite.is_empty() {
        true => "  numbers    ok, all finite\n",
        false => "  numbers    NOT finite\n",
    };
    text += &match (&report.llama, &report.llama_skipped) {
        (Some(llama), _) if llama.complaint().is_none() => {
            format!("  llama.cpp  ok, \"The capital of France is\" goes on with {:?}\n", llama.text)
        }
        (Some(_), _) => "  llama.cpp  NOT ok\n".to_owned(),
        (None, reason) => {
            format!("  llama.cpp  not run: {}\n", reason.as_deref().unwrap_or(""))
        }
    };
    text
}
