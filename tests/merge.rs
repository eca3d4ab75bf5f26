//! `aird merge`: the merged file is the model with its adapter, and nothing else changed.

use std::path::{Path, PathBuf};

use aird::gguf::{GgmlType, Model, Value as Kv, ValueType, history};
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

/// The tensors' bytes of what merging `adapter` into `model` makes.
fn merged_bytes(model: &Path, adapter: &Path, out: &Path) -> Vec<Vec<u8>> {
    let output = merge(model, adapter, out, &["--force"]);
    assert!(output.status.success(), "{}", stderr(&output));
    Model::open(out).unwrap().tensors().map(|t| t.data().to_vec()).collect()
}

#[test]
fn an_alpha_of_any_number_type_is_the_same_alpha() {
    let folder = tempdir();
    let tiny = Tiny::new(Arch::Llama).seed(3);
    let model = tiny.write(folder.path());
    let out = folder.path().join("out.gguf");
    let adapter = || Adapter::new(&tiny, &["blk.0.attn_output.weight"]);
    let plain = merged_bytes(&model, &adapter().alpha(4.0).write(folder.path()), &out);
    let other = merged_bytes(&model, &adapter().alpha(8.0).write(folder.path()), &out);
    assert!(plain != other, "alpha does nothing");
    for alpha in [Kv::U32(4), Kv::I32(4), Kv::U64(4), Kv::I8(4), Kv::F64(4.0)] {
        let path = adapter().key("adapter.lora.alpha", alpha.clone()).write(folder.path());
        assert!(merged_bytes(&model, &path, &out) == plain, "{alpha:?}");
    }
}

#[test]
fn an_adapter_without_an_alpha_is_merged_as_llama_cpp_applies_it() {
    let folder = tempdir();
    let tiny = Tiny::new(Arch::Llama).seed(3);
    let model = tiny.write(folder.path());
    let adapter = Adapter::new(&tiny, &["blk.0.attn_output.weight", "blk.1.ffn_down.weight"]);
    let adapter = adapter.without_key("adapter.lora.alpha").write(folder.path());
    let out = folder.path().join("out.gguf");
    let output = merge(&model, &adapter, &out, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("has no alpha"), "{}", stderr(&output));
    let with = llama::logits_with(&model, Some((&adapter, 1.0)), PROMPT).unwrap();
    let merged = llama::logits(&out, PROMPT).unwrap();
    assert!(largest_difference(&with, &merged) < 1e-4);
}

#[test]
fn an_adapter_that_says_what_aird_does_not_do_is_refused_by_name() {
    let folder = tempdir();
    let tiny = Tiny::new(Arch::Llama);
    let model = tiny.write(folder.path());
    let out = folder.path().join("out.gguf");
    let adapter = || Adapter::new(&tiny, &["blk.0.ffn_up.weight"]);
    let alpha = |value: Kv| adapter().key("adapter.lora.alpha", value);
    let tokens = |ids: &[u32]| Kv::array(ValueType::U32, ids.iter().map(|&id| Kv::U32(id)));
    let activated = |ids: &[u32]| adapter().key("adapter.alora.invocation_tokens", tokens(ids));
    for (adapter, expected) in [
        (alpha("16".into()), "'adapter.lora.alpha' is str \"16\", expected a finite number"),
        (alpha(true.into()), "'adapter.lora.alpha' is bool 1"),
        (alpha(Kv::F32(f32::NAN)), "'adapter.lora.alpha' is f32 NaN"),
        (alpha(Kv::F64(f64::INFINITY)), "'adapter.lora.alpha' is f64 inf"),
        (alpha(Kv::U64(u64::MAX)), "'adapter.lora.alpha' is u64"),
        (alpha(tokens(&[16])), "'adapter.lora.alpha' is arr of 1 u32"),
        (activated(&[1, 2]), "acts only after its invocation tokens"),
        (activated(&[]), "acts only after its invocation tokens"),
        (adapter().key("adapter.lora.use_dora", true), "'adapter.lora.use_dora'"),
        (adapter().key("adapter.type", "dora"), "'adapter.type' is 'dora', expected 'lora'"),
        (adapter().key("adapter.type", 1u32), "'adapter.type' is u32 1"),
        (adapter().without_key("adapter.type"), "'adapter.type' is 'missing'"),
        (adapter().key("general.type", 1u32), "'general.type' is u32 1"),
        (
            adapter().tensor("blk.0.ffn_up.weight.lora_magnitude_vector"),
            "'blk.0.ffn_up.weight.lora_magnitude_vector'",
        ),
    ] {
        let path = adapter.write(folder.path());
        let output = merge(&model, &path, &out, &[]);
        assert_eq!(output.status.code(), Some(1), "{expected}: {}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{expected}: {}", stderr(&output));
        assert!(stderr(&output).contains("adapter-llama-0.gguf: "), "{}", stderr(&output));
        assert!(!out.exists());
    }
    // What an adapter is for changes nothing.
    let told = adapter().key("adapter.lora.task_name", "x").key("adapter.lora.prompt_prefix", "y");
    let output = merge(&model, &told.write(folder.path()), &out, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn a_scale_is_a_finite_number() {
    let folder = tempdir();
    let tiny = Tiny::new(Arch::Llama);
    let model = tiny.write(folder.path());
    let adapter = Adapter::new(&tiny, &["blk.0.ffn_up.weight"]).write(folder.path());
    let out = folder.path().join("out.gguf");
    for scale in ["inf", "-inf", "NaN", "1e999", "much"] {
        let output = merge(&model, &adapter, &out, &["--scale", scale]);
        assert_eq!(output.status.code(), Some(2), "{scale}: {}", stderr(&output));
        assert!(stderr(&output).contains("expected a finite number"), "{}", stderr(&output));
        assert!(!out.exists());
    }
    assert!(merge(&model, &adapter, &out, &["--scale", "-0.5"]).status.success());
}

#[test]
fn no_verb_makes_a_file_called_minus() {
    let folder = tempdir();
    let tiny = Tiny::new(Arch::Llama);
    let model = tiny.write(folder.path());
    let model = model.file_name().unwrap().to_str().unwrap();
    let before = names_in(folder.path());
    for arguments in [
        &["merge", model, "--lora", "x", "-o", "-"][..],
        &["merge", model, "--lora", "x", "-o", "-", "--dry-run"],
        &["prune", model, "--method", "magnitude", "--sparsity", "0.5", "-o", "-"],
        &["quantize", model, "--method", "int8", "--output=-"],
        &["calibrate", model, "--data", "x", "-o", "-"],
        &["direction", model, "-o-"],
        &["repair", model, "--direction", "x", "-o", "-"],
        &["repair", model, "--direction", "x", "--lora", "-"],
        &["study", "x.toml", "-o", "-"],
        &["compare", "a", "b", "--svg", "-"],
    ] {
        let output = aird().current_dir(folder.path()).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("cannot write a file to stdout"), "{}", stderr(&output));
        assert_eq!(names_in(folder.path()), before);
    }
}

#[test]
fn shards_are_named_after_an_output_with_dots() {
    let folder = tempdir();
    let tiny = Tiny::new(Arch::Llama).shards(2).seed(1);
    let model = tiny.write(folder.path());
    let adapter = Adapter::new(&tiny, &["blk.1.ffn_down.weight"]).write(folder.path());
    let output = merge(&model, &adapter, &folder.path().join("kept-1.5B"), &["--keep-shards"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(folder.path().join("kept-1.5B-00001-of-00002.gguf").is_file());
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
