//! `aird prune`: as sparse as asked, no weight changed that stays, and everything else as it was.

use std::path::{Path, PathBuf};
use std::process::Output;

use aird::gguf::{GgmlType, Model, history};
use aird::quant::decoded;

use crate::support::{Arch, Tiny, aird, names_in, root, stderr, stdout, tempdir};

fn text() -> String {
    root().join("fixtures/imatrix/text.txt").display().to_string()
}

fn prune(model: &Path, out: &Path, more: &[&str]) -> Output {
    aird().arg("prune").arg(model).arg("-o").arg(out).args(more).output().unwrap()
}

/// Statistics of `model`, made once.
fn stats(model: &Path) -> String {
    let out = model.with_extension("stats");
    let text = text();
    let output = aird()
        .args(["calibrate", model.to_str().unwrap(), "-o", out.to_str().unwrap()])
        .args(["--data", text.as_str(), "--ctx", "64", "--samples", "8", "--threads", "1"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    out.display().to_string()
}

fn pruned(model: &Path, folder: &Path, more: &[&str]) -> PathBuf {
    let out = folder.join("pruned.gguf");
    let output = prune(model, &out, &[more, &["--force"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    out
}

fn values(model: &Model, name: &str) -> Vec<f32> {
    let tensor = model.tensor(name).unwrap();
    decoded(tensor, 0..tensor.info.n_rows()).unwrap()
}

#[test]
fn every_method_zeroes_its_share_of_every_matrix_and_keeps_the_rest() {
    for arch in [Arch::Llama, Arch::Qwen3Moe] {
        let folder = tempdir();
        let path = Tiny::new(arch).seed(1).write(folder.path());
        let stats = stats(&path);
        for method in ["magnitude", "wanda", "ria"] {
            let mut arguments = vec!["--method", method, "--sparsity", "0.5"];
            if method != "magnitude" {
                arguments.extend(["--stats", &stats]);
            }
            let out = pruned(&path, folder.path(), &arguments);
            let (before, after) = (Model::open(&path).unwrap(), Model::open(&out).unwrap());
            for tensor in before.tensors() {
                let name = &tensor.info.name;
                let (a, b) = (values(&before, name), values(&after, name));
                let linear = name.starts_with("blk.") && tensor.info.shape.len() > 1;
                if !linear || name.contains("ffn_gate_inp") {
                    assert_eq!(a, b, "{name}");
                    continue;
                }
                let zeros = b.iter().filter(|x| **x == 0.0).count();
                // Magnitude's threshold goes with the first element above the share.
                let most = a.len() / 2 + if method == "magnitude" { 4 } else { 0 };
                assert!((a.len() / 2..=most).contains(&zeros), "{method} {name}: {zeros}");
                assert!(a.iter().zip(&b).all(|(a, b)| *b == 0.0 || a == b), "{method} {name}");
            }
        }
    }
}

#[test]
fn two_of_four_leaves_two_of_each_four() {
    let folder = tempdir();
    let path = Tiny::new(Arch::Llama).seed(1).write(folder.path());
    let stats = stats(&path);
    let out =
        pruned(&path, folder.path(), &["--method", "wanda", "--nm", "2:4", "--stats", &stats]);
    let model = Model::open(&out).unwrap();
    let weights = values(&model, "blk.1.ffn_down.weight");
    assert!(weights.chunks(4).all(|four| four.iter().filter(|x| **x == 0.0).count() == 2));
}

#[test]
fn blocks_and_names_narrow_it_down() {
    let folder = tempdir();
    let path = Tiny::new(Arch::Llama).blocks(3).seed(1).write(folder.path());
    let narrow = ["--blocks", "0,2", "--include", "ffn_", "--exclude", "ffn_up"];
    let arguments = ["--method", "magnitude", "--sparsity", "0.3"];
    let out = pruned(&path, folder.path(), &[&arguments[..], &narrow].concat());
    let (before, after) = (Model::open(&path).unwrap(), Model::open(&out).unwrap());
    let changed: Vec<String> = before
        .tensors()
        .map(|t| t.info.name.clone())
        .filter(|name| values(&before, name) != values(&after, name))
        .collect();
    assert_eq!(
        changed,
        [
            "blk.0.ffn_gate.weight",
            "blk.0.ffn_down.weight",
            "blk.2.ffn_gate.weight",
            "blk.2.ffn_down.weight"
        ]
    );
    let step = &history(after.kv())[0];
    assert_eq!(step["verb"], "prune");
    assert_eq!(step["parameters"]["blocks"], "0,2");
    let achieved = step["parameters"]["achieved"].as_f64().unwrap();
    assert!((achieved - 0.3).abs() < 1e-3, "{achieved}");
}

#[test]
fn owl_spares_blocks_with_outliers_and_keeps_the_mean() {
    let folder = tempdir();
    let path = Tiny::new(Arch::Llama).blocks(4).seed(1).write(folder.path());
    let stats = stats(&path);
    let out = folder.path().join("out.gguf");
    let arguments = ["--method", "wanda", "--sparsity", "0.5", "--allocation", "owl", "--json"];
    let output = prune(&path, &out, &[&arguments[..], &["--stats", &stats]].concat());
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let by_block: Vec<f64> =
        report["by_block"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
    assert_eq!(by_block.len(), 4);
    assert!((by_block.iter().sum::<f64>() / 4.0 - 0.5).abs() < 1e-9, "{by_block:?}");
    assert!(by_block.iter().any(|s| (s - 0.5).abs() > 1e-3), "{by_block:?}");
    assert!((report["sparsity"].as_f64().unwrap() - 0.5).abs() < 0.01);
}

#[test]
fn quantized_models_come_out_as_f16_and_lossy_types_are_warned_of() {
    let folder = tempdir();
    let path = Tiny::new(Arch::Llama).ty(GgmlType::Q4_K).seed(1).write(folder.path());
    let arguments = ["--method", "magnitude", "--sparsity", "0.5"];
    let model = Model::open(&pruned(&path, folder.path(), &arguments)).unwrap();
    assert_eq!(model.tensor("blk.0.attn_q.weight").unwrap().info.ty, GgmlType::F16);
    assert_eq!(model.tensor("token_embd.weight").unwrap().info.ty, GgmlType::Q4_K);
    let out = folder.path().join("q4.gguf");
    let output = prune(&path, &out, &[&arguments[..], &["--type", "q4_k"]].concat());
    assert!(stderr(&output).contains("Q4_K has no exact zero"), "{}", stderr(&output));
    let achieved: f64 = stdout(&output).split_whitespace().next().unwrap().parse().unwrap();
    assert!(achieved < 20.0, "counted before rounding: {achieved}");
}

#[test]
fn a_dry_run_says_the_bytes_that_are_then_written() {
    let folder = tempdir();
    let path = Tiny::new(Arch::Llama).seed(1).write(folder.path());
    let out = folder.path().join("out.gguf");
    let arguments = ["--method", "magnitude", "--sparsity", "0.5", "--json"];
    let dry = prune(&path, &out, &[&arguments[..], &["--dry-run"]].concat());
    let dry: serde_json::Value = serde_json::from_slice(&dry.stdout).unwrap();
    assert!(!out.exists());
    prune(&path, &out, &arguments);
    assert_eq!(dry["files"][0]["bytes"].as_u64().unwrap(), out.metadata().unwrap().len());
}

#[test]
fn statistics_are_collected_first_where_data_is_given_and_kept_beside() {
    let folder = tempdir();
    let path = Tiny::new(Arch::Llama).seed(1).write(folder.path());
    let data = ["--data", &text(), "--ctx", "64", "--samples", "8", "--threads", "1"];
    let arguments = ["--method", "wanda", "--sparsity", "0.5"];
    let out = pruned(&path, folder.path(), &[&arguments[..], &data].concat());
    let first = std::fs::read(&out).unwrap();
    let kept = folder.path().join("pruned.imatrix.gguf");
    let kept = ["--stats", kept.to_str().unwrap()];
    let again = pruned(&path, folder.path(), &[&arguments[..], &kept].concat());
    assert!(first == std::fs::read(again).unwrap());
}

/// Wanda with the text of the fixtures, collected on the way.
fn wanda_on_text<'a>(text: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let data = ["--data", text, "--ctx", "64", "--samples", "8", "--threads", "1"];
    [&["--method", "wanda", "--sparsity", "0.5"], &data[..], more].concat()
}

#[test]
fn in_sequence_later_blocks_are_judged_by_what_pruned_ones_pass_on() {
    let folder = tempdir();
    let path = Tiny::new(Arch::Llama).blocks(3).seed(1).write(folder.path());
    let text = text();
    let weights = |more: &[&str]| {
        let out = pruned(&path, folder.path(), &wanda_on_text(&text, more));
        let model = Model::open(&out).unwrap();
        let names: Vec<String> = model.tensors().map(|t| t.info.name.clone()).collect();
        let weights: Vec<_> = names.into_iter().map(|n| (values(&model, &n), n)).collect();
        (weights, history(model.kv()))
    };
    let (at_once, _) = weights(&[]);
    let (whole, steps) = weights(&["--sequential", "3"]);
    assert_eq!(steps[0]["parameters"]["sequential"], 3);
    assert!(at_once == whole);
    let (by_one, steps) = weights(&["--sequential", "1"]);
    assert_eq!(steps.len(), 1);
    let zeros = |values: &[f32]| values.iter().filter(|x| **x == 0.0).count();
    let mut changed = Vec::new();
    for ((a, name), (b, _)) in at_once.iter().zip(&by_one) {
        assert_eq!(zeros(a), zeros(b), "{name}");
        if a != b {
            changed.push(name.split('.').nth(1).unwrap());
        }
    }
    changed.dedup();
    assert_eq!(changed, ["1", "2"]);
    // The file kept beside holds what each block was judged by.
    let kept = folder.path().join("pruned.imatrix.gguf");
    let again = ["--method", "wanda", "--sparsity", "0.5", "--stats", kept.to_str().unwrap()];
    let again = Model::open(&pruned(&path, folder.path(), &again)).unwrap();
    assert!(by_one.iter().all(|(a, name)| *a == values(&again, name)));
    let found = names_in(folder.path());
    assert_eq!(found, ["pruned.gguf", "pruned.imatrix.gguf", "tiny-llama-F32.gguf"]);
}

#[cfg(unix)]
#[test]
fn a_sequence_that_fails_or_is_interrupted_leaves_no_temp_file() {
    let folder = tempdir();
    let path = Tiny::new(Arch::Llama).blocks(6).seed(1).write(folder.path());
    let (text, out) = (text(), folder.path().join("out.gguf"));
    let arguments = wanda_on_text(&text, &["--sequential", "1", "--force"]);
    let check = |code: i32, said: &str, names: &[&str], output: &Output| {
        assert_eq!(output.status.code(), Some(code), "{}", stderr(output));
        assert!(stderr(output).contains(said), "{}", stderr(output));
        assert_eq!(names_in(folder.path()), names);
    };
    // 200 blocks of 512 or 1024 bytes: more than the statistics, less than the model. That is seen
    // before statistics are collected.
    let output = std::process::Command::new("bash")
        .args(["-c", "ulimit -f 200; exec \"$@\"", "bash", env!("CARGO_BIN_EXE_aird"), "prune"])
        .args([&path, Path::new("-o"), &out])
        .args(&arguments)
        .output()
        .unwrap();
    check(1, "cannot write", &["tiny-llama-F32.gguf"], &output);
    let mut child = aird();
    let child = child.arg("prune").arg(&path).arg("-o").arg(&out).args(&arguments);
    let child = child.stderr(std::process::Stdio::piped()).spawn().unwrap();
    // The first model so far is being read: four more are to come.
    let begun = || names_in(folder.path()).iter().any(|name| name.starts_with(".aird."));
    while !begun() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    check(
        130,
        "interrupted",
        &["out.imatrix.gguf", "tiny-llama-F32.gguf"],
        &child.wait_with_output().unwrap(),
    );
}

#[test]
fn what_is_wrong_is_said_and_nothing_written() {
    let folder = tempdir();
    let path = Tiny::new(Arch::Llama).seed(1).write(folder.path());
    let out = folder.path().join("out.gguf");
    for (arguments, code, expected) in [
        (&["--method", "wanda", "--sparsity", "0.5"][..], 1, "needs --stats FILE or --data FILE"),
        (&["--method", "magnitude", "--sparsity", "1"][..], 1, "sparsity 1 lies outside 0 to 1"),
        (&["--method", "magnitude", "--sparsity", "NaN"][..], 1, "lies outside 0 to 1"),
        (&["--method", "magnitude", "--nm", "4:4"][..], 1, "4:4 zeroes 4 of each 4"),
        (&["--method", "magnitude", "--sparsity", "0"][..], 1, "nothing to prune"),
        (&["--method", "magnitude", "--sparsity", "-0"][..], 1, "nothing to prune"),
        (&["--method", "magnitude", "--sparsity", "-0.5"][..], 1, "sparsity -0.5 lies outside"),
        (&["--method", "magnitude", "--sparsity", "inf"][..], 1, "sparsity inf lies outside"),
        (&["--method", "magnitude", "--sparsity", "1.5"][..], 1, "sparsity 1.5 lies outside"),
        (&["--method", "magnitude", "--nm", "0:4"][..], 1, "nothing to prune"),
        (&["--method", "magnitude", "--nm", "5:4"][..], 1, "asks for 5 zeros of each 4 weights"),
        (&["--method", "magnitude", "--nm", "2:0"][..], 1, "asks for 2 zeros of each 0 weights"),
        (&["--method", "magnitude", "--nm", "-1:4"][..], 2, "expected N:M"),
        (&["--method", "magnitude", "--nm", "2:5"][..], 1, "not a whole number of runs of 5"),
        (&["--method", "magnitude"][..], 2, "--sparsity"),
        (&["--method", "wanda", "--nm", "2:4", "--sequential", "1"][..], 2, "--data"),
        (&["--method", "wanda", "--nm", "2:4", "--sequential", "0", "--data", "x"][..], 2, "1.."),
        (
            &["--method", "magnitude", "--nm", "2:4", "--sequential", "1", "--data", "x"][..],
            1,
            "none",
        ),
        (&["--method", "magnitude", "--nm", "2"][..], 2, "expected N:M"),
        (&["--method", "magnitude", "--sparsity", "0.5", "--blocks", "9-1"][..], 2, "e.g. 0-9,12"),
        (&["--method", "magnitude", "--sparsity", "0.5", "--blocks", "7"][..], 1, "no matrix"),
        (&["--method", "magnitude", "--sparsity", "0.5", "--include", "("][..], 2, "regex"),
    ] {
        let output = prune(&path, &out, arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert!(stderr(&output).contains(expected), "{arguments:?}: {}", stderr(&output));
        assert!(!out.exists());
    }
    crate::support::scribble(&path, "blk.1.attn_q.weight", 8, &f32::NAN.to_le_bytes());
    let output = prune(&path, &out, &["--method", "magnitude", "--sparsity", "0.5"]);
    let said = stderr(&output);
    assert!(said.contains("blk.1.attn_q.weight row 0 column 2 is NaN or infinite"), "{said}");
    assert!(!out.exists());
}
