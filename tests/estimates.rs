//! A dry run reports how long the run would take, and leaves nothing on the disk. How long it
//! takes is measured by the bench `estimates`: no test asserts a time.

use std::path::{Path, PathBuf};

use aird::gguf::GgmlType;
use aird::verbs::repair::Report as Repaired;
use aird::verbs::{asr, merge, prune, quantize};
use serde_json::Value;

use crate::support::{
    Adapter, Arch, TempDir, Tiny, direction, is_report, json, names_in, root, run, stdout, tempdir,
};

/// A tiny model, and what verbs need beside it.
struct Scene {
    folder: TempDir,
    tiny: Tiny,
    model: PathBuf,
}

impl Scene {
    fn new() -> Scene {
        let folder = tempdir();
        let tiny = Tiny::new(Arch::Llama).ty(GgmlType::F16).seed(1);
        let model = tiny.write(folder.path());
        Scene { folder, tiny, model }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The report of `aird VERB MODEL WORDS -o out.gguf`.
    fn report(&self, verb: &str, words: &[&str]) -> Value {
        let out = self.path("out.gguf");
        let mut all = vec![Path::new(verb), &self.model, Path::new("-o"), &out];
        all.extend(words.iter().map(Path::new));
        json(&all)
    }

    /// That of a dry run, which leaves the folder as it was.
    fn planned(&self, verb: &str, words: &[&str]) -> Value {
        let before = names_in(self.folder.path());
        let report = self.report(verb, &[words, &["--dry-run"]].concat());
        assert_eq!(names_in(self.folder.path()), before, "{verb} {words:?}");
        report
    }
}

const PRUNE: [&str; 4] = ["--method", "magnitude", "--sparsity", "0.5"];

fn is_a_time(seconds: Option<f64>) -> bool {
    seconds.is_some_and(|seconds| seconds > 0.0 && seconds.is_finite())
}

#[test]
fn a_dry_run_estimates_the_time_and_a_real_run_does_not() {
    let scene = Scene::new();
    let planned: prune::Report = is_report(scene.planned("prune", &PRUNE));
    assert!(is_a_time(planned.estimated_seconds), "{planned:?}");
    let done: prune::Report = is_report(scene.report("prune", &PRUNE));
    assert_eq!(done.estimated_seconds, None);

    let rounded = ["--method", "rtn", "--type", "q4_0"];
    let planned: quantize::Report = is_report(scene.planned("quantize", &rounded));
    assert!(is_a_time(planned.estimated_seconds), "{planned:?}");

    let adapter = Adapter::new(&scene.tiny, &["blk.0.ffn_up.weight"]).write(scene.folder.path());
    let lora = ["--lora", adapter.to_str().unwrap()];
    let planned: merge::Report = is_report(scene.planned("merge", &lora));
    assert!(is_a_time(planned.estimated_seconds), "{planned:?}");
}

#[test]
fn a_repair_at_a_given_place_is_estimated_where_a_new_file_is_written() {
    let scene = Scene::new();
    let direction = direction(scene.folder.path(), &scene.tiny);
    let direction = direction.to_str().unwrap();
    let given = ["--direction", direction, "--block", "1", "--alpha", "1", "--threads", "1"];
    let edited = |report| match is_report(report) {
        Repaired::Edited(report) => report,
        restored => panic!("{restored:?}"),
    };
    let planned = edited(scene.planned("repair", &given));
    assert!(is_a_time(planned.estimated_seconds), "{planned:?}");
    assert_eq!(edited(scene.report("repair", &given)).estimated_seconds, None);
    let words = [&["repair"], &[scene.model.to_str().unwrap()][..], &given].concat();
    let in_place: Vec<&Path> =
        words.iter().chain(&["--in-place", "--dry-run"]).map(Path::new).collect();
    assert_eq!(edited(json(&in_place)).estimated_seconds, None);
}

#[test]
fn what_must_be_collected_first_has_no_estimate() {
    let scene = Scene::new();
    let text = root().join("fixtures/imatrix/text.txt");
    let data = ["--data", text.to_str().unwrap(), "--ctx", "64", "--samples", "4"];
    for (verb, words) in [
        ("prune", &["--method", "wanda", "--sparsity", "0.5"][..]),
        ("prune", &["--method", "sparsegpt", "--sparsity", "0.5"]),
        ("quantize", &["--method", "awq", "--type", "q4_0"]),
        ("quantize", &["--method", "gptq", "--type", "q4_0"]),
    ] {
        let planned = scene.planned(verb, &[words, &data].concat());
        assert!(planned["computed_bytes"].is_u64(), "{verb} {words:?}: {planned}");
        assert!(planned["estimated_seconds"].is_null(), "{verb} {words:?}: {planned}");
    }
}

#[test]
fn the_time_is_one_plain_sentence() {
    let scene = Scene::new();
    let out = scene.path("out.gguf");
    let mut words = vec![Path::new("prune"), &scene.model, Path::new("-o"), &out];
    words.extend(PRUNE.iter().chain(&["--dry-run"]).map(Path::new));
    let text = stdout(&run(&words));
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("it would take ") && last.ends_with(" here"), "{text}");
}

#[test]
fn a_dry_run_of_asr_counts_what_would_be_asked_and_makes_no_answer() {
    let scene = Scene::new();
    let folder = scene.path("answers");
    let mut words = vec![Path::new("asr"), &scene.model, Path::new("--transcripts"), &folder];
    let more = ["--limit", "3", "--max-tokens", "4", "--threads", "1", "--chat-template", "none"];
    words.extend(more.iter().chain(&["--dry-run"]).map(Path::new));
    let before = names_in(scene.folder.path());
    let planned: asr::PlanReport = is_report(json(&words));
    assert_eq!(names_in(scene.folder.path()), before);
    // Harmful, borderline and harmless ones.
    assert_eq!((planned.n_prompts, planned.n_answers, planned.max_tokens), (9, 9, 4));
    assert!(planned.prompt_tokens > 0 && planned.estimated_seconds.is_some(), "{planned:?}");
    let text = stdout(&run(&words));
    assert!(text.contains("would ask 9 prompts and make 9 answers, of 4 tokens at most"), "{text}");
    assert!(text.contains(" here at most, less where answers end before 4 tokens"), "{text}");
}
