//! `aird diff`: its arguments, and its report in print.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::paths::Verb;
use super::text::{shown, table};
use super::ui::Ui;
use crate::gguf::shape_text;
use crate::verbs::diff::{KeyValue, Report, Request, run};

/// Show which keys and tensors of two models differ, and by how much
#[derive(Debug, Args)]
pub(super) struct Diff {
    /// The first model.
    a: PathBuf,
    /// The second model.
    b: PathBuf,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

impl Verb for Diff {
    fn models(&mut self) -> Result<Vec<&mut PathBuf>> {
        Ok(vec![&mut self.a, &mut self.b])
    }

    fn run(self, ui: &Ui) -> Result<()> {
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
