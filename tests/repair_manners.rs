//! `aird repair`: what it reports, and what it refuses before any work, with nothing written.

use std::path::{Path, PathBuf};
use std::process::Output;

use aird::direction::Direction;
use aird::gguf::{Builder, GgmlType, Model};
use aird::verbs::repair::Report;

use crate::support::direction::{about, wave};
use crate::support::{
    Arch, TempDir, Tiny, aird, direction, is_report, names_in, stderr, stdout, tempdir,
};

/// A tiny model with a direction.
struct Scene {
    folder: TempDir,
    model: PathBuf,
    direction: PathBuf,
}

impl Scene {
    fn new(tiny: &Tiny) -> Scene {
        let folder = tempdir();
        let model = tiny.write(folder.path());
        let direction = direction(folder.path(), tiny);
        Scene { folder, model, direction }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn repair(&self, more: &[&str]) -> Output {
        self.repair_along(&self.direction, more)
    }

    fn repair_along(&self, direction: &Path, more: &[&str]) -> Output {
        let mut command = aird();
        command.current_dir(self.folder.path()).arg("repair").arg(&self.model);
        command.args(["--threads", "1", "--direction"]).arg(direction).args(more).output().unwrap()
    }

    /// A run that ends in `code`, says `expected` and writes nothing.
    fn refuses(&self, more: &[&str], code: i32, expected: &str) {
        let names = names_in(self.folder.path());
        let output = self.repair(more);
        assert_eq!(output.status.code(), Some(code), "{more:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{more:?}: {}", stderr(&output));
        assert_eq!(names_in(self.folder.path()), names);
    }
}

fn tiny() -> Tiny {
    Tiny::new(Arch::Llama).ty(GgmlType::Q8_0).seed(4)
}

const GIVEN: [&str; 4] = ["--block", "1", "--alpha", "1"];

#[test]
fn the_json_of_repair_is_its_report_whatever_it_wrote_or_would() {
    for way in [&["-o", "out.gguf"][..], &["--in-place"], &["--lora", "lora.gguf"], &[]] {
        let scene = Scene::new(&tiny());
        let before = std::fs::read(&scene.model).unwrap();
        let names = names_in(scene.folder.path());
        let run = |more: &[&str]| {
            let output = scene.repair(&[&GIVEN[..], way, more, &["--json"]].concat());
            assert!(output.status.success(), "{way:?}: {}", stderr(&output));
            match is_report(serde_json::from_slice(&output.stdout).unwrap()) {
                Report::Edited(report) => report,
                restored => panic!("{restored:?}"),
            }
        };
        let planned = run(&["--dry-run"]);
        assert!(std::fs::read(&scene.model).unwrap() == before);
        assert_eq!(names_in(scene.folder.path()), names, "{way:?}: a dry run writes nothing");
        let plain = scene.repair(&[&GIVEN[..], way, &["--dry-run"]].concat());
        assert!(stdout(&plain).contains("would "), "{way:?}: {}", stdout(&plain));
        let done = run(&[]);
        assert!(planned.dry_run && !done.dry_run && planned.in_history.is_none());
        let is_adapter = way.contains(&"--lora");
        assert_eq!((planned.computed_bytes.is_none(), done.computed_bytes), (is_adapter, None));
        assert_eq!((planned.files.len(), done.files.len()), (1, 1), "{way:?}");
        for (planned, done) in planned.files.iter().zip(&done.files) {
            assert_eq!((&planned.path, planned.bytes), (&done.path, done.bytes), "{way:?}");
            assert_eq!(scene.path(&done.path).metadata().unwrap().len(), done.bytes);
        }
        let alphas: Vec<f64> = done.tensors.iter().map(|t| t.realised_alpha).collect();
        assert!(alphas.len() == 2 && alphas.iter().all(|a| (a - 1.0).abs() < 0.03), "{alphas:?}");
        assert_eq!((done.direction_sha256.len(), done.blocks), (64, vec!["1".to_owned()]));
    }
}

#[test]
fn an_adapter_says_where_it_comes_from() {
    let scene = Scene::new(&tiny());
    let output = scene.repair(&[&GIVEN[..], &["--lora", "lora.gguf", "--type", "keep"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let lora = Model::open(&scene.path("lora.gguf")).unwrap();
    assert_eq!(lora.text("general.name").unwrap(), Some("Tiny llama AIRD"));
    let step = &aird::gguf::history(lora.kv())[0];
    assert_eq!(step["parameters"]["alpha"], 1.0);
    assert_eq!(step["parameters"]["blocks"], serde_json::json!(["1"]));
    for source in ["direction", "model"] {
        assert_eq!(step["sources"][source].as_str().unwrap().len(), 64, "{source}");
    }
}

#[test]
fn what_is_wrong_is_said_before_any_work() {
    let scene = Scene::new(&tiny());
    std::fs::write(scene.path("there.svg"), "a picture").unwrap();
    std::fs::write(scene.path("there.json"), "notes").unwrap();
    let model = scene.model.to_str().unwrap();
    for (more, code, expected) in [
        (&["--alpha", "0"][..], 2, "above 0"),
        (&["--alpha", "-1"], 2, "it does not remove a refusal direction"),
        (&["--alpha", "nan"], 2, "expected a number above 0, or auto"),
        (&["--alpha", "1", "--type", "f8"], 2, "expected auto"),
        (&["--alpha", "1", "--type", "q4_0"], 2, "expected auto, keep, q8_0 or f16"),
        (&["--alpha", "1", "--in-place", "-o", "x"], 2, "cannot be used with"),
        (&["--verify"], 2, "--in-place"),
        (&["--in-place", "--type", "f16"], 1, "as F16 it would be of another size"),
        (&["-o", "missing/out.gguf"], 1, "a folder that does not exist"),
        (&["--front", "missing/front.json"], 1, "a folder that does not exist"),
        (&["--front", "front.svg"], 1, "expected a name for the JSON"),
        (&["--front", "there.gguf"], 1, "there.svg exists"),
        (&["--front", "there.json"], 1, "exists\nhint: --force"),
        (&["--front", "same", "-o", "same"], 1, "are the same file"),
        (&["--lora", model, "--force"], 1, "is the input itself"),
    ] {
        scene.refuses(more, code, expected);
    }
    let output = aird().arg("repair").arg(&scene.model).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--reference <MODEL>"), "{}", stderr(&output));
}

#[test]
fn a_reference_of_another_shape_is_seen_before_its_direction_is_looked_for() {
    let scene = Scene::new(&tiny());
    let wide = tempdir();
    let other = Tiny::new(Arch::Llama).ty(GgmlType::Q4_K).write(wide.path());
    for (reference, more, expected) in [
        (&other, &[][..], "256 wide, 2 blocks; the model is llama, 64 wide"),
        (&scene.model, &["--block", "7"], "blocks 0 to 1"),
        (&scene.model, &["--harmful", "missing.txt"], "missing.txt"),
    ] {
        let mut command = aird();
        command.arg("repair").arg(&scene.model).arg("--reference").arg(reference).args(more);
        let output = command.args(["--method", "aird"]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
}

#[test]
fn a_direction_of_another_model_is_refused_or_warned_of() {
    let scene = Scene::new(&tiny());
    let file = scene.path("other.safetensors");
    let own = {
        let output = aird().args(["verify", "--sha256", "--quick"]).arg(&scene.model).output();
        stdout(&output.unwrap())[..64].to_owned()
    };
    let mut same = about("llama");
    same.model_sha256 = own;
    for (about, candidates, code, expected) in [
        (about("llama"), wave(2, 128), 1, "128 wide, the model 64"),
        (about("llama"), wave(2, 128), 1, "aird direction ORIGINAL -o DIR"),
        (about("qwen2"), wave(2, 64), 1, "of architecture 'qwen2', this one is 'llama'"),
        (about("llama"), wave(3, 64), 0, "of a model of 3 blocks, this one has 2"),
        (same, wave(2, 64), 0, "found in this very model"),
    ] {
        Direction { candidates, about }.write(&file).unwrap();
        let output =
            scene.repair_along(&file, &[&GIVEN[..], &["--force", "-o", "o.gguf"]].concat());
        assert_eq!(output.status.code(), Some(code), "{expected}: {}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
}

#[test]
fn what_exists_is_replaced_only_where_that_is_asked_for() {
    let scene = Scene::new(&tiny());
    let out = scene.path("tiny-llama-AIRD-Q8_0.gguf");
    std::fs::write(&out, "mine").unwrap();
    scene.refuses(&GIVEN, 1, "hint: --force replaces it");
    assert_eq!(std::fs::read(&out).unwrap(), b"mine");
    assert!(scene.repair(&[&GIVEN[..], &["--force"]].concat()).status.success());
    assert!(Model::open(&out).is_ok());
    let ignored = scene.repair(&[&GIVEN[..], &["--force", "--front", "f.json"]].concat());
    assert!(stderr(&ignored).contains("nothing is searched for"), "{}", stderr(&ignored));
    assert!(!scene.path("f.json").exists());
}

#[test]
fn what_llama_cpp_does_not_know_is_not_edited() {
    let folder = tempdir();
    let path = folder.path().join("strange.gguf");
    let mut file = Builder::new();
    file.kv("general.architecture", "unheard-of").kv("unheard-of.embedding_length", 64u32);
    let rows = vec![0; 64 * 64 * 4];
    file.tensor("blk.0.ffn_down.weight", &[64, 64], GgmlType::F32, rows).unwrap();
    file.write(&path).unwrap();
    let scene = Scene { model: path, ..Scene::new(&tiny()) };
    scene.refuses(&GIVEN, 1, "unknown model architecture: 'unheard-of'");
}

#[test]
fn a_half_that_is_not_there_is_refused() {
    let scene = Scene::new(&tiny());
    for (block, expected) in [("7", "blocks 0 to 1"), ("1:mlp,2", "there is no block 2")] {
        let more = ["--block", block, "--alpha", "1"];
        scene.refuses(&more, 1, expected);
    }
}

#[test]
fn a_dry_run_leaves_the_front_alone() {
    let scene = Scene::new(&tiny());
    std::fs::write(scene.path("notes.json"), "notes").unwrap();
    for (name, verb) in [("harmful.txt", "sell"), ("harmless.txt", "tell")] {
        let lines: Vec<String> = (0..8).map(|i| format!("{verb} me story number {i}")).collect();
        std::fs::write(scene.path(name), lines.join("\n")).unwrap();
    }
    let names = names_in(scene.folder.path());
    let search = ["--harmful", "harmful.txt", "--harmless", "harmless.txt", "--max-tokens", "4"];
    let more = ["--dry-run", "--front", "notes.json", "--chat-template", "none"];
    let output = scene.repair(&[&search[..], &more].concat());
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stdout(&output).contains("unrepaired"), "the front is the result");
    assert_eq!(std::fs::read(scene.path("notes.json")).unwrap(), b"notes");
    assert_eq!(names_in(scene.folder.path()), names);
}
