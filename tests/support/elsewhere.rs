//! A model whose blocks run elsewhere, on workers or on a GPU: it gives what it gives here.

use std::path::{Path, PathBuf};

use aird::direction::Direction;
use aird::gguf::GgmlType;
use aird::prompts::{self, Part, PromptSet};
use serde_json::Value;

use super::{Arch, Refuser, Tiny, aird, stderr, tempdir};

/// What results may differ by, relative to their size: devices round in other ways.
pub const ROUNDING: f64 = 1e-3;

/// Size of the difference of `a` and `b`, relative to that of `a`.
pub fn apart(a: &[f32], b: &[f32]) -> f64 {
    let size = |values: &mut dyn Iterator<Item = f32>| {
        values.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt()
    };
    assert_eq!(a.len(), b.len());
    let all = size(&mut a.iter().copied());
    assert!(all > 0.0);
    size(&mut a.iter().zip(b).map(|(x, y)| x - y)) / all
}

/// The texts of `set`, a line each, in `folder`.
pub fn prompt_file(folder: &Path, name: &str, set: PromptSet) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, set.texts().collect::<Vec<_>>().join("\n")).unwrap();
    path
}

/// The options that have blocks run elsewhere.
#[derive(Debug, Clone, Copy)]
pub struct Elsewhere<'a>(pub &'a [&'a str]);

impl Elsewhere<'_> {
    /// Directions captured from a model that refuses.
    pub fn captures_alike(self) {
        let folder = tempdir();
        let model = Refuser::of(0.4, GgmlType::F32).write(folder.path(), "model.gguf");
        let harmful = prompt_file(folder.path(), "bad.txt", prompts::harmful(Part::HeldOut));
        let harmless = prompt_file(folder.path(), "good.txt", prompts::harmless(Part::HeldOut));
        let captured = |name: &str, more: &[&str]| {
            let out = folder.path().join(name);
            let mut command = aird();
            command.arg("direction").arg(&model).arg("-o").arg(&out);
            command.arg("--harmful").arg(&harmful).arg("--harmless").arg(&harmless);
            command.args(["--capture-only", "--chat-template", "none", "--threads", "1"]);
            done(command.args(more));
            Direction::read(&out).unwrap().candidates.values
        };
        let found = apart(&captured("here", &[]), &captured("there", self.0));
        assert!(found < ROUNDING, "{found}");
    }

    /// Answers of a model that refuses, and a search for what brings its refusals back.
    pub fn searches_alike(self) {
        let folder = tempdir();
        let base = Refuser::of(0.4, GgmlType::F32).write(folder.path(), "base.gguf");
        let weak = Refuser::of(0.1, GgmlType::Q8_0).write(folder.path(), "weak-Q8_0.gguf");
        let repaired = |name: &str, more: &[&str]| -> (PathBuf, Value) {
            let out = folder.path().join(name);
            let mut command = aird();
            command.arg("repair").arg(&weak).arg("--reference").arg(&base).arg("-o").arg(&out);
            command.args(["--method", "aird", "--threads", "1", "--chat-template", "none"]);
            let report = done(command.args(more).arg("--json"));
            (out, report["search"]["answered"].clone())
        };
        let (here, there) = (repaired("here.gguf", &[]), repaired("there.gguf", self.0));
        let chosen = |answered: &Value| -> Vec<Value> {
            let all = answered.as_array().unwrap().iter();
            let chosen = all.filter(|candidate| candidate["chosen"] == true);
            chosen.map(|c| serde_json::json!([c["blocks"], c["alpha"], c["refusal"]])).collect()
        };
        assert_eq!(chosen(&here.1), chosen(&there.1));
        assert!(!chosen(&here.1).is_empty(), "{}", here.1);
        files_alike(&here.0, &there.0);
    }

    /// A pruned model, restored.
    pub fn restores_alike(self, arch: Arch) {
        let folder = tempdir();
        let original = Tiny::new(arch).seed(5).write(folder.path());
        let pruned = folder.path().join("pruned.gguf");
        let mut prune = aird();
        prune.arg("prune").arg(&original).args(["--method", "magnitude", "--sparsity", "0.5"]);
        done(prune.arg("--json").arg("-o").arg(&pruned));
        let restored = |name: &str, more: &[&str]| {
            let out = folder.path().join(name);
            let mut command = aird();
            command.arg("repair").arg(&pruned).arg("--reference").arg(&original);
            command.args(["--aim", "none", "--tokens", "1000", "--max-tokens", "4", "--json"]);
            command.args(["--chat-template", "none", "--threads", "1", "-o"]).arg(&out);
            done(command.args(more));
            out
        };
        files_alike(&restored("here.gguf", &[]), &restored("there.gguf", self.0));
    }
}

/// Both have the same tensors, within what rounding makes.
fn files_alike(a: &Path, b: &Path) {
    let found = done(aird().arg("diff").args([a, b]).arg("--json"));
    for tensor in found["changed"].as_array().unwrap() {
        let change = tensor["relative_change"].as_f64().unwrap();
        assert!(change < ROUNDING, "{tensor}");
    }
}

/// The report of a command that succeeds.
fn done(command: &mut std::process::Command) -> Value {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}
