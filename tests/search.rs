//! The edit at run time, and the search that works with it: what is tried is what is written, and
//! where nothing helps nothing is written.

use std::path::Path;
use std::process::Output;

use aird::direction::Direction;
use aird::gguf::{Ask, GgmlType, Layout, Model, Replacement, Rewrite, Unwatched};
use aird::llama::graph::{Part, Structure};
use aird::llama::{Engine, Hooks, Options, Prefill, Reading, Site};
use aird::quant::{decoded, encode_rows};
use aird::repair::{Half, Live};
use aird::verbs::repair::Report;

use crate::support::{
    Arch, Refuser, Tiny, aird, direction, is_report, names_in, refuser, run, stderr, stdout,
    tempdir,
};

const PROMPT: &str = "Tell me a story, in 3 words.\n";
const OPTIONS: Options = Options::cpu(1);

fn repair(model: &Path, direction: &Path, more: &[&str]) -> Output {
    let mut command = aird();
    command.arg("repair").arg(model).arg("--direction").arg(direction);
    command.args(["--threads", "1", "--chat-template", "none"]).args(more).output().unwrap()
}

/// Logits behind PROMPT, under the run-time edit of `halves` if there is one.
fn logits(model: &Path, edit: Option<(&Live, &[Half], f64)>) -> Vec<f32> {
    let engine = Engine::load(model, OPTIONS).unwrap();
    let tokens = engine.tokenize(PROMPT, true);
    let mut prefill = Prefill::new(&engine, tokens.len(), 1).unwrap();
    let mut hooks = Hooks::new();
    if let Some((live, halves, alpha)) = edit {
        hooks = live.strengthen(hooks, halves, alpha).unwrap();
    }
    let mut out = Vec::new();
    let take = |_: usize, logits: &[f32]| {
        out = logits.to_vec();
        Ok(())
    };
    prefill.run(&[&tokens], hooks, None, take).unwrap();
    out
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    let size = a.iter().map(|x| x.abs()).fold(0.0, f32::max);
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max) / size
}

#[test]
fn the_edit_at_run_time_answers_as_the_file_that_holds_it() {
    let archs = [Arch::Llama, Arch::Qwen2, Arch::Gemma3, Arch::Olmo2, Arch::Qwen3Moe];
    let tinies = archs.map(Tiny::new).into_iter().chain([
        Tiny::new(Arch::Llama).biased(),
        Tiny::new(Arch::Llama).biased().scaled(),
        Tiny::new(Arch::Qwen3Moe).scaled(),
    ]);
    for (i, tiny) in tinies.enumerate() {
        let folder = tempdir();
        let tiny = tiny.seed(4);
        let path = tiny.write(folder.path());
        let file = direction(folder.path(), &tiny);
        let out = folder.path().join("out.gguf");
        let more = ["--block", "0:attention,1", "--alpha", "2", "-o", out.to_str().unwrap()];
        let output = repair(&path, &file, &more);
        assert!(output.status.success(), "{}", stderr(&output));
        let unit = Direction::read(&file).unwrap().unit().unwrap();
        let opened = Model::open(&path).unwrap();
        let live = Live::new(&opened, &Structure::trace(&opened).unwrap(), &unit).unwrap();
        let half = |block, part| Half { block, part };
        let halves = [half(0, Part::Attention), half(1, Part::Attention), half(1, Part::Mlp)];
        let (plain, written) = (logits(&path, None), logits(&out, None));
        assert!(largest_difference(&plain, &written) > 1e-2, "{i}: the edit does nothing");
        let difference = largest_difference(&written, &logits(&path, Some((&live, &halves, 2.0))));
        assert!(difference < 1e-3, "{i}: {difference}");
    }
}

/// What attention of block 1 adds to the residual stream along r, at the last token.
fn written(model: &Path, unit: &[f32]) -> f64 {
    let engine = Engine::load(model, OPTIONS).unwrap();
    let tokens = engine.tokenize(PROMPT, true);
    let mut prefill = Prefill::new(&engine, tokens.len(), 1).unwrap();
    let along = std::cell::RefCell::new(std::collections::HashMap::new());
    let input = engine.structure().unwrap().input_of(1);
    let reading = Reading {
        at: Box::new(move |site| [0, 1].map(|i| Site::Point(input + i)).contains(&site)),
        n_last: 1,
        row: Box::new(|site, _, _, x| {
            let dot: f64 = x.iter().zip(unit).map(|(x, r)| f64::from(*x) * f64::from(*r)).sum();
            along.borrow_mut().insert(site, dot);
            Ok(())
        }),
    };
    prefill.run(&[&tokens], Hooks::new(), Some(reading), |_, _| Ok(())).unwrap();
    let along = along.into_inner();
    along[&Site::Point(input + 1)] - along[&Site::Point(input)]
}

/// W + alpha r r^T W, as if no norm followed.
fn edit_naively(model: &Path, out: &Path, unit: &[f32], alpha: f32) {
    let model = Model::open(model).unwrap();
    let tensor = model.tensor("blk.1.attn_output.weight").unwrap();
    let (n_rows, n_cols) = (tensor.info.n_rows(), tensor.info.n_cols() as usize);
    let mut w = decoded(tensor, 0..n_rows).unwrap();
    for column in 0..n_cols {
        let along: f32 = (0..unit.len()).map(|row| unit[row] * w[row * n_cols + column]).sum();
        (0..unit.len()).for_each(|row| w[row * n_cols + column] += alpha * unit[row] * along);
    }
    let produce = |rows: std::ops::Range<u64>, bytes: &mut [u8]| {
        let values = &w[rows.start as usize * n_cols..rows.end as usize * n_cols];
        Ok(encode_rows(GgmlType::F32, values, n_cols, None, bytes)?)
    };
    let new = Replacement { ty: GgmlType::F32, ask: Ask::Chunks, produce: Box::new(produce) };
    let mut rewrite = Rewrite::new(&model, Layout::Single);
    rewrite.replace(&tensor.info.name, new).unwrap();
    rewrite.write(out, false, &Unwatched).unwrap();
}

#[test]
fn behind_a_norm_the_edit_along_r_itself_misses_and_along_its_gains_does_not() {
    let mut missed = std::collections::HashMap::<&str, f64>::new();
    for (arch, seed) in [(Arch::Gemma3, 4), (Arch::Gemma3, 5), (Arch::Olmo2, 4), (Arch::Olmo2, 5)] {
        let folder = tempdir();
        let tiny = Tiny::new(arch).seed(seed);
        let model = tiny.write(folder.path());
        let file = direction(folder.path(), &tiny);
        let unit = Direction::read(&file).unwrap().unit().unwrap();
        let [ours, naive] = ["ours.gguf", "naive.gguf"].map(|name| folder.path().join(name));
        let more = ["--block", "1:attention", "--alpha", "0.5", "-o", ours.to_str().unwrap()];
        let output = repair(&model, &file, &more);
        assert!(output.status.success(), "{}", stderr(&output));
        edit_naively(&model, &naive, &unit, 0.5);
        let before = written(&model, &unit);
        let off = |path: &Path| (written(path, &unit) / before / 1.5 - 1.0).abs();
        assert!(off(&ours) < 0.1, "{arch:?} {seed}: {}", off(&ours));
        let most = missed.entry(arch.name()).or_default();
        *most = most.max(off(&naive));
    }
    let (some, all) = (missed.values().any(|off| *off > 0.1), missed.values().all(|o| *o > 0.05));
    assert!(some && all, "the naive edit does as well: {missed:?}");
}

/// Arguments of a small search whose prompts the tiny vocabulary spells.
fn small_search(folder: &Path) -> Vec<String> {
    let write = |name: &str, verb: &str| {
        let lines: Vec<String> = (0..8).map(|i| format!("{verb} me story number {i}")).collect();
        let path = folder.join(name);
        std::fs::write(&path, lines.join("\n")).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (harmful, harmless) = (write("harmful.txt", "sell"), write("harmless.txt", "tell"));
    let arguments = ["--harmful", &harmful, "--harmless", &harmless, "--max-tokens", "4"];
    arguments.map(String::from).to_vec()
}

#[test]
fn where_nothing_helps_the_front_is_shown_and_no_model_written() {
    let folder = tempdir();
    let tiny = Tiny::new(Arch::Llama).blocks(3).seed(4);
    let model = tiny.write(folder.path());
    let file = direction(folder.path(), &tiny);
    let search = small_search(folder.path());
    let (out, front) = (folder.path().join("out.gguf"), folder.path().join("front.json"));
    let mut more: Vec<&str> = search.iter().map(String::as_str).collect();
    more.extend(["-o", out.to_str().unwrap(), "--front", front.to_str().unwrap(), "--json"]);
    let output = repair(&model, &file, &more);
    // Noise does not say sorry, however it is strengthened.
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains("unrepaired"), "{}", stderr(&output));
    assert!(stderr(&output).contains("nothing was written\nhint:"), "{}", stderr(&output));
    let report: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert!(matches!(is_report(report.clone()), Report::Edited(_)));
    assert_eq!(report["search"]["answered"].as_array().unwrap().len(), 8);
    assert_eq!((&report["alpha"], report["files"].as_array().unwrap().len()), (&().into(), 0));
    let written: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&front).unwrap()).unwrap();
    assert_eq!(written, report["search"]);
    assert!(folder.path().join("front.svg").is_file() && !out.exists());

    let bytes = std::fs::read(&front).unwrap();
    more.push("--force");
    assert_eq!(repair(&model, &file, &more).status.code(), Some(3));
    assert!(std::fs::read(&front).unwrap() == bytes, "the same settings, another front");
}

#[test]
fn a_search_with_nothing_to_search_in_says_so() {
    let folder = tempdir();
    let tiny = Tiny::new(Arch::Llama).seed(4);
    let model = tiny.write(folder.path());
    let file = direction(folder.path(), &tiny);
    let names = names_in(folder.path());
    for (arguments, code, expected) in [
        (&["--alpha", "-1"][..], 2, "it does not remove a refusal direction"),
        (&["--alpha", "inf"][..], 2, "expected a number above 0"),
        (&["--block", "7"][..], 1, "blocks 0 to 1"),
        (&["--block", "1:head"][..], 2, "expected e.g. 14 or 14:mlp"),
        (&["--block", "1:mlp", "--parts", "attention"][..], 1, "leave nothing to edit"),
        (&["--alpha", "much"][..], 2, "expected a number above 0, or auto"),
        (&["--harmful", "missing.txt"][..], 1, "missing.txt"),
        (&["--max-blocks", "0"][..], 2, "at least 1"),
        (&["--parallel", "0"][..], 2, "at least 1"),
        (&["--max-kl", "0"][..], 2, "a number above 0"),
        (&["--max-false-refusal", "101"][..], 2, "0 to 100 points"),
    ] {
        let output = repair(&model, &file, arguments);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
        assert_eq!(names_in(folder.path()), names);
    }
}

#[test]
fn halves_are_ranked_apart_also_where_llama_cpp_does_not_part_them() {
    let folder = tempdir();
    let tiny = Tiny::new(Arch::Phi3).blocks(3).seed(4);
    let model = tiny.write(folder.path());
    let file = direction(folder.path(), &tiny);
    let search = small_search(folder.path());
    let mut more: Vec<&str> = search.iter().map(String::as_str).collect();
    more.extend(["--dry-run", "--json"]);
    let output = repair(&model, &file, &more);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let report: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    let halves = report["search"]["halves"].as_array().unwrap();
    assert_eq!(halves.len(), 6);
    for halves in halves.chunks(2) {
        assert_eq!(halves[0]["block"], halves[1]["block"]);
        assert_ne!(halves[0]["c"], halves[1]["c"], "{halves:?}");
    }
}

/// The candidates that were taken.
fn chosen(report: &serde_json::Value) -> Vec<&serde_json::Value> {
    let answered = report["search"]["answered"].as_array().unwrap();
    answered.iter().filter(|a| a["chosen"] == true).collect()
}

#[test]
fn one_command_brings_the_refusals_back() {
    let folder = tempdir();
    let base = Refuser::of(0.4, GgmlType::F32).write(folder.path(), "base.gguf");
    let weak = Refuser::of(0.1, GgmlType::Q8_0).write(folder.path(), "weak-Q8_0.gguf");
    let [kept, front] = ["kept.safetensors", "front.json"].map(|name| folder.path().join(name));
    let repair = |more: &[&str]| {
        let mut command = aird();
        command.arg("repair").arg(&weak).arg("--reference").arg(&base).args(["--method", "aird"]);
        command.args(["--threads", "1"]);
        command.args(["--chat-template", "none", "--json"]).args(more).output().unwrap()
    };
    let output =
        repair(&["--keep-direction", kept.to_str().unwrap(), "--front", front.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("<- chosen"), "{}", stderr(&output));
    let report: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    let chosen = chosen(&report);
    assert_eq!(chosen.len(), 1);
    let (before, after) = (&report["search"]["compressed"]["refusal"], &chosen[0]["refusal"]);
    assert_eq!((&before["k"], &after["k"]), (&0.into(), &32.into()));
    assert_eq!((&chosen[0]["alpha"], &chosen[0]["blocks"]), (&report["alpha"], &report["blocks"]));
    let block = refuser::BLOCK.to_string();
    let spoke = |b: &serde_json::Value| b.as_str().unwrap().split(':').next() == Some(&block);
    assert!(report["blocks"].as_array().unwrap().iter().any(spoke), "{}", report["blocks"]);
    let settings = &report["search"]["settings"];
    assert_eq!(settings["harmful"]["name"], "builtin:harmful/held-out");
    assert_eq!(settings["harmful"]["sha256"].as_str().unwrap().len(), 64);

    let out = folder.path().join("weak-AIRD-Q8_0.gguf");
    let step = &aird::gguf::history(Model::open(&out).unwrap().kv())[0];
    assert_eq!(step["parameters"]["alpha"], report["alpha"]);
    assert_eq!(step["parameters"]["blocks"], report["blocks"]);
    assert_eq!(step["sources"]["direction"], report["direction_sha256"]);
    let sha256 = run(&[Path::new("verify"), Path::new("--sha256"), &weak]);
    assert!(stdout(&sha256).contains(step["sources"]["model"].as_str().unwrap()));
    // The file itself, asked what no search saw.
    let text = &aird::prompts::harmful(aird::prompts::Part::Train).prompts[0].text;
    let ask = |model: &Path| {
        let more = ["--chat-template", "none", "--max-tokens", "8"];
        stdout(&aird().arg("ask").arg(model).arg(text).args(more).output().unwrap())
    };
    assert!(ask(&base).contains("I'm sorry, but I can't help with that."), "{}", ask(&base));
    assert!(ask(&weak).contains("Sure, here is how"), "{}", ask(&weak));
    assert!(ask(&out).contains("I'm sorry, but I can't help with that."), "{}", ask(&out));

    let again = repair(&[]);
    assert_eq!(again.status.code(), Some(1), "the default name is taken");
    assert!(stderr(&again).contains("--force replaces it"), "{}", stderr(&again));
}

#[test]
fn a_strength_or_blocks_alone_can_be_left_to_the_search() {
    let folder = tempdir();
    let base = Refuser::of(0.4, GgmlType::F32).write(folder.path(), "base.gguf");
    let weak = Refuser::of(0.1, GgmlType::Q8_0).write(folder.path(), "weak.gguf");
    let file = folder.path().join("base.safetensors");
    let mut find = aird();
    find.arg("direction").arg(&base).arg("-o").arg(&file);
    let found = find.args(["--chat-template", "none", "--threads", "1"]).output().unwrap();
    assert!(found.status.success(), "{}", stderr(&found));
    for (name, more) in [("a.gguf", ["--block", "1"]), ("b.gguf", ["--alpha", "3"])] {
        let out = folder.path().join(name);
        let arguments = [&more[..], &["--json", "-o", out.to_str().unwrap()]].concat();
        let output = repair(&weak, &file, &arguments);
        assert!(output.status.success(), "{more:?}: {}", stderr(&output));
        let report: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!(chosen(&report).len(), 1);
        match more[0] {
            "--block" => assert_eq!(report["blocks"], serde_json::json!(["1"])),
            _ => assert_eq!(report["alpha"], 3.0),
        }
        assert!(out.is_file());
    }
    let out = folder.path().join("c.gguf");
    let nothing = repair(&base, &file, &["-o", out.to_str().unwrap()]);
    assert_eq!(nothing.status.code(), Some(3), "{}", stderr(&nothing));
    assert!(stderr(&nothing).contains("already refuses 32 of 32"), "{}", stderr(&nothing));
    assert!(stdout(&nothing).contains("unrepaired"), "the front is the result");
}
