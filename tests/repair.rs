//! `aird repair`: the edit is in the file, in the file's own types, with nothing else changed; and
//! it can be taken back.

use std::path::Path;
use std::process::Output;

use aird::direction::Direction;
use aird::gguf::{GgmlType, Model, history, model_sha256};
use aird::llama::{Engine, Hooks, Options, Prefill, Reading, Site};
use serde_json::Value;

use crate::support::{Arch, Tiny, aird, direction, llama, names_in, run, stderr, tempdir};

const PROMPT: &str = "Tell me a story, in 3 words.\n";

fn repair(model: &Path, direction: &Path, more: &[&str]) -> Output {
    repair_at("1", model, direction, more)
}

fn repair_at(blocks: &str, model: &Path, direction: &Path, more: &[&str]) -> Output {
    let mut command = aird();
    command.arg("repair").arg(model).arg("--direction").arg(direction);
    command.args(["--threads", "1", "--block", blocks]).args(more).output().unwrap()
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", stderr(output)))
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    let size = a.iter().map(|x| x.abs()).fold(0.0, f32::max);
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max) / size
}

fn sha256(path: &Path) -> String {
    model_sha256(&Model::open(path).unwrap(), &aird::gguf::Unwatched).unwrap()
}

#[test]
fn a_repaired_f32_model_answers_as_with_the_adapter() {
    let archs = [Arch::Llama, Arch::Qwen2, Arch::Gemma3, Arch::Olmo2, Arch::Qwen3Moe];
    let scaled = [Arch::Llama, Arch::Qwen3Moe].map(|arch| Tiny::new(arch).scaled());
    for tiny in archs.map(Tiny::new).into_iter().chain(scaled) {
        let (folder, tiny) = (tempdir(), tiny.seed(4));
        let arch = &tiny;
        let model = tiny.write(folder.path());
        let direction = direction(folder.path(), &tiny);
        let [out, lora] = ["out.gguf", "lora.gguf"].map(|name| folder.path().join(name));
        for (flag, path) in [("-o", &out), ("--lora", &lora)] {
            let more = ["--alpha", "2", flag, path.to_str().unwrap()];
            let output = repair(&model, &direction, &more);
            assert!(output.status.success(), "{arch:?}: {}", stderr(&output));
        }
        let plain = llama::logits(&model, PROMPT).unwrap();
        let repaired = llama::logits(&out, PROMPT).unwrap();
        let with = llama::logits_with(&model, Some((&lora, 1.0)), PROMPT).unwrap();
        assert!(largest_difference(&plain, &with) > 1e-2, "{arch:?}: the edit does nothing");
        let difference = largest_difference(&with, &repaired);
        assert!(difference < 1e-3, "{arch:?}: {difference}");
    }
}

/// Mean square of what each half of block 1 adds to the residual stream along r: attention, MLP.
fn written(model: &Path, unit: &[f32]) -> [f64; 2] {
    let engine = Engine::load(model, Options::cpu(1)).unwrap();
    let tokens = engine.tokenize(PROMPT, true);
    let mut prefill = Prefill::new(&engine, tokens.len(), 1).unwrap();
    let along = std::cell::RefCell::new(std::collections::HashMap::new());
    let dot =
        |x: &[f32]| -> f64 { x.iter().zip(unit).map(|(x, r)| f64::from(*x) * f64::from(*r)).sum() };
    let input = engine.structure().unwrap().input_of(1);
    let reading = Reading {
        at: Box::new(move |site| [0, 1, 2].map(|i| Site::Point(input + i)).contains(&site)),
        n_last: 1,
        row: Box::new(|site, _, _, x| {
            along.borrow_mut().insert(site, dot(x));
            Ok(())
        }),
    };
    prefill.run(&[&tokens], Hooks::new(), Some(reading), |_, _| Ok(())).unwrap();
    let along = along.into_inner();
    let [a, b, c] = [0, 1, 2].map(|i| along[&Site::Point(input + i)]);
    [b - a, c - b]
}

#[test]
fn what_a_block_writes_along_the_direction_grows_by_alpha_also_behind_norms() {
    for arch in [Arch::Llama, Arch::Gemma3, Arch::Olmo2] {
        let folder = tempdir();
        let tiny = Tiny::new(arch).seed(4);
        let model = tiny.write(folder.path());
        let file = direction(folder.path(), &tiny);
        let unit = Direction::read(&file).unwrap().unit().unwrap();
        let before = written(&model, &unit);
        for (i, part) in ["attention", "mlp"].into_iter().enumerate() {
            let out = folder.path().join(format!("{part}.gguf"));
            let more = ["--alpha", "0.5", "--parts", part, "-o", out.to_str().unwrap()];
            let output = repair(&model, &file, &more);
            assert!(output.status.success(), "{arch:?}: {}", stderr(&output));
            let growth = written(&out, &unit)[i] / before[i];
            assert!((growth / 1.5 - 1.0).abs() < 0.1, "{arch:?} {part}: {growth}");
        }
    }
}

#[test]
fn every_type_holds_the_edit_and_nothing_else_changes() {
    use GgmlType as T;
    for ty in [T::F16, T::BF16, T::Q8_0, T::Q6_K, T::Q4_K, T::Q4_0, T::Q4_1, T::Q5_K, T::Q2_K] {
        let folder = tempdir();
        let tiny = Tiny::new(Arch::Llama).ty(ty).seed(4);
        let model = tiny.write(folder.path());
        let direction = direction(folder.path(), &tiny);
        let out = folder.path().join("out.gguf");
        let more = ["--alpha", "1", "--json", "-o", out.to_str().unwrap()];
        let output = repair(&model, &direction, &more);
        let report = report(&output);
        for tensor in report["tensors"].as_array().unwrap() {
            let realised = tensor["realised_alpha"].as_f64().unwrap();
            assert!((realised - 1.0).abs() <= 0.03, "{ty}: {tensor}");
        }
        let (before, after) = (Model::open(&model).unwrap(), Model::open(&out).unwrap());
        let edited = ["blk.1.attn_output.weight", "blk.1.ffn_down.weight"];
        for tensor in before.tensors() {
            let same = after.tensor(&tensor.info.name).unwrap().data() == tensor.data();
            assert_eq!(same, !edited.contains(&tensor.info.name.as_str()), "{}", tensor.info.name);
        }
        let step = &history(after.kv())[0];
        assert_eq!((&step["verb"], &step["parameters"]["alpha"]), (&"repair".into(), &1.0.into()));
        assert_eq!(step["parameters"]["realised"].as_array().unwrap().len(), 2);
    }
}

#[test]
fn in_place_and_undone_the_file_is_the_same_to_the_byte() {
    use GgmlType as T;
    for ty in [T::F32, T::F16, T::Q8_0, T::Q6_K, T::Q4_K, T::Q4_0, T::Q2_K] {
        let folder = tempdir();
        let tiny = Tiny::new(Arch::Llama).ty(ty).seed(4);
        let model = tiny.write(folder.path());
        let direction = direction(folder.path(), &tiny);
        let (before, names) = (sha256(&model), names_in(folder.path()));
        let output = repair(&model, &direction, &["--alpha", "1", "--in-place", "--json"]);
        assert!(output.status.success(), "{}", stderr(&output));
        let report = report(&output);
        assert_eq!(report["journals"].as_array().unwrap().len(), 1);
        assert_eq!(report["in_history"], false, "no aird left room in this file");
        for tensor in report["tensors"].as_array().unwrap() {
            let off = (tensor["realised_alpha"].as_f64().unwrap() - 1.0).abs();
            assert!(off <= if ty == T::Q2_K { 0.10 } else { 0.03 }, "{tensor}");
            assert_eq!(tensor["from"], tensor["to"]);
        }
        assert_ne!(sha256(&model), before);
        let again = repair(&model, &direction, &["--alpha", "1", "--in-place"]);
        assert_eq!(again.status.code(), Some(1), "a second repair would lose the first's journal");
        let undone = aird().arg("undo").arg(&model).output().unwrap();
        assert!(undone.status.success(), "{}", stderr(&undone));
        assert_eq!(sha256(&model), before);
        assert_eq!(names_in(folder.path()), names);
    }
}

#[test]
fn what_aird_wrote_has_room_for_a_repair_in_place() {
    let folder = tempdir();
    let tiny = Tiny::new(Arch::Llama).ty(GgmlType::Q8_0).seed(4);
    let model = tiny.write(folder.path());
    let direction = direction(folder.path(), &tiny);
    let out = folder.path().join("out.gguf");
    let first = ["--alpha", "1", "-o", out.to_str().unwrap()];
    assert!(repair(&model, &direction, &first).status.success());
    let output = repair(&out, &direction, &["--alpha", "0.5", "--in-place", "--verify", "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(report(&output)["in_history"], true);
    let steps = history(Model::open(&out).unwrap().kv());
    assert_eq!(steps.len(), 2);
    assert_eq!(steps[1]["parameters"]["alpha"], 0.5);
    let edited = steps[1]["parameters"]["edited"].as_array().unwrap();
    assert_eq!(edited.len(), steps[1]["parameters"]["realised"].as_array().unwrap().len());
    assert_eq!(edited[1], "blk.1.ffn_down.weight");
    assert!(run(&[Path::new("undo"), &out]).status.success());
    assert_eq!(history(Model::open(&out).unwrap().kv()).len(), 1);
}

#[test]
fn a_repair_that_is_kept_is_told_beside_a_file_without_room_for_it() {
    let folder = tempdir();
    let tiny = Tiny::new(Arch::Llama).ty(GgmlType::Q8_0).seed(4);
    let model = tiny.write(folder.path());
    let direction = direction(folder.path(), &tiny);
    for alpha in ["1", "0.5"] {
        let output = repair(&model, &direction, &["--alpha", alpha, "--in-place"]);
        assert!(output.status.success(), "{}", stderr(&output));
        let kept = run(&[Path::new("undo"), &model, Path::new("--forget")]);
        assert!(stderr(&kept).contains("aird-history.json"), "{}", stderr(&kept));
    }
    let told = std::fs::read(aird::gguf::history_path(&model)).unwrap();
    let steps: Vec<Value> = serde_json::from_slice(&told).unwrap();
    let alphas: Vec<&Value> = steps.iter().map(|step| &step["parameters"]["alpha"]).collect();
    assert_eq!(alphas, [&Value::from(1.0), &Value::from(0.5)]);
}

#[test]
fn a_split_model_becomes_one_file_or_changes_in_its_shards() {
    let folder = tempdir();
    let tiny = Tiny::new(Arch::Llama).ty(GgmlType::Q8_0).seed(4).shards(2);
    let model = tiny.write(folder.path());
    let direction = direction(folder.path(), &tiny);
    let (before, names) = (sha256(&model), names_in(folder.path()));
    let output = repair_at("0,1", &model, &direction, &["--alpha", "1", "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let one = folder.path().join("tiny-llama-AIRD-Q8_0.gguf");
    assert_eq!(report(&output)["files"][0]["path"], one.to_str().unwrap());
    let one_file = Model::open(&one).unwrap();
    let more = ["--alpha", "1", "--in-place", "--json"];
    let output = repair_at("0,1", &model, &direction, &more);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(report(&output)["files"].as_array().unwrap().len(), 2);
    let shards = Model::open(&model).unwrap();
    for tensor in one_file.tensors() {
        assert!(shards.tensor(&tensor.info.name).unwrap().data() == tensor.data());
    }
    assert!(run(&[Path::new("undo"), &model]).status.success());
    std::fs::remove_file(one).unwrap();
    assert_eq!((sha256(&model), names_in(folder.path())), (before, names));
}

#[test]
fn an_expert_that_writes_nothing_does_not_decide_for_the_others() {
    use aird::gguf::{Ask, Layout, Replacement, Rewrite, Unwatched};
    let folder = tempdir();
    let tiny = Tiny::new(Arch::Qwen3Moe).ty(GgmlType::Q4_0).seed(4);
    let model = tiny.write(folder.path());
    let direction = direction(folder.path(), &tiny);
    let dead = folder.path().join("dead.gguf");
    let before = Model::open(&model).unwrap();
    let mut rewrite = Rewrite::new(&before, Layout::Single);
    let experts = before.tensor("blk.1.ffn_down_exps.weight").unwrap();
    // The first expert is all zeros: 0x88 are codes of 0 in Q4_0, behind a scale of 0.
    let produce = move |rows: std::ops::Range<u64>, out: &mut [u8]| {
        out.copy_from_slice(experts.rows(rows));
        let n = out.len() / 4;
        out[..n].chunks_mut(18).for_each(|block| {
            block[..2].fill(0);
            block[2..].fill(0x88);
        });
        Ok(())
    };
    let new = Replacement { ty: GgmlType::Q4_0, ask: Ask::Whole, produce: Box::new(produce) };
    rewrite.replace(&experts.info.name, new).unwrap();
    rewrite.write(&dead, false, &Unwatched).unwrap();
    let out = folder.path().join("out.gguf");
    let more = ["--alpha", "1", "--parts", "mlp", "--json", "-o", out.to_str().unwrap()];
    let output = repair(&dead, &direction, &more);
    assert!(output.status.success(), "{}", stderr(&output));
    let tensor = &report(&output)["tensors"][0];
    assert_eq!((&tensor["from"], &tensor["to"]), (&"Q4_0".into(), &"Q4_0".into()));
    assert!((tensor["realised_alpha"].as_f64().unwrap() - 1.0).abs() < 0.03, "{tensor}");
}

#[cfg(unix)]
#[test]
fn killed_at_random_moments_an_in_place_repair_can_always_be_undone() {
    use std::time::Instant;
    let folder = tempdir();
    // F32 and every block: the write takes a good part of the time.
    let tiny = Tiny::new(Arch::Llama).blocks(8).seed(4);
    let model = tiny.write(folder.path());
    let direction = direction(folder.path(), &tiny);
    let before = sha256(&model);
    let start = || {
        let mut command = aird();
        command.arg("repair").arg(&model).arg("--direction").arg(&direction);
        command.args(["--block", "0,1,2,3,4,5,6,7", "--alpha", "1", "--in-place", "-q"]);
        let null = || std::process::Stdio::null();
        command.stdout(null()).stderr(null()).spawn().unwrap()
    };
    let undo = || run(&[Path::new("undo"), &model]);
    let journal = || names_in(folder.path()).iter().any(|n| n.contains("aird-undo"));
    // How long it runs until it writes, and how long it writes.
    let timed = || {
        let (begun, mut child) = (Instant::now(), start());
        while !journal() {
            assert!(begun.elapsed().as_secs() < 60, "no journal was written");
        }
        let until = begun.elapsed();
        assert!(child.wait().unwrap().success());
        let writing = begun.elapsed() - until;
        assert!(undo().status.success() && sha256(&model) == before);
        (until, writing)
    };
    // The shortest of some: the first run reads everything from the disk.
    let (until, writing) = (0..3).map(|_| timed()).min().unwrap();
    let (mut killed, mut within, mut half) = (0, 0, 0);
    for i in 0..400u32 {
        if i >= 60 && killed >= 50 && within >= 10 && half >= 3 {
            break;
        }
        let (begun, mut child) = (Instant::now(), start());
        // Now and then at any moment before the write, else at one of the write itself: that is
        // waited for, as its time from the start says little on a busy machine.
        if i % 4 == 0 {
            std::thread::sleep(until * (i % 60) / 60);
        } else {
            while !journal() && begun.elapsed().as_secs() < 60 {}
            std::thread::sleep(writing * (i % 20) / 20);
        }
        let _ = child.kill();
        let by_signal = child.wait().unwrap().code().is_none();
        killed += u32::from(by_signal);
        within += u32::from(by_signal && journal());
        half += u32::from(by_signal && sha256(&model) != before);
        // Nothing to undo is fine: it was killed before it began.
        let _ = undo();
        assert_eq!(sha256(&model), before, "kill {i}");
    }
    assert!(run(&[Path::new("verify"), &model]).status.success());
    assert!(killed >= 50 && within >= 10 && half >= 3, "{killed} killed, {within} {half} in it");
}

#[test]
fn the_same_settings_give_the_same_bytes_whatever_the_threads() {
    let folder = tempdir();
    let tiny = Tiny::new(Arch::Qwen3Moe).ty(GgmlType::Q4_0).seed(4);
    let model = tiny.write(folder.path());
    let direction = direction(folder.path(), &tiny);
    let make = |threads: &str| {
        let out = folder.path().join(format!("out-{threads}.gguf"));
        let mut command = aird();
        command.env("RAYON_NUM_THREADS", threads).arg("repair").arg(&model).arg("--direction");
        command.arg(&direction).args(["--block", "0", "--alpha", "1", "-o"]).arg(&out);
        assert!(command.output().unwrap().status.success());
        std::fs::read(out).unwrap()
    };
    assert!(make("1") == make("4"));
}
