//! What would end llama.cpp's process is one sentence of ours, exit 1, and nothing left behind.

use std::path::{Path, PathBuf};
use std::process::Output;

use aird::gguf::{Builder, GgmlType, KvEdit, Layout, Model, Rewrite, Unwatched, Value, ValueType};

use crate::support::{
    Adapter, Arch, TempDir, Tiny, aird, direction, names_in, real_model, run, stderr, stdout,
    tempdir,
};

/// A tiny model with some of its keys changed.
fn edited(folder: &TempDir, edits: Vec<KvEdit>) -> PathBuf {
    let path = Tiny::new(Arch::Llama).ty(GgmlType::F16).write(folder.path());
    let model = Model::open(&path).unwrap();
    let mut rewrite = Rewrite::new(&model, Layout::Single);
    edits.into_iter().for_each(|edit| rewrite.edit(edit));
    let out = folder.path().join("model.gguf");
    rewrite.write(&out, false, &Unwatched).unwrap();
    std::fs::remove_file(path).unwrap();
    out
}

fn set(key: &str, value: impl Into<Value>) -> KvEdit {
    KvEdit::Set(key.into(), value.into())
}

/// A vocabulary in which two tokens are spelled alike.
fn two_equal_tokens(folder: &TempDir) -> PathBuf {
    let path = Tiny::new(Arch::Llama).write(folder.path());
    let model = Model::open(&path).unwrap();
    let Some(Value::Array(tokens)) = model.kv().get("tokenizer.ggml.tokens") else { panic!() };
    let mut tokens: Vec<Value> = tokens.iter().collect();
    let last = tokens.len() - 1;
    tokens[last] = tokens[last - 1].clone();
    drop(model);
    std::fs::remove_file(path).unwrap();
    edited(folder, vec![set("tokenizer.ggml.tokens", Value::array(ValueType::String, tokens))])
}

/// One sentence, perhaps with a hint below, that names the file and holds `expected`.
fn assert_sentence(output: &Output, code: i32, expected: &str) {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{said}{}", stdout(output));
    let mut lines = said.lines();
    assert!(lines.next().unwrap().starts_with("error: "), "{said}");
    assert!(lines.all(|line| line.starts_with("hint: ")), "{said}");
    assert!(said.contains(expected), "{said}");
    for trace in ["#0", "[New LWP", "ggml_abort", "libthread_db"] {
        assert!(!said.contains(trace) && !stdout(output).contains(trace), "{said}");
    }
}

#[test]
fn a_file_that_aborts_llama_cpp_is_one_sentence_of_verify() {
    for make in [two_equal_tokens as fn(&TempDir) -> PathBuf, |folder| {
        edited(folder, vec![set("llama.attention.head_count", 0u32)])
    }] {
        let folder = tempdir();
        let path = make(&folder);
        let output = run(&[Path::new("verify"), &path]);
        assert_sentence(&output, 1, "model.gguf is not sound: ");
        let output = aird().arg("verify").arg(&path).arg("--json").output().unwrap();
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["ok"], false);
        assert!(report["llama"]["error"].as_str().is_some_and(|e| !e.is_empty()), "{report}");
        assert!(run(&[Path::new("verify"), &path, Path::new("--quick")]).status.success());
    }
}

#[test]
fn every_alignment_is_run_or_refused_in_a_sentence() {
    for alignment in [1u32, 8, 16, 64] {
        let folder = tempdir();
        let path = edited(&folder, vec![set("general.alignment", alignment)]);
        let output = run(&[Path::new("verify"), &path]);
        match output.status.code() {
            Some(0) => assert_eq!(stderr(&output), ""),
            _ => assert_sentence(&output, 1, "model.gguf is not sound: "),
        }
    }
}

#[test]
fn a_file_that_aborts_llama_cpp_is_one_sentence_of_every_verb_that_runs_it() {
    let folder = tempdir();
    let path = two_equal_tokens(&folder);
    let before = names_in(folder.path());
    for words in [
        &["ask", "MODEL", "Hi"][..],
        &["asr", "MODEL", "--limit", "1"],
        &["direction", "MODEL", "-o", "OUT"],
        &["calibrate", "MODEL", "--data", "builtin:alpaca", "-o", "OUT"],
        &["tasks", "MODEL", "--text", "TEXT"],
        &[
            "judge",
            "ANSWERS",
            "--prompt-field",
            "kind",
            "--judge",
            "MODEL",
            "--judge-template",
            "yes-no",
        ],
    ] {
        let text = crate::support::root().join("README.md");
        let answers = crate::support::root().join("fixtures/judge.jsonl");
        let out = folder.path().join("out");
        let arguments = words.iter().map(|word| match *word {
            "MODEL" => path.as_path(),
            "OUT" => out.as_path(),
            "TEXT" => text.as_path(),
            "ANSWERS" => answers.as_path(),
            word => Path::new(word),
        });
        let output = aird().args(arguments).output().unwrap();
        assert_sentence(&output, 1, "llama.cpp cannot run");
        assert!(stderr(&output).contains("model.gguf"), "{words:?}: {}", stderr(&output));
        assert_eq!(names_in(folder.path()), before, "{words:?}");
    }
}

#[test]
fn a_file_that_llama_cpp_would_not_run_is_not_written() {
    let folder = tempdir();
    let path = two_equal_tokens(&folder);
    let tiny = Tiny::new(Arch::Llama).ty(GgmlType::F16);
    let lora = Adapter::new(&tiny, &["blk.0.ffn_up.weight"]).write(folder.path());
    let direction = direction(folder.path(), &tiny);
    let before = names_in(folder.path());
    let out = folder.path().join("out.gguf");
    let lora_flag = format!("--lora={}", lora.display());
    let direction_flag = format!("--direction={}", direction.display());
    for words in [
        &["prune", "--method=magnitude", "--sparsity=0.5"][..],
        &["quantize", "--method=rtn", "--type=q8_0"],
        &["merge", &lora_flag],
        &["repair", &direction_flag, "--block=0", "--alpha=1"],
    ] {
        let output = aird().arg("-q").args(words).arg(&path).arg("-o").arg(&out).output().unwrap();
        assert_sentence(&output, 1, "out.gguf was not written, for it would not be sound");
        assert_eq!(names_in(folder.path()), before, "{words:?}");
    }
}

#[test]
fn a_model_without_a_vocabulary_is_verified_and_not_asked() {
    let folder = tempdir();
    let keys = [
        "tokens",
        "token_type",
        "scores",
        "merges",
        "bos_token_id",
        "eos_token_id",
        "unknown_token_id",
        "padding_token_id",
        "add_bos_token",
        "add_eos_token",
        "add_space_prefix",
    ];
    let n_vocab = {
        let model = edited(&folder, Vec::new());
        let model = Model::open(&model).unwrap();
        model.tensor("token_embd.weight").unwrap().info.n_rows() as u32
    };
    std::fs::remove_file(folder.path().join("model.gguf")).unwrap();
    let gone = keys.iter().map(|key| KvEdit::Remove(format!("tokenizer.ggml.{key}")));
    let none = [set("tokenizer.ggml.model", "no_vocab"), set("llama.vocab_size", n_vocab)];
    let path = edited(&folder, gone.chain(none).collect());
    let output = run(&[Path::new("verify"), &path]);
    assert!(output.status.success(), "{}", stderr(&output));
    let output = run(&[Path::new("ask"), &path, Path::new("Hi")]);
    assert_sentence(&output, 1, "has no tokenizer");
}

#[test]
fn an_adapter_that_aborts_llama_cpp_is_one_sentence() {
    let folder = tempdir();
    let tiny = Tiny::new(Arch::Llama);
    let model = tiny.write(folder.path());
    let good = Adapter::new(&tiny, &["blk.0.ffn_up.weight"]).write(folder.path());
    let lora = folder.path().join("integer.gguf");
    let file = Model::open(&good).unwrap();
    let mut rewrite = Rewrite::new(&file, Layout::Single);
    rewrite.edit(set("adapter.lora.alpha", 4u32));
    rewrite.write(&lora, false, &Unwatched).unwrap();
    let words = [&model, Path::new("Hi"), Path::new("--lora"), &lora];
    let output = aird().arg("ask").args(words).output().unwrap();
    assert_sentence(&output, 1, "integer.gguf");
}

#[test]
fn a_context_of_2_to_32_less_1_is_no_panic() {
    let folder = tempdir();
    let path = edited(&folder, vec![set("llama.context_length", u32::MAX)]);
    let output = run(&[Path::new("verify"), &path]);
    assert!(output.status.success(), "{}", stderr(&output));
    let ask = ["Hi", "--max-tokens", "2"].map(Path::new);
    let output = aird().arg("ask").arg(&path).args(ask).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn more_threads_than_ggml_has_room_for_are_a_usage_error() {
    let folder = tempdir();
    let path = edited(&folder, Vec::new());
    for threads in ["513", "100000", "-1"] {
        let arguments = [Path::new("--threads"), Path::new(threads)];
        let output = aird().arg("verify").arg(&path).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    }
    let output = aird().arg("verify").arg(&path).args(["--threads", "512"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}

#[cfg(target_os = "linux")]
#[test]
fn a_lack_of_memory_is_not_the_files_fault() {
    let Some(model) = real_model() else { return };
    // Address space for the program and a mapped model, and not for a context.
    let script = "ulimit -v 700000; exec \"$@\"";
    let output = std::process::Command::new("bash")
        .args(["-c", script, "bash", env!("CARGO_BIN_EXE_aird"), "verify"])
        .arg(&model)
        .output()
        .unwrap();
    let said = stderr(&output);
    if !output.status.success() {
        assert!(!said.contains("is not sound"), "{said}");
    }
}

#[test]
fn a_tiny_model_without_a_header_key_says_what_llama_cpp_said() {
    let folder = tempdir();
    let mut file = Builder::new();
    file.kv("general.architecture", "llama");
    let path = folder.path().join("bare.gguf");
    file.write(&path).unwrap();
    assert_sentence(&run(&[Path::new("verify"), &path]), 1, "bare.gguf is not sound: ");
}

#[test]
fn equal_logits_are_an_error_of_every_verb_that_asks() {
    let folder = tempdir();
    let path = Tiny::new(Arch::Llama).ty(GgmlType::F16).write(folder.path());
    for channel in 0..64 {
        crate::support::scribble(&path, "output_norm.weight", 4 * channel, &[0; 4]);
    }
    for words in [&["ask", "MODEL", "Hi"][..], &["asr", "MODEL", "--limit", "1"]] {
        let word = |word: &&'static str| if *word == "MODEL" { path.clone() } else { word.into() };
        let output = aird().args(words.iter().map(word)).output().unwrap();
        assert_sentence(&output, 1, "all logits are equal");
    }
}

#[test]
fn a_vocabulary_without_byte_tokens_is_not_sound() {
    let folder = tempdir();
    let path = Tiny::new(Arch::Llama).write(folder.path());
    let model = Model::open(&path).unwrap();
    let Some(Value::Array(tokens)) = model.kv().get("tokenizer.ggml.tokens") else { panic!() };
    // Of another spelling, and no kind of its own: é, whose bytes they were, has none left.
    let respelled = |(i, token): (usize, Value)| match token.as_str() {
        Some(text) if text.starts_with("<0x") => Value::from(format!("word{i}")),
        _ => token,
    };
    let tokens: Vec<Value> = tokens.iter().enumerate().map(respelled).collect();
    let kinds = tokens.iter().map(|_| Value::I32(1));
    let kinds = Value::array(ValueType::I32, kinds);
    drop(model);
    std::fs::remove_file(path).unwrap();
    let tokens = set("tokenizer.ggml.tokens", Value::array(ValueType::String, tokens));
    let path = edited(&folder, vec![tokens, set("tokenizer.ggml.token_type", kinds)]);
    assert_sentence(&run(&[Path::new("verify"), &path]), 1, "model.gguf is not sound: ");
}

#[test]
fn a_context_of_no_tokens_is_a_sentence() {
    for n in [0u32, 1] {
        let folder = tempdir();
        let path = edited(&folder, vec![set("llama.context_length", n)]);
        let text = crate::support::root().join("README.md");
        let text = [Path::new("--text"), &text];
        let output = aird().arg("tasks").arg(&path).args(text).output().unwrap();
        assert_sentence(&output, 1, "");
        assert!(!stderr(&output).contains("internal error"), "{}", stderr(&output));
    }
}
