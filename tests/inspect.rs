//! `aird inspect`: what it tells is what is in the file, and harmless to print.

use std::path::{Path, PathBuf};

use aird::gguf::{Builder, GgmlType, Model, Value as Kv};
use serde_json::Value;

use crate::support::{
    Arch, Tiny, aird, ggml, json, real_model, run, scribble, stderr, stdout, tempdir,
};

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
    assert_eq!(stdout(&output), text.text("tokenizer.chat_template").unwrap().unwrap());
}

/// Sets a terminal's title, clears it, turns the writing around, begins a line of its own.
const EVIL: &str = "\x1b]0;owned\x07\x1b[2J\u{202e}gnp\u{2066}\r\u{9b}31m\u{200b}\nfake  ok";
const EVIL_TENSOR: &str = "blk.0.\x1b]0;t\x07\u{202e}\r\nfake.weight";

/// A file whose keys, values and names steer a terminal.
fn evil(folder: &Path, name: &str, fill: f32) -> PathBuf {
    let mut file = Builder::new();
    file.kv("general.architecture", "llama\x1b[31m")
        .kv("general.name", format!("{EVIL}{fill}"))
        .kv(format!("key {EVIL}{fill}"), EVIL)
        .kv("list", Kv::strings([EVIL]))
        .kv("tokenizer.chat_template", EVIL)
        .kv("aird.history", Kv::strings([format!("{{\"verb\": \"x\\u001b[2J{fill}\"}}")]));
    let bytes = ggml::encode(GgmlType::F32, &[fill; 128], 64);
    file.tensor(EVIL_TENSOR, &[64, 2], GgmlType::F32, bytes.clone()).unwrap();
    file.tensor(&format!("x{fill}\x1b[5m\nfake"), &[64, 2], GgmlType::F32, bytes).unwrap();
    let path = folder.join(name);
    file.write(&path).unwrap();
    path
}

/// True if nothing in `text` steers a terminal or hides what is there.
fn is_harmless(text: &str) -> bool {
    let steers = |c: char| (c.is_control() && c != '\n') || "\u{202e}\u{2066}\u{200b}".contains(c);
    !text.contains(steers) && !text.lines().any(|line| line.starts_with("fake"))
}

#[test]
fn nothing_in_a_file_steers_the_terminal_that_shows_it() {
    let folder = tempdir();
    let (a, b) = (evil(folder.path(), "a.gguf", 1.0), evil(folder.path(), "b.gguf", 2.0));
    let nan = evil(folder.path(), "nan.gguf", f32::NAN);
    let out = folder.path().join("out.gguf");
    let word = |text: &str| PathBuf::from(text);
    for (arguments, expected) in [
        (vec![word("inspect"), word("--tensors"), a.clone()], "\\u{1b}"),
        (vec![word("diff"), a.clone(), b], "\\u{202e}"),
        (vec![word("verify"), word("--quick"), nan], "\\u{1b}"),
        (
            [&["quantize", "-v", "--method", "int8", "-o"].map(word)[..], &[out, a.clone()]]
                .concat(),
            "\\u{1b}",
        ),
    ] {
        let output = aird().args(&arguments).output().unwrap();
        let said = stdout(&output) + &stderr(&output);
        assert!(is_harmless(&stdout(&output)), "{arguments:?}: {:?}", stdout(&output));
        let steers = |c: char| c.is_control() && c != '\n';
        assert!(!stderr(&output).contains(steers), "{arguments:?}: {:?}", stderr(&output));
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
    // JSON is for programs: the name as it is.
    let report = json(&[Path::new("inspect"), Path::new("--tensors"), &a]);
    assert_eq!(report["tensors"][0]["name"], EVIL_TENSOR);
    let template = run(&[Path::new("inspect"), Path::new("--template"), &a]);
    assert_eq!(stdout(&template), EVIL, "piped, a template keeps its bytes");
}

#[test]
fn a_template_that_is_no_text_is_an_error_not_none() {
    let folder = tempdir();
    let mut file = Builder::new();
    file.kv("general.architecture", "llama").kv("tokenizer.chat_template", 1u32);
    let path = folder.path().join("a.gguf");
    file.write(&path).unwrap();
    for arguments in [&["inspect"][..], &["inspect", "--template"], &["verify", "--quick"]] {
        let output = aird().args(arguments).arg(&path).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let said = stderr(&output);
        assert!(said.contains("'tokenizer.chat_template' is u32 1, expected a text"), "{said}");
    }
}

#[test]
fn steps_that_are_not_airds_are_shown_as_they_are() {
    let folder = tempdir();
    let mut file = Builder::new();
    file.kv("general.architecture", "llama").kv("aird.history", Kv::strings(["by hand"]));
    let path = folder.path().join("a.gguf");
    file.write(&path).unwrap();
    let output = run(&[Path::new("inspect"), &path]);
    assert!(stdout(&output).contains("not a step of aird: \"by hand\""), "{}", stdout(&output));
}
