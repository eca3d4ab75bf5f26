//! Manners that all verbs share: what exists is kept, nothing half-made is left, exit codes.

use std::path::Path;

use aird::gguf::GgmlType;

use crate::support::{
    Adapter, Arch, Tiny, aird, names_in, real_model, run, stderr, stdout, tempdir,
};

#[test]
fn an_existing_output_is_kept_unless_forced_and_the_input_always() {
    let folder = tempdir();
    let tiny = Tiny::new(Arch::Llama);
    let model = tiny.write(folder.path());
    let adapter = Adapter::new(&tiny, &["blk.0.ffn_up.weight"]).write(folder.path());
    let original = std::fs::read(&model).unwrap();
    let out = folder.path().join("out.gguf");
    std::fs::write(&out, "precious").unwrap();
    let merge = |out: &Path, more: &[&str]| {
        let arguments = [&model, Path::new("--lora"), &adapter, Path::new("-o"), out];
        aird().arg("merge").args(arguments).args(more).output().unwrap()
    };
    let refused = merge(&out, &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("hint: --force"), "{}", stderr(&refused));
    assert_eq!(std::fs::read(&out).unwrap(), b"precious");
    let into_itself = merge(&model, &["--force"]);
    assert_eq!(into_itself.status.code(), Some(1));
    assert!(stderr(&into_itself).contains("the input itself"), "{}", stderr(&into_itself));
    assert_eq!(std::fs::read(&model).unwrap(), original);
    assert!(merge(&out, &["--force"]).status.success());
    assert!(run(&[Path::new("verify"), &out]).status.success());
}

#[test]
fn a_folder_that_is_not_there_is_an_error() {
    let folder = tempdir();
    let tiny = Tiny::new(Arch::Llama);
    let model = tiny.write(folder.path());
    let adapter = Adapter::new(&tiny, &["blk.0.ffn_up.weight"]).write(folder.path());
    let out = folder.path().join("missing/out.gguf");
    let output =
        run(&[Path::new("merge"), &model, Path::new("--lora"), &adapter, Path::new("-o"), &out]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("missing"), "{}", stderr(&output));
}

#[cfg(unix)]
#[test]
fn a_full_disk_leaves_the_old_output_and_no_temp_file() {
    let folder = tempdir();
    let tiny = Tiny::new(Arch::Llama).ty(GgmlType::Q4_K);
    let model = tiny.write(folder.path());
    let adapter = Adapter::new(&tiny, &["blk.0.ffn_up.weight"]).write(folder.path());
    let out = folder.path().join("out.gguf");
    std::fs::write(&out, "precious").unwrap();
    let before = names_in(folder.path());
    // 64 blocks of 512 or 1024 bytes: far less than the model.
    let script = "ulimit -f 64; exec \"$@\"";
    let output = std::process::Command::new("bash")
        .args(["-c", script, "bash", env!("CARGO_BIN_EXE_aird"), "merge"])
        .args([&model, Path::new("--lora"), &adapter, Path::new("-o"), &out])
        .arg("--force")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("cannot write"), "{}", stderr(&output));
    assert_eq!(names_in(folder.path()), before);
    assert_eq!(std::fs::read(&out).unwrap(), b"precious");
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_with_130_and_leaves_the_old_output_and_no_temp_file() {
    let Some(model) = real_model() else { return };
    let folder = tempdir();
    let out = folder.path().join("out.gguf");
    std::fs::write(&out, "precious").unwrap();
    let adapter = crate::support::root().join("fixtures/refusal-adapter.gguf");
    // At several moments: hashing, writing, syncing, reading back. Late ones may find it done.
    let mut interrupted = 0;
    for milliseconds in [60, 150, 300, 600, 900] {
        std::fs::write(&out, "precious").unwrap();
        let arguments = [&model, Path::new("--lora"), &adapter, Path::new("-o"), &out];
        let mut child = aird().arg("merge").args(arguments).arg("--force").spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(milliseconds));
        let pid = child.id().to_string();
        std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap();
        let status = child.wait().unwrap();
        assert_eq!(names_in(folder.path()), ["out.gguf"]);
        match status.code() {
            Some(130) => {
                assert_eq!(std::fs::read(&out).unwrap(), b"precious");
                interrupted += 1;
            }
            code => assert_eq!(code, Some(0)),
        }
    }
    assert!(interrupted > 0, "no signal came in time");
}

#[test]
fn usage_errors_exit_with_2_and_other_files_with_1() {
    let folder = tempdir();
    let text = folder.path().join("text.gguf");
    std::fs::write(&text, "no model").unwrap();
    assert_eq!(run(&[Path::new("inspect")]).status.code(), Some(2));
    assert_eq!(run(&[Path::new("enhance")]).status.code(), Some(2));
    let output = run(&[Path::new("inspect"), &text]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("not a GGUF file"), "{}", stderr(&output));
    assert_eq!(run(&[Path::new("inspect"), folder.path()]).status.code(), Some(1));
}

#[test]
fn a_closed_pipe_is_success() {
    let folder = tempdir();
    let path = Tiny::new(Arch::Llama).write(folder.path());
    let script = format!(
        "'{}' inspect --tensors '{}' | true; exit ${{PIPESTATUS[0]}}",
        env!("CARGO_BIN_EXE_aird"),
        path.display()
    );
    let output = std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stderr(&output), "");
}

#[test]
fn generate_prints_man_pages_and_completions() {
    let man = run(&[Path::new("generate"), Path::new("man")]);
    assert!(stdout(&man).contains(".TH aird 1"), "{}", stdout(&man));
    let folder = tempdir();
    let all = [Path::new("generate"), Path::new("man"), Path::new("--dir"), folder.path()];
    assert!(run(&all).status.success());
    assert!(names_in(folder.path()).contains(&"aird-merge.1".to_owned()));
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = run(&["generate", "completions", shell].map(Path::new));
        assert!(stdout(&script).contains("inspect"), "{shell}");
    }
}
