//! Outputs of every verb: inputs are never written over, what exists stays if a run fails, and what
//! cannot be written is seen before the work.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

use aird::gguf::GgmlType;

use crate::support::{
    Adapter, Arch, TempDir, Tiny, aird, direction, json, names_in, root, run, stderr, tempdir,
};

/// A folder with a tiny model, statistics of it, a direction, an adapter and prompts.
struct Desk {
    folder: TempDir,
    tiny: Tiny,
}

impl Desk {
    fn new() -> Desk {
        let desk = Desk { folder: tempdir(), tiny: Tiny::new(Arch::Llama).ty(GgmlType::F16) };
        let folder = desk.folder.path();
        std::fs::rename(desk.tiny.write(folder), desk.path("model.gguf")).unwrap();
        std::fs::rename(direction(folder, &desk.tiny), desk.path("direction")).unwrap();
        let adapter = Adapter::new(&desk.tiny, &["blk.0.ffn_up.weight"]).write(folder);
        std::fs::rename(adapter, desk.path("lora.gguf")).unwrap();
        std::fs::write(desk.path("prompts.txt"), "Say a word.\nName a colour.\n".repeat(8))
            .unwrap();
        std::fs::write(desk.path("answers.csv"), "prompt,answer\nWhy?,No.\n").unwrap();
        std::fs::write(desk.path("judge.jinja"), "{{ messages[1].content }}").unwrap();
        std::fs::copy(root().join("README.md"), desk.path("text.txt")).unwrap();
        let stats =
            desk.run("calibrate model.gguf --data text.txt --ctx 64 --samples 2 -o stats.gguf");
        assert!(stats.status.success(), "{}", stderr(&stats));
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs aird in the folder.
    fn run(&self, words: &str) -> Output {
        aird().current_dir(self.folder.path()).args(words.split(' ')).output().unwrap()
    }
}

#[test]
fn no_verb_writes_over_what_it_reads() {
    let desk = Desk::new();
    let verbs = [
        ("calibrate model.gguf --data text.txt -o OUT --force", &["model.gguf", "text.txt"][..]),
        (
            "prune model.gguf --method wanda --stats stats.gguf --sparsity 0.5 -o OUT --force",
            &["model.gguf", "stats.gguf"],
        ),
        (
            "quantize model.gguf --method rtn --type q8_0 --stats stats.gguf -o OUT --force",
            &["model.gguf", "stats.gguf"],
        ),
        ("merge model.gguf --lora lora.gguf -o OUT --force", &["model.gguf", "lora.gguf"]),
        (
            "direction model.gguf --harmful prompts.txt --harmless text.txt -o OUT --force",
            &["model.gguf", "prompts.txt", "text.txt"],
        ),
        ("direction model.gguf -o other --cvector OUT --force", &["model.gguf"]),
        ("compare direction direction --svg OUT --force", &["direction"]),
        (
            "repair model.gguf --direction direction --block 0 --alpha 1 -o OUT --force",
            &["model.gguf", "direction"],
        ),
        (
            "repair model.gguf --direction direction --block 0 --alpha 1 --lora OUT --force",
            &["model.gguf", "direction"],
        ),
        (
            "repair model.gguf --direction direction --harmful prompts.txt --front OUT --force",
            &["model.gguf", "direction", "prompts.txt"],
        ),
        (
            "asr model.gguf --prompts prompts.txt --benign text.txt --html OUT --force",
            &["model.gguf", "prompts.txt", "text.txt"],
        ),
        (
            "judge answers.csv --judge model.gguf --judge-template judge.jinja -o OUT --force",
            &["answers.csv", "model.gguf", "judge.jinja"],
        ),
        ("judge answers.csv --html OUT --force", &["answers.csv"]),
    ];
    for (words, inputs) in verbs {
        for input in inputs {
            let bytes = std::fs::read(desk.path(input)).unwrap();
            let _ = std::fs::remove_file(desk.path("hard"));
            let _ = std::fs::remove_file(desk.path("soft"));
            std::fs::hard_link(desk.path(input), desk.path("hard")).unwrap();
            #[cfg(unix)]
            std::os::unix::fs::symlink(desk.path(input), desk.path("soft")).unwrap();
            let same = format!("./{input}");
            for out in [*input, &same, "hard", "soft"] {
                let output = desk.run(&words.replace("OUT", out));
                let said = stderr(&output);
                assert_eq!(output.status.code(), Some(1), "{words} {out}: {said}");
                assert!(said.contains("the input itself"), "{words} {out}: {said}");
                assert_eq!(std::fs::read(desk.path(input)).unwrap(), bytes, "{words} {out}");
            }
        }
    }
}

#[test]
fn no_shard_of_the_input_is_written_over() {
    let folder = tempdir();
    let first = Tiny::new(Arch::Llama).ty(GgmlType::F16).shards(2).write(folder.path());
    let names = names_in(folder.path());
    for name in &names {
        let out = folder.path().join(name);
        let bytes = std::fs::read(&out).unwrap();
        let words = ["--method", "magnitude", "--sparsity", "0.5", "--force", "-o"];
        let output = aird().arg("prune").arg(&first).args(words).arg(&out).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}: {}", stderr(&output));
        assert_eq!(std::fs::read(&out).unwrap(), bytes, "{name}");
    }
}

#[test]
fn two_outputs_of_one_run_are_two_files() {
    let desk = Desk::new();
    for words in [
        "direction model.gguf -o x --cvector ./x",
        "repair model.gguf --direction direction -o x.gguf --front x.gguf",
        "repair model.gguf --reference model.gguf --keep-direction x --lora x",
    ] {
        let output = desk.run(words);
        assert_eq!(output.status.code(), Some(1), "{words}");
        assert!(stderr(&output).contains("are the same file"), "{words}: {}", stderr(&output));
    }
}

#[test]
fn an_adapter_that_fails_its_check_leaves_the_old_one() {
    let desk = Desk::new();
    // Twice as wide as the model's: what llama.cpp then refuses is seen before the rename.
    let wide = Tiny::new(Arch::Llama).ty(GgmlType::Q4_K);
    let other = tempdir();
    std::fs::rename(direction(other.path(), &wide), desk.path("wide")).unwrap();
    std::fs::write(desk.path("old.gguf"), "precious").unwrap();
    let before = names_in(desk.folder.path());
    let words = "repair model.gguf --direction wide --block 0 --alpha 1 --lora old.gguf --force";
    let output = desk.run(words);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_eq!(std::fs::read(desk.path("old.gguf")).unwrap(), b"precious");
    assert_eq!(names_in(desk.folder.path()), before);
}

#[test]
fn shards_that_fail_their_check_leave_the_old_ones() {
    let folder = tempdir();
    let first = Tiny::new(Arch::Llama).ty(GgmlType::F16).shards(2).write(folder.path());
    crate::support::scribble(&first, "blk.0.attn_norm.weight", 0, &f32::NAN.to_le_bytes());
    let old: Vec<PathBuf> =
        [1, 2].map(|i| folder.path().join(format!("out-0000{i}-of-00002.gguf"))).into();
    old.iter().for_each(|path| std::fs::write(path, "precious").unwrap());
    let before = names_in(folder.path());
    let words = ["--method", "magnitude", "--sparsity", "0.5", "--keep-shards", "--force", "-o"];
    let out = folder.path().join("out.gguf");
    let output = aird().arg("prune").arg(&first).args(words).arg(&out).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("blk.0.attn_norm.weight"), "{}", stderr(&output));
    assert_eq!(names_in(folder.path()), before);
    assert!(old.iter().all(|path| std::fs::read(path).unwrap() == b"precious"));
}

#[test]
fn sound_shards_are_written_and_nothing_else_is_left() {
    let folder = tempdir();
    let first = Tiny::new(Arch::Llama).ty(GgmlType::F16).shards(2).write(folder.path());
    let out = folder.path().join("out.gguf");
    let words = ["--method", "magnitude", "--sparsity", "0.5", "--keep-shards", "-o"];
    let output = aird().arg("prune").arg(&first).args(words).arg(&out).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let new: Vec<String> =
        names_in(folder.path()).into_iter().filter(|name| !name.starts_with("tiny")).collect();
    assert_eq!(new, ["out-00001-of-00002.gguf", "out-00002-of-00002.gguf"]);
    let report = json(&[Path::new("verify"), &folder.path().join(&new[1])]);
    assert_eq!(report["ok"], true);
}

/// Runs `script` with a small file system mounted at `small`, of which `free` bytes are left; None
/// where that is not allowed.
#[cfg(target_os = "linux")]
fn on_a_full_disk(desk: &Desk, free: u64, words: &str) -> Option<Output> {
    let script = "mkdir -p small && mount -t tmpfs -o size=1m aird small || exit 77\n\
        head -c $((1048576 - FREE)) /dev/zero > small/filler\n\"$@\""
        .replace("FREE", &free.to_string());
    let output = Command::new("unshare")
        .args(["-m", "bash", "-c", &script, "bash", env!("CARGO_BIN_EXE_aird")])
        .args(words.split(' '))
        .current_dir(desk.folder.path())
        .output();
    output.ok().filter(|output| {
        !matches!(output.status.code(), Some(1 | 77)
        if stderr(output).contains("unshare") || stderr(output).contains("mount"))
    })
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_seen_before_the_work() {
    let desk = Desk::new();
    for words in [
        "calibrate model.gguf --data text.txt -o small/x",
        "direction model.gguf -o small/x",
        "prune model.gguf --method wanda --data builtin:alpaca --sparsity 0.5 -o small/x.gguf",
        "quantize model.gguf --method awq --data builtin:alpaca -o small/x.gguf",
        "repair model.gguf --direction direction -o small/x.gguf",
        "repair model.gguf --direction direction --lora small/x.gguf",
        "repair model.gguf --direction direction -o x.gguf --front small/x.json",
        "merge model.gguf --lora lora.gguf -o small/x.gguf",
    ] {
        let Some(output) = on_a_full_disk(&desk, 8192, words) else {
            eprintln!("skipped: no file system may be mounted here");
            return;
        };
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{words}: {said}");
        assert!(said.contains("no room"), "{words}: {said}");
        // Nothing was answered, read or searched before.
        assert_eq!(said.lines().filter(|line| !line.starts_with("hint:")).count(), 1, "{said}");
    }
}

#[cfg(unix)]
#[test]
fn a_folder_that_may_not_be_written_is_seen_before_the_work() {
    use std::os::unix::fs::PermissionsExt;
    let desk = Desk::new();
    let locked = desk.path("locked");
    std::fs::create_dir(&locked).unwrap();
    std::fs::set_permissions(&locked, PermissionsExt::from_mode(0o555)).unwrap();
    // Root may write anywhere: there /proc is the folder that takes no file.
    let is_root = std::fs::write(locked.join("probe"), "").is_ok();
    let folder = if is_root { Path::new("/proc/self") } else { locked.as_path() };
    let folder = folder.display().to_string();
    for words in [
        "calibrate model.gguf --data builtin:alpaca -o FOLDER/x",
        "direction model.gguf -o FOLDER/x",
        "prune model.gguf --method wanda --data builtin:alpaca --sparsity 0.5 -o FOLDER/x.gguf",
        "repair model.gguf --direction direction -o FOLDER/x.gguf",
        "asr model.gguf --html FOLDER/x.html",
    ] {
        let start = Instant::now();
        let output = desk.run(&words.replace("FOLDER", &folder));
        assert_eq!(output.status.code(), Some(1), "{words}: {}", stderr(&output));
        assert!(stderr(&output).contains("cannot write in"), "{words}: {}", stderr(&output));
        assert!(start.elapsed().as_secs() < 5, "{words}");
    }
}

#[test]
fn names_of_255_bytes_are_written() {
    let desk = Desk::new();
    let long = |ending: &str| "n".repeat(255 - ending.len()) + ending;
    for (words, out) in [
        ("prune model.gguf --method magnitude --sparsity 0.5 -o OUT", long(".gguf")),
        ("direction model.gguf --capture-only -o OUT", long("")),
        ("repair model.gguf --direction direction --block 0 --alpha 1 --lora OUT", long(".lora")),
    ] {
        let output = desk.run(&words.replace("OUT", &out));
        assert!(output.status.success(), "{words}: {}", stderr(&output));
        assert!(desk.path(&out).is_file());
    }
    let output = desk.run(&format!("direction model.gguf -o {}", "n".repeat(256)));
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("cannot write"), "{}", stderr(&output));
    assert!(run(&[Path::new("inspect"), &desk.path("model.gguf")]).status.success());
}

#[test]
fn what_a_cut_off_run_keeps_is_not_written_over_an_input_either() {
    let desk = Desk::new();
    std::fs::copy(desk.path("text.txt"), desk.path("x.partial")).unwrap();
    let bytes = std::fs::read(desk.path("x.partial")).unwrap();
    let output = desk.run("calibrate model.gguf --data x.partial -o x --force");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("the input itself"), "{}", stderr(&output));
    assert_eq!(std::fs::read(desk.path("x.partial")).unwrap(), bytes);
    let long = "n".repeat(250);
    let output = desk.run(&format!("calibrate model.gguf --data text.txt -o {long}"));
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("cannot write"), "{}", stderr(&output));
}

#[test]
fn names_of_folders_and_of_journals_are_no_outputs() {
    let desk = Desk::new();
    for (out, expected) in [
        ("new/", "not a regular file"),
        ("new/.", "not a regular file"),
        ("model.gguf.aird-undo", "the name of an undo journal"),
    ] {
        for words in [
            "calibrate model.gguf --data text.txt -o OUT",
            "prune model.gguf --method magnitude --sparsity 0.5 -o OUT",
            "direction model.gguf -o OUT",
            "asr model.gguf --html OUT",
        ] {
            let output = desk.run(&words.replace("OUT", out));
            let said = stderr(&output);
            assert_eq!(output.status.code(), Some(1), "{words} {out}: {said}");
            assert!(said.contains(expected), "{words} {out}: {said}");
        }
    }
}
