//! `aird inspect`: its arguments, and its report in print.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use super::args::file_name;
use super::paths::Verb;
use super::structure::writers_text;
use super::text::{bytes_text, count_text, counted, first_line, share_text, shown, table};
use super::ui::Ui;
use crate::gguf::shape_text;
use crate::verbs::inspect::{
    Report, Request, Sparsity, StructureReport, TensorReport, TypeReport, chat_template, run,
};

/// Show what is in a model file
#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// A GGUF file; any shard of a split one.
    model: PathBuf,
    /// List every tensor.
    #[arg(long)]
    tensors: bool,
    /// Print the whole chat template, and nothing else.
    #[arg(long, conflicts_with_all = ["json", "tensors", "structure"])]
    template: bool,
    /// Do not read the weights: leaves the sparsity out.
    #[arg(long)]
    quick: bool,
    /// Show what each block reads and writes, by llama.cpp's own graph, and what nothing reads.
    #[arg(long)]
    structure: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

impl Verb for Inspect {
    fn models(&mut self) -> Result<Vec<&mut PathBuf>> {
        Ok(vec![&mut self.model])
    }

    fn run(self, ui: &Ui) -> Result<()> {
        if self.template {
            return match chat_template(&self.model)? {
                Some(template) => ui.print_text(&template),
                None => bail!("{} has no chat template", file_name(&self.model)),
            };
        }
        let Inspect { model, tensors, quick, structure, json, .. } = self;
        let report = run(&Request { model, tensors, quick, structure }, ui)?;
        ui.report(json, &report, || report.text())
    }
}

impl Report {
    fn text(&self) -> String {
        let mut text = String::new();
        for file in &self.files {
            text += &format!("{}  {}\n", file.path, bytes_text(file.bytes));
        }
        let mut rows: Vec<Vec<String>> = Vec::new();
        let mut row = |name: &str, value: String| rows.push(vec![name.into(), value]);
        row("name", self.name.clone().unwrap_or("-".into()));
        row("architecture", self.architecture_text());
        row("parameters", count_text(self.parameters));
        if let Some(n) = self.n_ctx_train {
            row("context", counted(n, "token"));
        }
        if let Some(Sparsity { zeros, of }) = self.sparsity.filter(|s| s.of > 0) {
            let of_text = count_text(of);
            let share = share_text(zeros, of);
            row("sparsity", format!("{share} of {of_text} weights in block matrices are zero"));
        }
        if self.general_type == "model" {
            row("chat template", self.chat_template.as_deref().map_or("none".into(), first_line));
        }
        text += &table(&rows, &[], "  ");
        text + &self.types_text()
            + &writers_text(&self.residual_writers)
            + &self.structure.as_ref().map_or_else(String::new, StructureReport::text)
            + &self.history_text()
            + &self.tensors_text()
    }

    fn architecture_text(&self) -> String {
        let mut text = match self.general_type.as_str() {
            "model" => self.architecture.clone(),
            other => format!("{} ({other})", self.architecture),
        };
        if let Some(n) = self.n_block {
            text += &format!(", {}", counted(n, "block"));
        }
        if let Some(n) = self.n_embd {
            text += &format!(", {n} wide");
        }
        format!("{text}, GGUF {}", self.version)
    }

    fn types_text(&self) -> String {
        let row = |t: &TypeReport| {
            let (n, bytes) = (count_text(t.parameters), bytes_text(t.bytes));
            vec![t.ty.clone(), counted(t.tensors, "tensor"), n, bytes]
        };
        let rows: Vec<_> = self.types.iter().map(row).collect();
        format!("  types\n{}", table(&rows, &[2, 3], "    "))
    }

    fn history_text(&self) -> String {
        let step = |step: &serde_json::Value| {
            if !step.is_object() {
                return format!(
                    "    not a step of aird: {}\n",
                    shown(&first_line(&step.to_string()))
                );
            }
            let verb = step["verb"].as_str().unwrap_or("?");
            let parameters = match &step["parameters"] {
                serde_json::Value::Object(map) => {
                    map.iter().map(|(k, v)| format!(" {k}={v}")).collect::<String>()
                }
                _ => String::new(),
            };
            let version = step["version"].as_str().unwrap_or("?");
            format!("    {verb}{parameters}  (aird {version})\n")
        };
        match self.history.is_empty() {
            true => "  history       none\n".into(),
            false => format!("  history\n{}", self.history.iter().map(step).collect::<String>()),
        }
    }

    fn tensors_text(&self) -> String {
        let Some(tensors) = &self.tensors else { return String::new() };
        let row = |t: &TensorReport| {
            let shape = format!("[{}]", shape_text(&t.shape));
            vec![t.name.clone(), t.ty.clone(), shape, bytes_text(t.bytes)]
        };
        let rows: Vec<_> = tensors.iter().map(row).collect();
        format!("  tensors\n{}", table(&rows, &[3], "    "))
    }
}
