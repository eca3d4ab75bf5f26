//! `aird diff`: which keys and tensors differ, and by how much.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::args::model_name;
use super::paths::Verb;
use super::text::{shown, table, value_text};
use super::ui::Ui;
use crate::gguf::{KvMap, Model, Tensor, Watch, shape_text};
use crate::llama::is_decodable;
use crate::quant::compare;

/// Show which keys and tensors of two models differ, and by how much
#[derive(Debug, Args)]
pub struct Diff {
    /// The one before.
    a: PathBuf,
    /// The one after.
    b: PathBuf,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// What `aird diff --json` prints.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Keys of B alone.
    pub keys_added: Vec<Key>,
    /// Keys of A alone.
    pub keys_removed: Vec<Key>,
    /// Keys of both whose values differ.
    pub keys_changed: Vec<ChangedKey>,
    /// Tensors of the same type and bytes.
    pub identical: usize,
    /// Tensors of B alone.
    pub tensors_added: Vec<String>,
    /// Tensors of A alone.
    pub tensors_removed: Vec<String>,
    /// Tensors of both whose shapes differ.
    pub reshaped: Vec<Reshaped>,
    /// Tensors of both whose types or bytes differ.
    pub changed: Vec<ChangedTensor>,
}

/// A key and its value in a few words.
#[derive(Debug, Serialize)]
pub struct Key {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// A key whose value changed.
#[derive(Debug, Serialize)]
pub struct ChangedKey {
    /// The key.
    pub key: String,
    /// Its value in A.
    pub a: String,
    /// Its value in B.
    pub b: String,
}

/// A tensor whose shape changed.
#[derive(Debug, Serialize)]
pub struct Reshaped {
    /// The tensor.
    pub name: String,
    /// Its shape in A, inputs first.
    pub shape_a: Vec<u64>,
    /// Its shape in B.
    pub shape_b: Vec<u64>,
}

/// A tensor whose type or bytes changed.
#[derive(Debug, Serialize)]
pub struct ChangedTensor {
    /// The tensor.
    pub name: String,
    /// Its type in A.
    pub type_a: String,
    /// Its type in B.
    pub type_b: String,
    /// Frobenius `|B - A| / |A|`; null where A is zero or no numbers.
    pub relative_change: Option<f64>,
    /// Cosine of A and B as vectors; null where one is zero or no numbers.
    pub cosine: Option<f64>,
    /// Share of exact zeros in A.
    pub sparsity_a: Option<f64>,
    /// Share of exact zeros in B.
    pub sparsity_b: Option<f64>,
}

impl Verb for Diff {
    fn run(self, ui: &Ui) -> Result<()> {
        let (a, b) = (Model::open(&self.a)?, Model::open(&self.b)?);
        let progress = ui.progress();
        let report = compare_models(&a, &b, &progress)?;
        drop(progress);
        if self.json {
            return ui.print_json(&report);
        }
        ui.print(format_args!("A  {}\nB  {}\n{}", model_name(&a), model_name(&b), report.text()))
    }
}

fn compare_models(a: &Model, b: &Model, watch: &dyn Watch) -> Result<Report> {
    let mut report = compare_keys(a.kv(), b.kv());
    let pairs: Vec<_> = a.tensors().filter_map(|x| Some((x, b.tensor(&x.info.name)?))).collect();
    let only = |x: &Model, y: &Model| -> Vec<String> {
        let missing = x.tensors().filter(|t| y.tensor(&t.info.name).is_none());
        missing.map(|t| t.info.name.clone()).collect()
    };
    (report.tensors_added, report.tensors_removed) = (only(b, a), only(a, b));
    let bytes = pairs.iter().map(|(x, y)| x.info.n_bytes() + y.info.n_bytes()).sum();
    watch.stage("comparing", bytes);
    for (x, y) in pairs {
        if x.info.shape != y.info.shape {
            let name = x.info.name.clone();
            let (shape_a, shape_b) = (x.info.shape.clone(), y.info.shape.clone());
            report.reshaped.push(Reshaped { name, shape_a, shape_b });
        } else if x.info.ty == y.info.ty && x.data() == y.data() {
            watch.advance(2 * x.info.n_bytes());
            report.identical += 1;
        } else {
            report.changed.push(compare_tensors(x, y, watch)?);
        }
    }
    Ok(report)
}

fn compare_keys(a: &KvMap, b: &KvMap) -> Report {
    let changed = a.iter().filter_map(|(key, x)| {
        let y = b.get(key).filter(|y| *y != x)?;
        let (mut a, mut b) = (value_text(x), value_text(y));
        if a == b {
            // The same in a few words, yet not the same.
            (a, b) = (a + " (A's)", b + " (B's)");
        }
        Some(ChangedKey { key: key.clone(), a, b })
    });
    Report {
        keys_added: only(b, a),
        keys_removed: only(a, b),
        keys_changed: changed.collect(),
        identical: 0,
        tensors_added: Vec::new(),
        tensors_removed: Vec::new(),
        reshaped: Vec::new(),
        changed: Vec::new(),
    }
}

/// The keys of `x` that `y` has not.
fn only(x: &KvMap, y: &KvMap) -> Vec<Key> {
    let missing = x.iter().filter(|(key, _)| !y.contains_key(*key));
    missing.map(|(key, value)| Key { key: key.clone(), value: value_text(value) }).collect()
}

fn compare_tensors(a: Tensor<'_>, b: Tensor<'_>, watch: &dyn Watch) -> Result<ChangedTensor> {
    let mut changed = ChangedTensor {
        name: a.info.name.clone(),
        type_a: a.info.ty.to_string(),
        type_b: b.info.ty.to_string(),
        relative_change: None,
        cosine: None,
        sparsity_a: None,
        sparsity_b: None,
    };
    // Integers and the like stand for no weights: that they differ is all there is to say.
    if is_decodable(a.info.ty) && is_decodable(b.info.ty) {
        let sums = compare(a, b, watch)?;
        let share = |zeros: u64| (sums.n > 0).then(|| zeros as f64 / sums.n as f64);
        changed.relative_change = sums.relative_change();
        changed.cosine = sums.cosine();
        (changed.sparsity_a, changed.sparsity_b) = (share(sums.zeros_a), share(sums.zeros_b));
    }
    Ok(changed)
}

impl Report {
    fn text(&self) -> String {
        let mut text = String::new();
        let cells = |mark: &str, k: &Key| vec![mark.into(), k.key.clone(), k.value.clone()];
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
