//! `aird direction`, `compare` and `ask`: what is captured is what the model computes, files come
//! back as they were, and what is wrong is said.

use std::path::{Path, PathBuf};

use aird::direction::Direction;
use aird::verbs::{StopReport, Why, direction};

use crate::support::{Arch, Tiny, aird, is_report, json, run, stderr, stdout, tempdir};

/// Prompt files of a few words that the tiny vocabulary spells.
fn prompts(folder: &Path) -> [PathBuf; 2] {
    let write = |name: &str, verb: &str| {
        let lines: Vec<String> = (0..20).map(|i| format!("{verb} me story number {i}")).collect();
        let path = folder.join(name);
        std::fs::write(&path, lines.join("\n")).unwrap();
        path
    };
    [write("harmful.txt", "sell"), write("harmless.txt", "tell")]
}

/// The candidates of `model`, in a file called `name`.
pub fn capture(folder: &Path, model: &Path, name: &str, more: &[&str]) -> PathBuf {
    let [harmful, harmless] = prompts(folder);
    let out = folder.join(name);
    let output = aird()
        .arg("direction")
        .args([model, Path::new("-o"), &out, Path::new("--harmful"), &harmful])
        .args([Path::new("--harmless"), &harmless])
        .args(["--capture-only", "--chat-template", "none", "--threads", "1"])
        .args(more)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    out
}

#[test]
fn every_architecture_goes_through_capture() {
    for arch in [Arch::Llama, Arch::Qwen2, Arch::Gemma3, Arch::Olmo2, Arch::Qwen3Moe] {
        let folder = tempdir();
        let tiny = Tiny::new(arch).blocks(3).seed(1);
        let model = tiny.write(folder.path());
        let direction = Direction::read(&capture(folder.path(), &model, "d", &[])).unwrap();
        let grid = &direction.candidates;
        assert_eq!((grid.n_layer, grid.n_embd as u64), (3, tiny.n_embd()), "{arch:?}");
        assert!(grid.values.iter().any(|x| *x != 0.0), "{arch:?}");
        assert_eq!(direction.about.layer, None);
    }
}

#[test]
fn the_same_settings_give_the_same_bytes_and_others_the_same_candidates() {
    let folder = tempdir();
    let model = Tiny::new(Arch::Llama).seed(1).write(folder.path());
    let a = capture(folder.path(), &model, "a", &[]);
    let b = capture(folder.path(), &model, "b", &[]);
    assert_eq!(std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap());
    let c = capture(folder.path(), &model, "c", &["--parallel", "1"]);
    let (a, c) = (Direction::read(&a).unwrap(), Direction::read(&c).unwrap());
    for layer in 0..2 {
        let cosine = aird::direction::cosine(a.candidates.at(layer, 0), c.candidates.at(layer, 0));
        assert!(cosine.is_none_or(|x| x > 1.0 - 1e-5), "{cosine:?}");
    }
}

#[test]
fn a_given_layer_is_taken_and_leads_to_a_control_vector() {
    let folder = tempdir();
    let model = Tiny::new(Arch::Llama).blocks(3).seed(1).write(folder.path());
    let path = capture(folder.path(), &model, "d", &[]);
    let mut direction = Direction::read(&path).unwrap();
    direction.about.layer = Some(2);
    direction.about.position = Some(-1);
    let chosen = folder.path().join("chosen");
    direction.write(&chosen).unwrap();
    let back = Direction::read(&chosen).unwrap();
    assert_eq!(back, direction);
    let length: f64 = back.unit().unwrap().iter().map(|x| f64::from(*x).powi(2)).sum();
    assert!((length - 1.0).abs() < 1e-6);
    let cvector = folder.path().join("cvector.gguf");
    back.write_cvector(&cvector).unwrap();
    let report = json(&[Path::new("inspect"), &cvector, Path::new("--tensors")]);
    assert_eq!(report["tensors"][0]["name"], "direction.1");
    assert_eq!(report["architecture"], "controlvector");

    // Added while answering, it changes the answer; compared with itself, nothing moved.
    let compared = json(&[Path::new("compare"), &chosen, &chosen]);
    assert!(compared["others"][0]["cosine"].as_f64().unwrap() > 0.999_999);
    assert_eq!(compared["others"][0]["layer"][0], 2);
    let ask = |more: &[&Path]| {
        let all =
            [Path::new("ask"), &model, Path::new("tell me"), Path::new("--chat-template=none")];
        let output = run(&[&all[..], more].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    };
    let plain = ask(&[]);
    assert!(plain.starts_with("> tell me\n"), "{plain}");
    ask(&[Path::new("--add"), &chosen]);
    ask(&[Path::new("--ablate"), &chosen]);
}

#[test]
fn compare_draws_a_heatmap_and_refuses_other_widths() {
    let folder = tempdir();
    let model = Tiny::new(Arch::Llama).seed(1).write(folder.path());
    let wide = Tiny::new(Arch::Llama).ty(aird::gguf::GgmlType::Q4_K).write(folder.path());
    let choose = |path: PathBuf| {
        let mut direction = Direction::read(&path).unwrap();
        (direction.about.layer, direction.about.position) = (Some(1), Some(-1));
        direction.write(&path).unwrap();
        path
    };
    let a = choose(capture(folder.path(), &model, "a", &[]));
    let b = choose(capture(folder.path(), &wide, "b", &[]));
    let svg = folder.path().join("map.svg");
    let output = run(&[Path::new("compare"), &a, &a, Path::new("--svg"), &svg]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(std::fs::read_to_string(&svg).unwrap().starts_with("<svg"));
    // A file of candidates alone has no chosen direction, but a cosine at the base's cell.
    let bare = capture(folder.path(), &model, "c", &[]);
    let report = json(&[Path::new("compare"), &a, &bare]);
    assert!(report["others"][0]["cosine"].is_null());
    assert!(report["others"][0]["cosine_at_base"].as_f64().unwrap() > 0.999);
    assert_eq!(run(&[Path::new("compare"), &bare, &a]).status.code(), Some(1));
    let output = run(&[Path::new("compare"), &a, &b]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("64 wide, the other 256"), "{}", stderr(&output));
    let ask = [Path::new("ask"), &wide, Path::new("hi"), Path::new("--chat-template=none")];
    let output = run(&[&ask[..], &[Path::new("--ablate"), &a]].concat());
    assert!(stderr(&output).contains("64 wide"), "{}", stderr(&output));
}

#[test]
fn what_is_wrong_with_prompts_and_files_is_said() {
    let folder = tempdir();
    let model = Tiny::new(Arch::Llama).write(folder.path());
    let out = folder.path().join("out");
    let one = folder.path().join("one.txt");
    std::fs::write(&one, "only one\n").unwrap();
    let direction = [Path::new("direction"), &model, Path::new("-o"), &out];
    let output = run(&[&direction[..], &[Path::new("--harmful"), &one]].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("one.txt"), "{}", stderr(&output));
    let output = run(&[Path::new("compare"), &one, &one]);
    assert!(stderr(&output).contains("not a direction file"), "{}", stderr(&output));
    // Random weights refuse nothing.
    let [harmful, harmless] = prompts(folder.path());
    let more = [Path::new("--harmful"), &harmful, Path::new("--harmless"), &harmless];
    let last = [Path::new("--chat-template=none"), Path::new("--json")];
    let output = run(&[&direction[..], &more, &last].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("hardly refuses"), "{}", stderr(&output));
    assert!(stderr(&output).contains("hint: a direction needs a model"), "{}", stderr(&output));
    let stopped = is_report::<StopReport>(serde_json::from_slice(&output.stdout).unwrap()).stopped;
    assert_eq!(stopped.no_direction, Why::HardlyRefuses);
    assert!(stopped.message.starts_with("this model hardly refuses: 0 of "), "{stopped:?}");
    assert!(!out.exists());
}

#[test]
fn the_json_of_direction_is_its_report() {
    let folder = tempdir();
    let model = Tiny::new(Arch::Llama).write(folder.path());
    let out = folder.path().join("direction");
    let words = ["--capture-only", "--train", "8", "--held-out", "4", "--json", "-o"];
    let output = aird().arg("direction").arg(&model).args(words).arg(&out).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    is_report::<direction::Report>(serde_json::from_slice(&output.stdout).unwrap());
    // A study reads part of it: the report holds more than the file's metadata does.
    let about: aird::direction::About = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(about.architecture, "llama");
    assert!(aird::direction::Direction::read(&out).is_ok());
}
