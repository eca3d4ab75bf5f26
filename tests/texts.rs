//! Texts that users hand over: pipes, byte order marks, tables between tabs, contexts shorter than
//! what is usual.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use aird::stats;
use serde_json::Value;

use crate::support::{Arch, Tiny, aird, root, stderr, tempdir};

/// A text of two windows of 512 tokens and a rest.
const TEXT: &str = "fixtures/imatrix/text.txt";

/// The file with another context length, in place.
fn with_context(model: &Path, n_ctx: u32) {
    const KEY: &[u8] = b"llama.context_length";
    let mut bytes = fs::read(model).unwrap();
    let key = bytes.windows(KEY.len()).position(|w| w == KEY).unwrap();
    // After the key: its type, u32, and its value.
    let value = key + KEY.len() + 4;
    assert_eq!(bytes[value..value + 4], 512u32.to_le_bytes());
    bytes[value..value + 4].copy_from_slice(&n_ctx.to_le_bytes());
    fs::write(model, bytes).unwrap();
}

/// Runs `command` with `text` in its stdin, a pipe.
#[cfg(unix)]
fn fed(command: &mut Command, text: &str) -> Output {
    use std::io::Write;
    use std::process::Stdio;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}

#[cfg(unix)]
#[test]
fn a_text_may_be_a_pipe_and_begin_with_a_byte_order_mark() {
    let folder = tempdir();
    let a = Tiny::new(Arch::Llama).seed(1).write(folder.path());
    let own = folder.path().join("own");
    fs::create_dir(&own).unwrap();
    let b = Tiny::new(Arch::Llama).seed(2).write(&own);
    let text = "The rain in the hills runs down to the river. ".repeat(9);
    let (plain, marked) = (folder.path().join("plain.txt"), folder.path().join("marked.txt"));
    fs::write(&plain, &text).unwrap();
    fs::write(&marked, format!("\u{feff}{text}")).unwrap();
    // Several models and a reference read it: a pipe gives it once.
    let figures = |path: &Path| -> Value {
        let mut tasks = aird();
        tasks.args([Path::new("tasks"), &a, &b, Path::new("--reference"), &a]);
        tasks.arg("--text").arg(path).args(["--ctx", "64", "--threads", "1", "--json"]);
        let output = fed(&mut tasks, &text);
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let expected = figures(&plain);
    assert!(expected["models"][1]["perplexity"]["ppl"].as_f64().unwrap() > 1.0);
    assert_eq!(figures(Path::new("/dev/stdin")), expected);
    assert_eq!(figures(&marked), expected);
}

#[test]
fn windows_are_no_longer_than_the_context_unless_they_are_asked_for() {
    let folder = tempdir();
    let model = Tiny::new(Arch::Llama).seed(1).write(folder.path());
    with_context(&model, 128);
    let text = folder.path().join("text.txt");
    fs::write(&text, "The rain in the hills runs down to the river. ".repeat(9)).unwrap();
    let tasks = |more: &[&str]| {
        let mut tasks = aird();
        tasks.args([Path::new("tasks"), &model, Path::new("--text"), &text]);
        tasks.args(["--threads", "1", "--json"]).args(more).output().unwrap()
    };
    let output = tasks(&[]);
    let said = stderr(&output);
    assert!(said.contains("windows have 128 tokens: what the model was trained for"), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["models"][0]["perplexity"]["n_ctx"], 128);
    let said = stderr(&tasks(&["--ctx", "256"]));
    assert!(said.contains("256 tokens are asked for, the model was trained for 128"), "{said}");
}

fn calibrate(model: &Path, out: &Path, more: &[&str]) -> Output {
    let mut calibrate = aird();
    calibrate.arg("calibrate").arg(model).arg("-o").arg(out).args(["--threads", "1", "--force"]);
    calibrate.args(more).output().unwrap()
}

#[test]
fn samples_are_no_longer_than_the_context_unless_they_are_asked_for() {
    let folder = tempdir();
    let model = Tiny::new(Arch::Llama).seed(1).write(folder.path());
    with_context(&model, 128);
    let text = root().join(TEXT);
    let text = ["--data", text.to_str().unwrap(), "--samples", "2"];
    let out = folder.path().join("stats.gguf");
    let output = calibrate(&model, &out, &text);
    let said = stderr(&output);
    assert!(said.contains("samples have at most 128 tokens: what the model"), "{said}");
    assert_eq!(stats::read(&out).unwrap().0.about.unwrap().n_ctx, 128);
    let said = stderr(&calibrate(&model, &out, &[&text[..], &["--ctx", "256"]].concat()));
    assert!(said.contains("256 tokens are asked for, the model was trained for 128"), "{said}");
}

#[cfg(unix)]
#[test]
fn data_may_be_tabs_or_a_pipe_of_text_or_records() {
    let folder = tempdir();
    let model = Tiny::new(Arch::Llama).seed(1).write(folder.path());
    let record = r#"{"prompt": "Why, so?", "response": "Since it rains."}"#;
    let (json, tabs) = (folder.path().join("a.jsonl"), folder.path().join("a.tsv"));
    fs::write(&json, record).unwrap();
    fs::write(&tabs, "prompt\tresponse\nWhy, so?\tSince it rains.\n").unwrap();
    let text = fs::read_to_string(root().join(TEXT)).unwrap();
    let out = folder.path().join("stats.gguf");
    // What was read, and which tokens counted.
    let read = |data: &Path, piped: &str| {
        let mut command = aird();
        command.arg("calibrate").arg(&model).arg("-o").arg(&out).arg("--data").arg(data);
        command.args(["--chat-template", "none", "--ctx", "16", "--samples", "4"]);
        let output = fed(command.args(["--threads", "1", "--force"]), piped);
        assert!(output.status.success(), "{}", stderr(&output));
        let about = stats::read(&out).unwrap().0.about.unwrap();
        (about.data_sha256, about.mask)
    };
    let records = read(&json, "");
    assert_eq!(records.1, "response");
    assert_eq!(read(&tabs, ""), records);
    let pipe = Path::new("/dev/stdin");
    assert_eq!(read(pipe, record), records);
    let texts = read(&root().join(TEXT), "");
    assert_eq!(read(pipe, &text), texts);
    assert_eq!(texts.1, "all");
}

#[test]
fn a_recipe_in_another_encoding_is_named_as_such() {
    let folder = tempdir();
    let recipe = folder.path().join("recipe.toml");
    fs::write(&recipe, b"\xff\xfen\0a\0m\0e\0").unwrap();
    let run = folder.path().join("run");
    let output = aird().arg("study").arg(&recipe).arg("-o").arg(&run).output().unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("recipe.toml: the text is UTF-16, expected UTF-8\nhint: "), "{said}");
}
