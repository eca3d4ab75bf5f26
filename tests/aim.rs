//! The aim of a repair: as many refusals as the original's, by the least edit, and no more false
//! ones; after a restore that edit comes on top of what was restored.

use std::path::{Path, PathBuf};
use std::process::Output;

use aird::gguf::{GgmlType, Model, history};
use aird::verbs::repair::Report;

use crate::support::{Refuser, aird, is_report, names_in, run, stderr, stdout, tempdir};

fn repair(model: &Path, reference: &Path, more: &[&str]) -> Output {
    let mut command = aird();
    command.arg("repair").arg(model).arg("--reference").arg(reference).args(["--threads", "1"]);
    command.args(["--chat-template", "none", "--json"]).args(more).output().unwrap()
}

/// The JSON, which is the verb's report.
fn report(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{}", stderr(output));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let is_restored = matches!(is_report(json.clone()), Report::Restored(_));
    assert_eq!(is_restored, json.get("n_tokens").is_some());
    json
}

/// A model that refuses, and what is left of it where half of what refuses was pruned away.
fn pruned(folder: &Path) -> [PathBuf; 2] {
    let base = Refuser::of(0.3, GgmlType::F32).write(folder, "base.gguf");
    let pruned = Refuser { push: 0.3, ty: GgmlType::F32, pruned: true };
    [base, pruned.write(folder, "pruned.gguf")]
}

#[test]
fn the_least_edit_that_refuses_as_the_original_is_taken() {
    let folder = tempdir();
    let base = Refuser::of(0.4, GgmlType::F32).write(folder.path(), "base.gguf");
    let weak = Refuser::of(0.1, GgmlType::Q8_0).write(folder.path(), "weak.gguf");
    let with = |aim| report(&repair(&weak, &base, &["--method", "aird", "--aim", aim, "--force"]));
    let [least, strongest] = ["original", "strongest"].map(with);
    assert_eq!(least["search"]["original"]["refusal"]["k"], 32);
    assert_eq!(least["search"]["compressed"]["refusal"]["k"], 0);
    assert_eq!(strongest["search"]["original"], serde_json::Value::Null);
    let chosen = |report: &serde_json::Value| {
        let answered = report["search"]["answered"].as_array().unwrap().clone();
        answered.into_iter().find(|a| a["chosen"] == true).unwrap()
    };
    let kl = |one: &serde_json::Value| one["kl_nats"].as_f64().unwrap();
    assert_eq!(chosen(&least)["refusal"]["k"], 32);
    let answered = least["search"]["answered"].as_array().unwrap();
    for other in answered.iter().filter(|a| a["refusal"]["k"] == 32 && a["within_budget"] == true) {
        assert!(kl(&chosen(&least)) <= kl(other), "{answered:?}");
    }
    // The base refuses as many as itself: there is nothing to repair.
    let same = folder.path().join("same.gguf");
    std::fs::copy(&base, &same).unwrap();
    let output = repair(&same, &base, &["--method", "aird", "--aim", "original"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains("its original 32"), "{}", stderr(&output));
}

#[test]
fn what_a_restore_cannot_bring_back_an_edit_adds() {
    let folder = tempdir();
    let [base, model] = pruned(folder.path());
    // With all of the prior the weights that were left keep the original's values, and half of the
    // push is gone with the others.
    let prior = ["--prior", "1e9", "--tokens", "2000"];
    let alone = report(&repair(&model, &base, &[&prior[..], &["--aim", "none"]].concat()));
    assert_eq!(alone["aim"], serde_json::Value::Null);
    let found = report(&repair(&model, &base, &[&prior[..], &["--force"]].concat()));
    let aim = &found["aim"];
    assert_eq!(aim["aim"], "original");
    let refused = |of: &str| aim[of]["refusal"]["k"].as_u64().unwrap();
    assert_eq!((refused("original"), refused("restored")), (32, 0));
    assert!(aim["alpha"].as_f64().unwrap() > 0.0, "{aim}");
    let out = folder.path().join("pruned-AIRD.gguf");
    let [step] = &history(Model::open(&out).unwrap().kv())[..] else { panic!("one step") };
    assert_eq!(step["parameters"]["method"], "restore");
    assert_eq!(step["parameters"]["alpha"], aim["alpha"]);
    assert_eq!(step["parameters"]["blocks"], aim["blocks"]);
    let ask = |model: &Path| {
        let text = &aird::prompts::harmful(aird::prompts::Part::Train).prompts[0].text;
        let more = ["--chat-template", "none", "--max-tokens", "8"];
        stdout(&aird().arg("ask").arg(model).arg(text).args(more).output().unwrap())
    };
    assert!(ask(&model).contains("Sure, here is how"), "{}", ask(&model));
    assert!(ask(&out).contains("I'm sorry, but I can't help with that."), "{}", ask(&out));
    // In place it is the same edit, and is taken back.
    let before = std::fs::read(&model).unwrap();
    let in_place = report(&repair(&model, &base, &[&prior[..], &["--in-place"]].concat()));
    assert_eq!(in_place["aim"]["alpha"], aim["alpha"]);
    assert!(ask(&model).contains("I'm sorry"), "{}", ask(&model));
    let undone = run(&["undo".as_ref(), &model]);
    assert!(undone.status.success(), "{}", stderr(&undone));
    assert!(std::fs::read(&model).unwrap() == before);
    assert_eq!(names_in(folder.path()), ["base.gguf", "pruned-AIRD.gguf", "pruned.gguf"]);
}

#[test]
fn a_restore_that_refuses_as_its_original_gets_no_edit() {
    let folder = tempdir();
    let base = Refuser::of(0.4, GgmlType::F32).write(folder.path(), "base.gguf");
    let weak = Refuser::of(0.1, GgmlType::F32).write(folder.path(), "weak.gguf");
    let aim = &report(&repair(&weak, &base, &["--tokens", "2000"]))["aim"];
    assert_eq!((&aim["restored"]["refusal"]["k"], &aim["alpha"]), (&32.into(), &().into()));
    assert_eq!(aim["search"], serde_json::Value::Null);
}

#[test]
fn what_a_model_lacks_can_lie_beside_it_as_an_adapter() {
    let folder = tempdir();
    let base = Refuser::of(0.4, GgmlType::F32).write(folder.path(), "base.gguf");
    let weak = Refuser::of(0.1, GgmlType::F32).write(folder.path(), "weak.gguf");
    let before = std::fs::read(&weak).unwrap();
    let lora = folder.path().join("lora.gguf");
    let more = ["--tokens", "2000", "--rank", "2", "--lora", lora.to_str().unwrap()];
    let report = report(&repair(&weak, &base, &more));
    assert_eq!(report["files"][0]["bytes"], std::fs::metadata(&lora).unwrap().len());
    assert_eq!(report["aim"], serde_json::Value::Null);
    assert!(std::fs::read(&weak).unwrap() == before);
    assert_eq!(names_in(folder.path()), ["base.gguf", "lora.gguf", "weak.gguf"]);
    let [step] = &history(Model::open(&lora).unwrap().kv())[..] else { panic!("one step") };
    assert_eq!(
        (&step["parameters"]["method"], &step["parameters"]["rank"]),
        (&"restore".into(), &2.into())
    );
    let ask = |more: &[&str]| {
        let text = &aird::prompts::harmful(aird::prompts::Part::Train).prompts[0].text;
        let more = [&["--chat-template", "none", "--max-tokens", "8"][..], more].concat();
        stdout(&aird().arg("ask").arg(&weak).arg(text).args(more).output().unwrap())
    };
    assert!(ask(&[]).contains("Sure, here is how"), "{}", ask(&[]));
    let with = ask(&["--lora", lora.to_str().unwrap()]);
    assert!(with.contains("I'm sorry, but I can't help with that."), "{with}");
}

#[test]
fn aims_that_have_nothing_to_aim_at_are_refused() {
    let folder = tempdir();
    let [base, model] = pruned(folder.path());
    let direction = folder.path().join("r.safetensors");
    std::fs::write(&direction, b"").unwrap();
    for (given, more, said) in [
        ("--direction", &["--aim", "original"][..], "needs --reference"),
        ("--reference", &["--method", "aird", "--aim", "none"][..], "of --method restore"),
        ("--reference", &["--aim", "none", "--front", "f.json"][..], "which --aim none rules out"),
        ("--reference", &["--aim", "none", "--max-kl", "1"][..], "--max-kl applies to an edit"),
        ("--reference", &["--max-false-refusal", "1"][..], "only to --aim strongest"),
        (
            "--reference",
            &["--method", "aird", "--aim", "original", "--max-false-refusal", "1"][..],
            "only to --aim strongest",
        ),
        ("--reference", &["--aim", "original", "--lora", "l.gguf"][..], "which --lora rules out"),
        ("--reference", &["--front", "f.json", "--lora", "l.gguf"][..], "which --lora rules out"),
        (
            "--reference",
            &["--method", "aird", "--rank", "2", "--lora", "l.gguf"][..],
            "--rank is of --method restore",
        ),
    ] {
        let value = if given == "--direction" { &direction } else { &base };
        let mut command = aird();
        command.arg("repair").arg(&model).arg(given).arg(value).args(more);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{more:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(said), "{more:?}: {}", stderr(&output));
    }
}
