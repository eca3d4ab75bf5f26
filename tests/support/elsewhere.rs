//! A model whose blocks run elsewhere, on workers or on a GPU: it gives what it gives here.

use std::path::{Path, PathBuf};

use aird::direction::Direction;
use aird::gguf::GgmlType;
use aird::prompts::{self, Part, PromptSet};
use serde_json::Value;

use super::{Arch, Refuser, Tiny, aird, stderr, tempdir};

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

/// Where blocks run instead.
#[derive(Debug, Clone, Copy)]
pub struct Elsewhere<'a> {
    /// The options that have them run there.
    pub options: &'a [&'a str],
    /// What results may differ by, relative to their size: devices round in other ways.
    pub rounding: f64,
}

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
        let found = apart(&captured("here", &[]), &captured("there", self.options));
        assert!(found < self.rounding, "{found}");
    }

    /// A search for what brings the refusals of a model back: as many. Of edits that do so alike it
    /// takes the one that changes harmless answers least, by less than devices round; `is_same` if
    /// it must be the same edit nevertheless.
    pub fn searches_alike(self, is_same: bool) {
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
        let (here, there) = (repaired("here.gguf", &[]), repaired("there.gguf", self.options));
        let chosen = |answered: &Value| -> Vec<Value> {
            let all = answered.as_array().unwrap().iter();
            let chosen = all.filter(|candidate| candidate["chosen"] == true);
            chosen.map(|c| serde_json::json!([c["blocks"], c["alpha"], c["refusal"]])).collect()
        };
        let refusals = |answered: &Value| -> Vec<Value> {
            chosen(answered).into_iter().map(|chosen| chosen[2].clone()).collect()
        };
        assert!(!chosen(&here.1).is_empty(), "{}", here.1);
        assert_eq!(refusals(&here.1), refusals(&there.1));
        if is_same {
            assert_eq!(chosen(&here.1), chosen(&there.1));
            self.files_alike(&here.0, &there.0);
        }
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
        self.files_alike(&restored("here.gguf", &[]), &restored("there.gguf", self.options));
    }

    /// Both have the same tensors, within what rounding makes.
    fn files_alike(self, a: &Path, b: &Path) {
        // Its exit code is 1 where they differ at all.
        let output = aird().arg("diff").args([a, b]).arg("--json").output().unwrap();
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        for tensor in found["changed"].as_array().unwrap() {
            let change = tensor["relative_change"].as_f64().unwrap();
            assert!(change < self.rounding, "{tensor}");
        }
    }
}

/// The report of a command that succeeds.
fn done(command: &mut std::process::Command) -> Value {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}: {}", output.status, stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}
