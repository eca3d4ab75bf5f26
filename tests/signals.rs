//! Signals, pipes and what cannot be printed.
#![cfg(unix)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aird::gguf::GgmlType;

use crate::support::{Arch, Tiny, aird, names_in, real_model, run, stderr, tempdir};

const AIRD: &str = env!("CARGO_BIN_EXE_aird");

fn kill(signal: &str, child: &Child) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
}

/// Waits for at most `seconds`.
fn ended_within(child: &mut Child, seconds: u64) -> Option<i32> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(seconds) {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status.code().unwrap_or(-1));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}

/// `aird VERB` on the real model, after the shell has set its traps.
fn started(trap: &str, verb: &str, model: &Path, options: &[&str]) -> Child {
    let script = format!("{trap} exec \"$@\"");
    Command::new("bash")
        .args(["-c", &script, "bash", AIRD, verb])
        .arg(model)
        .args(options)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn signals_that_were_ignored_at_the_start_stay_ignored() {
    let Some(model) = real_model() else { return };
    let short = ["Count to one hundred.", "--max-tokens", "24", "--chat-template", "none"];
    // Longer than any machine needs to send a signal: a run that has ended cannot be stopped.
    let long = ["--attack", "vanilla", "--benign", "none", "--max-tokens", "400"];
    for signal in ["HUP", "INT"] {
        let mut child = started(&format!("trap '' {signal};"), "ask", &model, &short);
        std::thread::sleep(Duration::from_millis(300));
        kill(&format!("-{signal}"), &child);
        kill(&format!("-{signal}"), &child);
        assert_eq!(ended_within(&mut child, 120), Some(0), "{signal}");
        let mut child = started("", "asr", &model, &long);
        std::thread::sleep(Duration::from_millis(300));
        kill(&format!("-{signal}"), &child);
        assert_eq!(ended_within(&mut child, 60), Some(130), "{signal}");
    }
}

#[test]
fn sigterm_ends_aird_even_where_it_waits_for_a_pipe() {
    let folder = tempdir();
    let model = Tiny::new(Arch::Llama).write(folder.path());
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut child = aird()
        .arg("tasks")
        .arg(&model)
        .arg("--text")
        .arg(&pipe)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    if child.try_wait().unwrap().is_none() {
        kill("-TERM", &child);
        assert_eq!(ended_within(&mut child, 30), Some(130));
    }
    // The second one at once.
    let mut child = aird().args(["inspect"]).arg(&model).stdout(Stdio::null()).spawn().unwrap();
    assert_eq!(ended_within(&mut child, 30), Some(0));
}

#[test]
fn a_pipe_or_a_device_is_no_model() {
    let folder = tempdir();
    let pipe = folder.path().join("pipe.gguf");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for path in [pipe.as_path(), Path::new("/dev/zero"), Path::new("/dev/null"), folder.path()] {
        for verb in ["inspect", "verify", "ask"] {
            let mut command = aird();
            command.arg(verb).arg(path);
            if verb == "ask" {
                command.arg("Hi");
            }
            let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
            let ended = ended_within(&mut child, 30);
            let said = stderr(&child.wait_with_output().unwrap());
            assert_eq!(ended, Some(1), "{verb} {}: {said}", path.display());
            assert!(said.contains("not a regular file"), "{verb} {}: {said}", path.display());
        }
    }
}

/// Exit code of `aird WORDS` whose output goes into `sink`.
fn code_into(sink: &str, words: &str) -> (Option<i32>, String) {
    let script = format!("'{AIRD}' {words} {sink}; exit ${{PIPESTATUS[0]}}");
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    (output.status.code(), stderr(&output))
}

#[test]
fn a_closed_pipe_does_not_change_the_verdict() {
    let folder = tempdir();
    let good = Tiny::new(Arch::Llama).ty(GgmlType::F16).write(folder.path());
    let (good, bad) = (good.display().to_string(), folder.path().join("bad.gguf"));
    std::fs::copy(&good, &bad).unwrap();
    crate::support::scribble(&bad, "blk.0.attn_norm.weight", 0, &f32::NAN.to_le_bytes());
    let bad = bad.display();
    let asr = "--limit 1 --benign none --max-tokens 2 --fail-if 'vanilla.refusal>=0'";
    for (words, expected) in [
        (format!("verify '{bad}'"), 1),
        (format!("verify '{bad}' --json"), 1),
        (format!("verify '{good}'"), 0),
        (format!("inspect --tensors '{good}'"), 0),
        (format!("asr '{good}' {asr}"), 3),
        (format!("asr '{good}' {asr} --json"), 3),
    ] {
        let (code, said) = code_into("| true", &words);
        assert_eq!(code, Some(expected), "{words}: {said}");
    }
}

#[test]
fn what_cannot_be_printed_fails_and_never_panics() {
    let folder = tempdir();
    let model = Tiny::new(Arch::Llama).write(folder.path()).display().to_string();
    for words in [
        format!("ask '{model}' Hi --max-tokens 2"),
        format!("ask '{model}' Hi --max-tokens 2 --json"),
        format!("inspect '{model}'"),
        format!("verify '{model}' --quick"),
    ] {
        let (code, said) = code_into("> /dev/full", &words);
        assert_eq!(code, Some(1), "{words}: {said}");
        assert!(said.contains("cannot write to stdout"), "{words}: {said}");
        // The error itself cannot be printed either.
        assert_eq!(code_into("> /dev/full 2> /dev/full", &words).0, Some(1), "{words}");
    }
    assert_eq!(code_into("2> /dev/full", "inspect /missing").0, Some(1));
    assert_eq!(code_into("2>&-", "inspect /missing").0, Some(1));
}

#[test]
fn a_name_that_is_not_utf_8_is_refused_at_the_start() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempdir();
    let model = Tiny::new(Arch::Llama).write(folder.path());
    let latin = folder.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9.gguf"));
    std::fs::copy(&model, &latin).unwrap();
    let before = names_in(folder.path());
    for words in [
        &["verify"][..],
        &["inspect"],
        &["prune", "--method=magnitude", "--sparsity=0.5", "-o", "out.gguf"],
    ] {
        let output = aird().args(words).arg(&latin).current_dir(folder.path()).output().unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("is not UTF-8") && !said.contains("sound"), "{said}");
        assert_eq!(names_in(folder.path()), before);
    }
    // A folder may be called anything, where the name that is given can be read.
    let inside = folder.path().join(std::ffi::OsStr::from_bytes(b"d\xe9"));
    std::fs::create_dir(&inside).unwrap();
    std::fs::copy(&model, inside.join("m.gguf")).unwrap();
    let words = ["prune", "m.gguf", "--method=magnitude", "--sparsity=0.5", "-o", "out.gguf"];
    let output = aird().args(words).current_dir(&inside).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(names_in(&inside), ["m.gguf", "out.gguf"]);
}

#[test]
fn a_process_that_may_start_no_thread_says_so() {
    let folder = tempdir();
    let model = Tiny::new(Arch::Llama).write(folder.path());
    // Only for others than root are processes counted.
    let script = "ulimit -u 1; exec \"$@\"";
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--clear-groups", "bash", "-c", script, "bash", AIRD, "inspect"])
        .arg(&model)
        .output();
    let Ok(output) = output else { return };
    let said = stderr(&output);
    if said.contains("setpriv") || said.contains("Permission denied") {
        eprintln!("skipped: {said}");
        return;
    }
    if !output.status.success() {
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.starts_with("error: cannot start a thread"), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    }
    assert!(run(&[Path::new("inspect"), &model]).status.success());
}
