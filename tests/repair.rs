//! `aird repair`: the edit is in the file, in the file's own types, with nothing else changed; and
//! it can be taken back.

use std::path::{Path, PathBuf};
use std::process::Output;

use aird::direction::{About, Direction, Grid};
use aird::gguf::{GgmlType, Model, history, model_sha256};
use aird::llama::{Engine, Hooks, Options, Prefill, Reading, Site};
use serde_json::Value;

use crate::support::{Arch, Tiny, aird, llama, names_in, stderr, tempdir};

const PROMPT: &str = "Tell me a story, in 3 words.\n";

/// A direction file for a model of `n_embd` channels: a wave, chosen at layer 1.
fn direction(folder: &Path, n_embd: usize) -> PathBuf {
    let values = (0..2 * n_embd).map(|i| (i as f32 * 1.7).sin()).collect();
    let candidates = Grid { n_layer: 2, n_pos: 1, n_embd, values };
    let about = About {
        version: "0".into(),
        model: "tiny".into(),
        model_sha256: String::new(),
        architecture: "llama".into(),
        layer: Some(1),
        position: Some(-1),
        max_kl: None,
        refusal_tokens: Vec::new(),
        scores: Vec::new(),
        prompts: serde_json::Map::new(),
        n_kept: (0, 0),
        template_sha256: String::new(),
    };
    let path = folder.join("direction.safetensors");
    Direction { candidates, about }.write(&path).unwrap();
    path
}

fn repair(model: &Path, direction: &Path, more: &[&str]) -> Output {
    let mut command = aird();
    command.arg("repair").arg(model).arg("--direction").arg(direction);
    command.args(["--block", "1"]).args(more).output().unwrap()
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", stderr(output)))
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    let size = a.iter().map(|x| x.abs()).fold(0.0, f32::max);
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max) / size
}

fn sha256(path: &Path) -> String {
    model_sha256(&Model::open(path).unwrap(), &aird::gguf::Unwatched).unwrap()
}

#[test]
fn a_repaired_f32_model_answers_as_with_the_adapter() {
    for arch in [Arch::Llama, Arch::Qwen2, Arch::Gemma3, Arch::Olmo2, Arch::Qwen3Moe] {
        let folder = tempdir();
        let tiny = Tiny::new(arch).seed(4);
        let model = tiny.write(folder.path());
        let direction = direction(folder.path(), tiny.n_embd() as usize);
        let [out, lora] = ["out.gguf", "lora.gguf"].map(|name| folder.path().join(name));
        for (flag, path) in [("-o", &out), ("--lora", &lora)] {
            let more = ["--alpha", "2", flag, path.to_str().unwrap()];
            let output = repair(&model, &direction, &more);
            assert!(output.status.success(), "{arch:?}: {}", stderr(&output));
        }
        let plain = llama::logits(&model, PROMPT).unwrap();
        let repaired = llama::logits(&out, PROMPT).unwrap();
        let with = llama::logits_with(&model, Some((&lora, 1.0)), PROMPT).unwrap();
        assert!(largest_difference(&plain, &with) > 1e-2, "{arch:?}: the edit does nothing");
        let difference = largest_difference(&with, &repaired);
        assert!(difference < 1e-3, "{arch:?}: {difference}");
    }
}

/// Mean square of what each half of block 1 adds to the residual stream along r: attention, MLP.
fn written(model: &Path, unit: &[f32]) -> [f64; 2] {
    let engine = Engine::load(model, Options { threads: 1, gpu_layers: 0 }).unwrap();
    let tokens = engine.tokenize(PROMPT, true);
    let mut prefill = Prefill::new(&engine, tokens.len(), 1).unwrap();
    let along = std::cell::RefCell::new(std::collections::HashMap::new());
    let dot =
        |x: &[f32]| -> f64 { x.iter().zip(unit).map(|(x, r)| f64::from(*x) * f64::from(*r)).sum() };
    let reading = Reading {
        at: Box::new(|site| matches!(site, Site::Input(1) | Site::Middle(1) | Site::Input(2))),
        n_last: 1,
        row: Box::new(|site, _, _, x| {
            along.borrow_mut().insert(site, dot(x));
            Ok(())
        }),
    };
    prefill.run(&[&tokens], Hooks::new(), Some(reading), |_, _| Ok(())).unwrap();
    let along = along.into_inner();
    let [a, b, c] = [Site::Input(1), Site::Middle(1), Site::Input(2)].map(|site| along[&site]);
    [b - a, c - b]
}

#[test]
fn what_a_block_writes_along_the_direction_grows_by_alpha_also_behind_norms() {
    for arch in [Arch::Llama, Arch::Gemma3, Arch::Olmo2] {
        let folder = tempdir();
        let tiny = Tiny::new(arch).seed(4);
        let model = tiny.write(folder.path());
        let file = direction(folder.path(), tiny.n_embd() as usize);
        let unit = Direction::read(&file).unwrap().unit().unwrap();
        let out = folder.path().join("out.gguf");
        let more = ["--alpha", "0.5", "--parts", "attention", "-o", out.to_str().unwrap()];
        let output = repair(&model, &file, &more);
        assert!(output.status.success(), "{arch:?}: {}", stderr(&output));
        let growth = written(&out, &unit)[0] / written(&model, &unit)[0];
        assert!((growth / 1.5 - 1.0).abs() < 0.1, "{arch:?}: {growth}");
    }
}

#[test]
fn every_type_holds_the_edit_and_nothing_else_changes() {
    use GgmlType as T;
    for ty in [T::F16, T::BF16, T::Q8_0, T::Q6_K, T::Q4_K, T::Q4_0, T::Q4_1, T::Q5_K, T::Q2_K] {
        let folder = tempdir();
        let tiny = Tiny::new(Arch::Llama).ty(ty).seed(4);
        let model = tiny.write(folder.path());
        let direction = direction(folder.path(), tiny.n_embd() as usize);
        let out = folder.path().join("out.gguf");
        let more = ["--alpha", "1", "--json", "-o", out.to_str().unwrap()];
        let output = repair(&model, &direction, &more);
        let report = report(&output);
        for tensor in report["tensors"].as_array().unwrap() {
            let realised = tensor["realised_alpha"].as_f64().unwrap();
            assert!((realised - 1.0).abs() <= 0.03, "{ty}: {tensor}");
        }
        let (before, after) = (Model::open(&model).unwrap(), Model::open(&out).unwrap());
        let edited = ["blk.1.attn_output.weight", "blk.1.ffn_down.weight"];
        for tensor in before.tensors() {
            let same = after.tensor(&tensor.info.name).unwrap().data() == tensor.data();
            assert_eq!(same, !edited.contains(&tensor.info.name.as_str()), "{}", tensor.info.name);
        }
        let step = &history(after.kv())[0];
        assert_eq!((&step["verb"], &step["parameters"]["alpha"]), (&"repair".into(), &1.0.into()));
        assert_eq!(step["parameters"]["realised"].as_array().unwrap().len(), 2);
    }
}

#[test]
fn in_place_and_undone_the_file_is_the_same_to_the_byte() {
    for ty in [GgmlType::Q8_0, GgmlType::F16] {
        let folder = tempdir();
        let tiny = Tiny::new(Arch::Llama).ty(ty).seed(4);
        let model = tiny.write(folder.path());
        let direction = direction(folder.path(), tiny.n_embd() as usize);
        let (before, names) = (sha256(&model), names_in(folder.path()));
        let output = repair(&model, &direction, &["--alpha", "1", "--in-place", "--json"]);
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(report(&output)["journals"].as_array().unwrap().len(), 1);
        assert_ne!(sha256(&model), before);
        let again = repair(&model, &direction, &["--alpha", "1", "--in-place"]);
        assert_eq!(again.status.code(), Some(1), "a second repair would lose the first's journal");
        let undone = aird().arg("undo").arg(&model).output().unwrap();
        assert!(undone.status.success(), "{}", stderr(&undone));
        assert_eq!(sha256(&model), before);
        assert_eq!(names_in(folder.path()), names);
    }
}

#[cfg(unix)]
#[test]
fn killed_at_random_moments_an_in_place_repair_can_always_be_undone() {
    use std::time::Duration;
    let folder = tempdir();
    let tiny = Tiny::new(Arch::Llama).ty(GgmlType::Q8_0).seed(4);
    let model = tiny.write(folder.path());
    let direction = direction(folder.path(), tiny.n_embd() as usize);
    let before = sha256(&model);
    let mut changed = 0;
    for i in 0..100u64 {
        let mut child = aird()
            .arg("repair")
            .arg(&model)
            .arg("--direction")
            .arg(&direction)
            .args(["--block", "0,1", "--alpha", "1", "--in-place", "-q"])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // Over all of its life, which is some ten milliseconds.
        std::thread::sleep(Duration::from_micros(i * 1_397 % 60_000));
        let _ = child.kill();
        child.wait().unwrap();
        changed += u32::from(sha256(&model) != before);
        // Nothing to undo is fine: it was killed before it began.
        let _ = aird().arg("undo").arg(&model).output().unwrap();
        assert_eq!(sha256(&model), before, "kill {i}");
    }
    assert!(changed > 0, "no kill came late enough to matter");
}

#[test]
fn the_same_settings_give_the_same_bytes_whatever_the_threads() {
    let folder = tempdir();
    let tiny = Tiny::new(Arch::Qwen3Moe).ty(GgmlType::Q4_0).seed(4);
    let model = tiny.write(folder.path());
    let direction = direction(folder.path(), tiny.n_embd() as usize);
    let make = |threads: &str| {
        let out = folder.path().join(format!("out-{threads}.gguf"));
        let mut command = aird();
        command.env("RAYON_NUM_THREADS", threads).arg("repair").arg(&model).arg("--direction");
        command.arg(&direction).args(["--block", "0", "--alpha", "1", "-o"]).arg(&out);
        assert!(command.output().unwrap().status.success());
        std::fs::read(out).unwrap()
    };
    assert!(make("1") == make("4"));
}

#[test]
fn what_is_wrong_is_said_and_nothing_written() {
    let folder = tempdir();
    let tiny = Tiny::new(Arch::Llama).seed(4);
    let model = tiny.write(folder.path());
    let good = direction(folder.path(), tiny.n_embd() as usize);
    let names = names_in(folder.path());
    for (arguments, code, expected) in [
        (&["--alpha", "0"][..], 1, "alpha is 0, expected more than 0"),
        (&["--alpha", "-1"][..], 1, "it does not remove a refusal direction"),
        (&["--alpha", "nan"][..], 1, "expected more than 0"),
        (&["--alpha", "1", "--type", "f8"][..], 2, "expected auto"),
        (&["--alpha", "1", "--type", "q4_0"][..], 2, "expected auto, keep, q8_0 or f16"),
        (&["--alpha", "1", "--in-place", "-o", "x"][..], 2, "cannot be used with"),
    ] {
        let output = repair(&model, &good, arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert!(stderr(&output).contains(expected), "{arguments:?}: {}", stderr(&output));
        assert_eq!(names_in(folder.path()), names);
    }
    let wide = tempdir();
    let other = direction(wide.path(), 128);
    let output = repair(&model, &other, &["--alpha", "1"]);
    assert!(stderr(&output).contains("128 wide, the model 64"), "{}", stderr(&output));
    assert_eq!(names_in(folder.path()), names);
}
