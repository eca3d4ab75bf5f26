//! `aird diff`: its arguments, and its report in print.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::paths::Verb;
use super::text::{shown, table};
use super::ui::Ui;
use crate::gguf::shape_text;
use crate::verbs::diff::{KeyValue, Report, Request, run};
use crate::verbs::origin;

/// Show which keys and tensors of two models differ, and by how much
///
/// With --origin: does a quantized model come from an original? Each tensor of B is written again
/// in A's type. It is the original's if the bytes are equal, or if they differ by no more than
/// rounding with other weights does. Exit code 3 if a tensor is not the original's.
#[derive(Debug, Args)]
pub(super) struct Diff {
    /// The first model; with --origin, the quantized one.
    a: PathBuf,
    /// The second model; with --origin, the original.
    b: PathBuf,
    /// Check that A was quantized from B.
    #[arg(long)]
    origin: bool,
    /// The importance matrix that A may have been made with.
    #[arg(long, requires = "origin", value_name = "FILE")]
    imatrix: Option<PathBuf>,
    /// Accept tensors that A's own history says aird changed: exit code 0 for them.
    #[arg(long, requires = "origin")]
    accept_history: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

impl Verb for Diff {
    fn models(&mut self) -> Result<Vec<&mut PathBuf>> {
        Ok(vec![&mut self.a, &mut self.b])
    }

    fn run(self, ui: &Ui) -> Result<()> {
        if self.origin {
            let request =
                origin::Request { quant: self.a, original: self.b, imatrix: self.imatrix };
            return super::origin::run(&request, self.accept_history, self.json, ui);
        }
        let report = run(&Request { a: self.a, b: self.b }, ui)?;
        ui.report(self.json, &report, || report.text())
    }
}

impl Report {
    fn text(&self) -> String {
        let mut text = format!("A  {}\nB  {}\n", self.a, self.b);
        let cells = |mark: &str, k: &KeyValue| vec![mark.into(), k.key.clone(), k.value.clone()];
        let mut keys: Vec<Vec<String>> = Vec::new();
        keys.extend(self.keys_added.iter().map(|k| cells("+", k)));
        keys.extend(self.keys_removed.iter().map(|k| cells("-", k)));
        keys.extend(
            self.keys_changed
                .iter()
                .map(|k| vec!["~".into(), k.key.clone(), format!("{} -> {}", k.a, k.b)]),
        );
        if !keys.is_empty() {
            text += &format!("keys\n{}", table(&keys, &[], "  "));
        }
        let names = |mark: &str, names: &[String]| -> String {
            names.iter().map(|name| format!("  {mark} {}\n", shown(name))).collect()
        };
        let lists = names("+", &self.tensors_added) + &names("-", &self.tensors_removed);
        let reshaped = self.reshaped.iter().map(|r| {
            let (a, b) = (shape_text(&r.shape_a), shape_text(&r.shape_b));
            format!("  ~ {} [{a}] -> [{b}]\n", shown(&r.name))
        });
        text += &format!("tensors: {} identical, {} changed\n", self.identical, self.changed.len());
        text += &(lists + &reshaped.collect::<String>());
        text + &self.changed_table()
    }

    fn changed_table(&self) -> String {
        if self.changed.is_empty() {
            return String::new();
        }
        let head = ["tensor", "type", "|B-A|/|A|", "cosine", "zeros A", "zeros B"];
        let mut rows = vec![head.map(String::from).to_vec()];
        let number = |x: Option<f64>, digits: usize| match x {
            Some(x) => format!("{x:.digits$}"),
            None => "-".into(),
        };
        let percent = |x: Option<f64>| x.map_or("-".into(), |x| format!("{:.1} %", 100.0 * x));
        for t in &self.changed {
            let ty = match t.type_a == t.type_b {
                true => t.type_a.clone(),
                false => format!("{} -> {}", t.type_a, t.type_b),
            };
            rows.push(vec![
                t.name.clone(),
                ty,
                number(t.relative_change, 6),
                number(t.cosine, 6),
                percent(t.sparsity_a),
                percent(t.sparsity_b),
            ]);
        }
        table(&rows, &[2, 3, 4, 5], "  ")
    }
}
