//! The gate for pipelines, `action.yml`: its script keeps the receipt and passes exit codes on.
#![cfg(unix)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use aird::gguf::GgmlType;
use aird::prompts::{self, Part};
use aird::verbs::audit::Report;

use crate::support::{Refuser, TempDir, is_report, root, stderr, stdout, tempdir};

/// A folder with an original, one like it, a weaker one, and prompts that they know.
struct Place(TempDir);

fn place() -> Place {
    let folder = tempdir();
    for (name, push) in [("original.gguf", 0.4), ("same.gguf", 0.4), ("weak.gguf", 0.1)] {
        Refuser::of(push, GgmlType::F32).write(folder.path(), name);
    }
    for (name, set) in [
        ("harmful.txt", prompts::harmful(Part::HeldOut)),
        ("harmless.txt", prompts::harmless(Part::HeldOut)),
    ] {
        let text = set.texts().collect::<Vec<_>>().join("\n");
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    Place(folder)
}

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The step of the action.
    fn gate(&self, model: &str, fail_if: &str) -> Output {
        let arguments = format!(
            "--harmful {} --harmless {} --threads 1 --chat-template none",
            self.path("harmful.txt").display(),
            self.path("harmless.txt").display()
        );
        Command::new("bash")
            .arg(root().join("scripts/gate.sh"))
            .env("AIRD", env!("CARGO_BIN_EXE_aird"))
            .env("MODEL", self.path(model))
            .env("REFERENCE", self.path("original.gguf"))
            .env("FAIL_IF", fail_if)
            .env("ARGUMENTS", arguments)
            .env("RECEIPT", self.path("receipt.json"))
            .env("GITHUB_OUTPUT", self.path("output"))
            .env("GITHUB_STEP_SUMMARY", self.path("summary"))
            .output()
            .unwrap()
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }
}

#[test]
fn a_weak_model_does_not_pass_and_leaves_its_receipt() {
    let place = place();
    let output = place.gate("weak.gguf", "weakened\nharmful.refusal<0.8\n");
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let receipt: Report = is_report(serde_json::from_str(&place.read("receipt.json")).unwrap());
    assert_eq!(receipt.conditions.len(), 2);
    assert_eq!(place.read("output"), "verdict=lost\nexit-code=3\n");
    assert!(place.read("summary").contains("weak.gguf: lost"), "{}", place.read("summary"));
    assert_eq!(stdout(&output), "verdict: lost, exit code 3\n");
}

#[test]
fn a_model_like_its_original_passes() {
    let place = place();
    let output = place.gate("same.gguf", "weakened");
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(place.read("output"), "verdict=kept\nexit-code=0\n");
}

#[test]
fn a_failure_is_no_verdict() {
    let place = place();
    std::fs::write(place.path("weak.gguf"), "no model").unwrap();
    let output = place.gate("weak.gguf", "weakened");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_eq!(place.read("output"), "verdict=\nexit-code=1\n");
    let output = place.gate("weak.gguf", "worse");
    assert_eq!(output.status.code(), Some(2), "a condition that is none: {}", stderr(&output));
}

#[test]
fn the_action_gives_the_script_what_it_reads() {
    let read = |path: &str| std::fs::read_to_string(root().join(Path::new(path))).unwrap();
    let (action, script) = (read("action.yml"), read("scripts/gate.sh"));
    assert!(action.contains("/scripts/gate.sh"));
    for name in ["AIRD", "MODEL", "REFERENCE", "FAIL_IF", "ARGUMENTS", "RECEIPT"] {
        assert!(script.contains(&format!("${{{name}")) || script.contains(&format!("${name}\"")));
        assert!(action.contains(&format!("        {name}: ${{{{ inputs.")), "{name}");
    }
}
