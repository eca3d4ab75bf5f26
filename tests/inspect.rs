//! `aird inspect`: what it tells is what is in the file.

use std::path::Path;

use aird::gguf::{GgmlType, Model};
use serde_json::Value;

use crate::support::{Arch, Tiny, json, real_model, run, scribble, stderr, stdout, tempdir};

#[test]
fn inspect_tells_what_is_in_a_file() {
    let folder = tempdir();
    let path = Tiny::new(Arch::Qwen3Moe).ty(GgmlType::Q8_0).blocks(3).write(folder.path());
    let report = json(&[Path::new("inspect"), &path, Path::new("--tensors")]);
    assert_eq!(report["architecture"], "qwen3moe");
    assert_eq!(report["n_block"], 3);
    assert_eq!(report["n_embd"], 64);
    let writers = &report["residual_writers"];
    assert_eq!(writers.as_array().unwrap().len(), 1, "equal blocks make one entry");
    assert_eq!((&writers[0]["first_block"], &writers[0]["last_block"]), (&0.into(), &2.into()));
    let names: Vec<&str> = writers[0]["tensors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["attn_output.weight", "ffn_down_exps.weight"]);
    let model = Model::open(&path).unwrap();
    assert_eq!(report["tensors"].as_array().unwrap().len(), model.n_tensors());
    let parameters: u64 = model.tensors().map(|t| t.info.n_elements()).sum();
    assert_eq!(report["parameters"], parameters);
}

#[test]
fn inspect_counts_exact_zeros_in_block_matrices() {
    let folder = tempdir();
    let path = Tiny::new(Arch::Llama).ty(GgmlType::F16).write(folder.path());
    let zeros =
        |path: &Path| json(&[Path::new("inspect"), path])["sparsity"]["zeros"].as_u64().unwrap();
    let before = zeros(&path);
    scribble(&path, "blk.0.ffn_up.weight", 0, &[0; 200]);
    scribble(&path, "token_embd.weight", 0, &[0; 200]);
    assert_eq!(zeros(&path), before + 100, "embeddings do not count");
    assert_eq!(json(&[Path::new("inspect"), &path, Path::new("--quick")])["sparsity"], Value::Null);
}

#[test]
fn inspect_reads_split_models_from_any_shard() {
    let folder = tempdir();
    let first = Tiny::new(Arch::Llama).shards(2).write(folder.path());
    let second = first.with_file_name(
        first.file_name().unwrap().to_string_lossy().replace("00001-of", "00002-of"),
    );
    let (a, b) = (run(&[Path::new("inspect"), &first]), run(&[Path::new("inspect"), &second]));
    assert!(a.status.success() && b.status.success(), "{}", stderr(&b));
    assert_eq!(stdout(&a), stdout(&b));
    std::fs::remove_file(&second).unwrap();
    let missing = run(&[Path::new("inspect"), &first]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(stderr(&missing).contains("00002-of-00002"), "{}", stderr(&missing));
}

#[test]
fn inspect_prints_the_real_models_whole_template() {
    let Some(model) = real_model() else { return };
    let output = run(&[Path::new("inspect"), &model, Path::new("--template")]);
    let text = Model::open(&model).unwrap();
    assert_eq!(stdout(&output), text.text("tokenizer.chat_template").unwrap());
}
