//! What the tests share: tiny models made in code, arbitrary files, the malformed corpus, and
//! other people's readers to check ours against.
#![allow(dead_code)] // a support for all tests, whichever of them are there

pub mod adapter;
pub mod arbitrary;
pub mod architectures;
pub mod browser;
pub mod checkpoint;
pub mod contract;
pub mod direction;
pub mod elsewhere;
pub mod ggml;
pub mod imports;
pub mod llama;
pub mod malformed;
pub mod pages;
pub mod place;
pub mod random;
pub mod refuser;
pub mod study;
pub mod tiny;
pub mod vocabulary;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use aird::gguf::Model;
use aird::llama::Prober;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use adapter::Adapter;
pub use direction::direction;
pub use refuser::Refuser;
pub use tempfile::TempDir;
pub use tiny::{Arch, Tiny};

/// A folder that is gone when the test is over.
pub fn tempdir() -> TempDir {
    tempfile::Builder::new().prefix("aird-test-").tempdir().unwrap()
}

/// The binary under test.
pub fn aird() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aird"));
    command.env_remove("NO_COLOR").env_remove("SOURCE_DATE_EPOCH");
    command
}

/// What tries models, and traces them, in processes of their own.
pub fn prober() -> Prober {
    Prober { program: Some(env!("CARGO_BIN_EXE_aird").into()), interrupt: Arc::default() }
}

/// True if llama.cpp aborted as it does on CPUs with AMX alone: it repacks stacks of heads'
/// matrices (MLA) for it, and then has no way to multiply rows with them that are not contiguous
/// (`supports_op` of its ggml-cpu/amx/amx.cpp). Nothing that aird could write changes that.
pub fn aborts_with_amx(output: &Output) -> bool {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    cpu.contains("amx_int8") && stderr(output).contains("GGML_ASSERT(*cur_backend_id != -1)")
}

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Names of the files in `folder`, hidden ones included, sorted.
pub fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A real chat model: what `AIRD_TEST_MODEL` says (an absolute path), else the one that
/// `scripts/fetch-model.sh` brings. None, with the reason printed, if that says `skip`.
///
/// # Panics
/// If the model is missing: a test must not pass because nothing was tested.
pub fn real_model() -> Option<PathBuf> {
    const HINT: &str = "hint: run scripts/fetch-model.sh, or set AIRD_TEST_MODEL=skip";
    let path = match std::env::var_os("AIRD_TEST_MODEL") {
        Some(word) if word == "skip" => {
            eprintln!("skipped: AIRD_TEST_MODEL=skip");
            return None;
        }
        Some(path) => PathBuf::from(path),
        None => root().join("target/models/SmolLM2-135M-Instruct-Q4_1.gguf"),
    };
    assert!(path.is_absolute(), "AIRD_TEST_MODEL={} is no absolute path", path.display());
    assert!(path.is_file(), "no test model at {}\n{HINT}", path.display());
    Some(path)
}

/// Runs aird with `arguments` to its end.
pub fn run(arguments: &[&Path]) -> Output {
    aird().args(arguments).output().unwrap()
}

/// The report of `aird ARGUMENTS --json`.
pub fn json(arguments: &[&Path]) -> serde_json::Value {
    let output = aird().args(arguments).arg("--json").output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", stderr(&output)))
}

/// `json` as a verb's report, which must write the same JSON. It fits the verb's published schema.
///
/// # Panics
/// If it is no such report, or reads back as another.
pub fn is_report<R: DeserializeOwned + Serialize>(json: serde_json::Value) -> R {
    let report: R = serde_json::from_value(json.clone()).unwrap_or_else(|e| panic!("{e}: {json}"));
    assert_eq!(serde_json::to_value(&report).unwrap(), json);
    // aird::verbs::audit::report::Report
    let name = std::any::type_name::<R>();
    let verb = name.strip_prefix("aird::verbs::").filter(|name| name.ends_with("::Report"));
    if let Some((verb, _)) = verb.and_then(|name| name.split_once("::")) {
        let path = root().join(format!("docs/schemas/{verb}.json"));
        let schema = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
        let schema = serde_json::from_str(&schema).unwrap();
        contract::fits(&json, &schema, &schema, verb).unwrap_or_else(|e| panic!("{e}: {json}"));
    }
    report
}

/// What a run said.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What a run printed.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Overwrites `bytes` in tensor `name` of the file at `path`, `at` bytes in.
pub fn scribble(path: &Path, name: &str, at: usize, bytes: &[u8]) {
    let start = {
        let model = Model::open(path).unwrap();
        let tensor = model.tensor(name).unwrap();
        model.shards()[tensor.shard].range(tensor.info).start as usize
    };
    let mut file = std::fs::read(path).unwrap();
    file[start + at..start + at + bytes.len()].copy_from_slice(bytes);
    std::fs::write(path, file).unwrap();
}
