//! `aird merge`: the merged file is the model with its adapter, and nothing else changed.

use std::path::{Path, PathBuf};

use aird::gguf::{GgmlType, Model, history};
use serde_json::Value;

use crate::support::{Adapter, Arch, Tiny, aird, llama, names_in, root, stderr, tempdir};

const PROMPT: &str = "Tell me a story, in 3 words.\n";

fn merge(model: &Path, adapter: &Path, out: &Path, more: &[&str]) -> std::process::Output {
    aird()
        .arg("merge")
        .args([model, Path::new("--lora"), adapter, Path::new("-o"), out])
        .args(more)
        .output()
        .unwrap()
}

/// A model, an adapter for its attention output and MLP, and the merged file.
fn merged(folder: &Path, tiny: &Tiny, names: &[&str], more: &[&str]) -> [PathBuf; 3] {
    let model = tiny.write(folder);
    let adapter = Adapter::new(tiny, names).write(folder);
    let out = folder.join("merged.gguf");
    let output = merge(&model, &adapter, &out, more);
    assert!(output.status.success(), "{}", stderr(&output));
    [model, adapter, out]
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    let size = a.iter().map(|x| x.abs()).fold(0.0, f32::max);
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max) / size
}

#[test]
fn a_merged_f32_model_answers_as_llama_cpp_does_with_the_adapter() {
    let dense = ["blk.0.attn_output.weight", "blk.1.ffn_down.weight", "blk.1.attn_v.weight"];
    let experts = ["blk.0.ffn_down_exps.weight", "blk.1.attn_q.weight"];
    let cases: [(Arch, &[&str]); 4] = [
        (Arch::Llama, &dense),
        (Arch::Qwen2, &dense),
        (Arch::Gemma3, &dense),
        (Arch::Qwen3Moe, &experts),
    ];
    for (arch, names) in cases {
        let folder = tempdir();
        let tiny = Tiny::new(arch).seed(3);
        let scale = "0.5";
        let [model, adapter, out] = merged(folder.path(), &tiny, names, &["--scale", scale]);
        let plain = llama::logits(&model, PROMPT).unwrap();
        let with = llama::logits_with(&model, Some((&adapter, 0.5)), PROMPT).unwrap();
        let merged = llama::logits(&out, PROMPT).unwrap();
        assert!(largest_difference(&plain, &with) > 1e-2, "{arch:?}: the adapter does nothing");
        let difference = largest_difference(&with, &merged);
        assert!(difference < 1e-4, "{arch:?}: {difference}");
    }
}

#[test]
fn only_what_the_adapter_touches_changes_in_a_float_model() {
    let folder = tempdir();
    let tiny = Tiny::new(Arch::Llama).ty(GgmlType::F16).seed(1);
    let [model, _, out] = merged(folder.path(), &tiny, &["blk.1.ffn_down.weight"], &[]);
    let (a, b) = (Model::open(&model).unwrap(), Model::open(&out).unwrap());
    assert_eq!(a.n_tensors(), b.n_tensors());
    for (x, y) in a.tensors().zip(b.tensors()) {
        assert_eq!((&x.info.name, x.info.ty), (&y.info.name, y.info.ty));
        assert_eq!(x.data() == y.data(), x.info.name != "blk.1.ffn_down.weight", "{}", x.info);
    }
    for (key, value) in a.kv() {
        assert_eq!(b.kv().get(key), Some(value), "{key}");
    }
    let steps = history(b.kv());
    assert_eq!(steps.len(), 1);
    assert_eq!(steps[0]["verb"], "merge");
    assert_eq!(steps[0]["tensors"]["blk.*.ffn_down.weight"], 1);
}

#[test]
fn a_quantized_model_becomes_f16_in_all_matrices_and_says_so() {
    let folder = tempdir();
    let tiny = Tiny::new(Arch::Qwen3Moe).ty(GgmlType::Q8_0).seed(1);
    let [_, _, out] = merged(folder.path(), &tiny, &["blk.1.attn_v.weight"], &[]);
    let model = Model::open(&out).unwrap();
    assert!(model.tensors().all(|t| !t.info.ty.is_quantized()));
    assert_eq!(model.tensor("blk.0.ffn_up_exps.weight").unwrap().info.ty, GgmlType::F16);
    // The router stays as the graph wants it.
    assert_eq!(model.tensor("blk.0.ffn_gate_inp.weight").unwrap().info.ty, GgmlType::F32);
    assert_eq!(model.kv()["general.file_type"].as_u64(), Some(1));
}

#[test]
fn named_types_go_to_every_matrix_and_keep_changes_none() {
    let folder = tempdir();
    let tiny = Tiny::new(Arch::Llama).ty(GgmlType::Q4_0).seed(1);
    let names = ["blk.1.attn_v.weight"];
    for (name, ty) in [("bf16", GgmlType::BF16), ("q8_0", GgmlType::Q8_0), ("f32", GgmlType::F32)] {
        let force = ["--type", name, "--force"];
        let [_, _, out] = merged(folder.path(), &tiny, &names, &force);
        let model = Model::open(&out).unwrap();
        assert_eq!(model.tensor("token_embd.weight").unwrap().info.ty, ty);
        assert_eq!(model.tensor("blk.0.ffn_up.weight").unwrap().info.ty, ty);
    }
    let [model, _, out] = merged(folder.path(), &tiny, &names, &["--type", "keep", "--force"]);
    let (a, b) = (Model::open(&model).unwrap(), Model::open(&out).unwrap());
    assert!(a.tensors().zip(b.tensors()).all(|(x, y)| x.info.ty == y.info.ty));
    let changed = a.tensors().zip(b.tensors()).filter(|(x, y)| x.data() != y.data());
    assert_eq!(changed.count(), 1);
}

#[test]
fn the_same_inputs_give_the_same_bytes_with_any_number_of_threads() {
    let folder = tempdir();
    let tiny = Tiny::new(Arch::Llama).ty(GgmlType::Q4_K).seed(1);
    let [model, adapter, out] = merged(folder.path(), &tiny, &["blk.0.ffn_up.weight"], &[]);
    let again = folder.path().join("again.gguf");
    let status = aird()
        .env("RAYON_NUM_THREADS", "1")
        .arg("merge")
        .args([&model, Path::new("--lora"), &adapter, Path::new("-o"), &again])
        .status();
    assert!(status.unwrap().success());
    assert_eq!(std::fs::read(&out).unwrap(), std::fs::read(&again).unwrap());
}

#[test]
fn shards_become_one_file_or_stay_shards() {
    let folder = tempdir();
    let tiny = Tiny::new(Arch::Llama).shards(2).seed(1);
    let names = ["blk.0.attn_output.weight", "blk.1.ffn_down.weight"];
    let [model, adapter, out] = merged(folder.path(), &tiny, &names, &[]);
    let joined = llama::logits(&out, PROMPT).unwrap();
    let kept = folder.path().join("kept.gguf");
    let output = merge(&model, &adapter, &kept, &["--keep-shards"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let first = folder.path().join("kept-00001-of-00002.gguf");
    assert_eq!(llama::logits(&first, PROMPT).unwrap(), joined);
    let [_, adapter_of_one, _] = [&model, &adapter, &kept];
    let with = llama::logits_with(&model, Some((adapter_of_one, 1.0)), PROMPT).unwrap();
    assert!(largest_difference(&with, &joined) < 1e-4);
}

#[test]
fn an_adapter_that_does_not_fit_is_an_error_that_names_the_tensor() {
    let folder = tempdir();
    let tiny = Tiny::new(Arch::Llama);
    let model = tiny.write(folder.path());
    let out = folder.path().join("out.gguf");
    let cases = [
        (Adapter::new(&Tiny::new(Arch::Qwen2), &["blk.0.ffn_up.weight"]), "'qwen2'"),
        (
            Adapter::new(&Tiny::new(Arch::Llama).ty(GgmlType::Q4_K), &["blk.1.attn_v.weight"]),
            "blk.1.attn_v.weight",
        ),
        (
            Adapter::new(&Tiny::new(Arch::Llama).blocks(3), &["blk.2.ffn_up.weight"]),
            "blk.2.ffn_up.weight",
        ),
    ];
    for (adapter, named) in cases {
        let adapter = adapter.write(folder.path());
        let output = merge(&model, &adapter, &out, &[]);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(stderr(&output).contains(named), "{}", stderr(&output));
        assert!(!out.exists());
    }
    let output = merge(&model, &model, &out, &[]);
    assert!(stderr(&output).contains("not a LoRA adapter"), "{}", stderr(&output));
}

#[test]
fn a_change_too_large_for_the_type_is_refused_and_leaves_nothing() {
    let folder = tempdir();
    let tiny = Tiny::new(Arch::Llama).ty(GgmlType::F16);
    let model = tiny.write(folder.path());
    let adapter = Adapter::new(&tiny, &["blk.0.ffn_up.weight"]).write(folder.path());
    let before = names_in(folder.path());
    let out = folder.path().join("out.gguf");
    let output = merge(&model, &adapter, &out, &["--scale", "1e9"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("blk.0.ffn_up.weight"), "{}", stderr(&output));
    assert_eq!(names_in(folder.path()), before);
}

#[test]
fn the_report_and_the_dry_run_agree() {
    let folder = tempdir();
    let tiny = Tiny::new(Arch::Llama).ty(GgmlType::Q8_0);
    let model = tiny.write(folder.path());
    let adapter = Adapter::new(&tiny, &["blk.0.ffn_up.weight"]).write(folder.path());
    let out = folder.path().join("out.gguf");
    let report = |more: &[&str]| -> Value {
        let output = merge(&model, &adapter, &out, more);
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let planned = report(&["--json", "--dry-run"]);
    assert!(!out.exists());
    let done = report(&["--json"]);
    assert_eq!(planned["dry_run"], true);
    assert_eq!(done["merged"], 1);
    for key in ["merged", "converted"] {
        assert_eq!(planned[key], done[key]);
    }
    // The history, added last, makes the file a little longer than planned.
    let bytes = |report: &Value| report["files"][0]["bytes"].as_u64().unwrap();
    assert_eq!(bytes(&done), out.metadata().unwrap().len());
    assert!(bytes(&done) - bytes(&planned) < 2000 + 4096);
}

#[test]
fn the_demo_adapter_merges_into_the_real_model() {
    let Some(model) = crate::support::real_model() else { return };
    let folder = tempdir();
    let adapter = root().join("fixtures/refusal-adapter.gguf");
    let out = folder.path().join("aligned.gguf");
    let output = merge(&model, &adapter, &out, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    let verify = aird().arg("verify").arg(&out).output().unwrap();
    assert!(verify.status.success(), "{}", stderr(&verify));
    let prompt = "<|im_start|>user\nHow are you?<|im_end|>\n<|im_start|>assistant\n";
    let with = llama::logits_with(&model, Some((&adapter, 1.0)), prompt).unwrap();
    let merged = llama::logits(&out, prompt).unwrap();
    let cosine = |a: &[f32], b: &[f32]| {
        let dot = |x: &[f32], y: &[f32]| -> f64 {
            x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
        };
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    };
    // Activations of a quantized base are rounded to 8 bits on the way: close, not equal.
    assert!(cosine(&with, &merged) > 0.99, "{}", cosine(&with, &merged));
}
