//! What a verb prints with `--json` is its report: it reads as the verb's `Report`, and that writes
//! the same JSON.

use std::fmt::Debug;
use std::path::Path;

use aird::verbs::{calibrate, compare, diff, inspect, merge, prune, quantize, verify};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::support::{Adapter, Arch, Tiny, direction, is_report, json, root, tempdir};

/// Runs `aird WORDS --json`, and compares.
fn round_trips<R: DeserializeOwned + Serialize + Debug>(words: &[&Path]) -> R {
    is_report(json(words))
}

#[test]
fn the_json_of_verbs_that_describe_is_their_report() {
    let folder = tempdir();
    let tiny = Tiny::new(Arch::Llama).seed(1);
    let model = tiny.write(folder.path());
    let p = Path::new;
    let report: inspect::Report =
        round_trips(&[p("inspect"), &model, p("--structure"), p("--tensors")]);
    assert!(report.structure.is_some() && report.tensors.is_some());
    let report: verify::Report = round_trips(&[p("verify"), &model, p("--sha256")]);
    assert!(report.ok && report.files[0].sha256.is_some());
    let other = folder.path().join("pruned.gguf");
    let words = [p("prune"), &model, p("--method"), p("magnitude"), p("--sparsity"), p("0.5")];
    let report: prune::Report = round_trips(&[&words[..], &[p("-o"), &other]].concat());
    assert!(report.sparsity.is_some_and(|x| x > 0.49));
    let report: diff::Report = round_trips(&[p("diff"), &model, &other]);
    assert!(!report.changed.is_empty() && report.a == model.file_name().unwrap().to_string_lossy());
    let direction = direction(folder.path(), &tiny);
    let report: compare::Report = round_trips(&[p("compare"), &direction, &direction]);
    assert_eq!(report.others.len(), 1);
}

#[test]
fn the_json_of_verbs_that_write_is_their_report() {
    let folder = tempdir();
    let tiny = Tiny::new(Arch::Llama).seed(1);
    let model = tiny.write(folder.path());
    let out = |name: &str| folder.path().join(name);
    let p = Path::new;
    let adapter = Adapter::new(&tiny, &["blk.0.attn_output.weight"]).write(folder.path());
    let words = [p("merge"), &model, p("--lora"), &adapter, p("-o")];
    let report: merge::Report = round_trips(&[&words[..], &[&out("merged.gguf")]].concat());
    assert_eq!((report.merged, report.dry_run), (1, false));
    let text = root().join("fixtures/imatrix/text.txt");
    let data = [p("--data"), &text, p("--ctx"), p("64"), p("--samples"), p("4")];
    let stats = out("stats");
    let words = [&[p("calibrate"), &model][..], &data, &[p("-o"), &stats]].concat();
    let report: calibrate::Report = round_trips(&words);
    assert!(report.about.n_samples == 4 && report.n_weights > 0);
    let words = [p("quantize"), &model, p("--method"), p("awq"), p("--type"), p("q4_0")];
    let rest = [p("--stats"), &stats, p("-o"), &out("q4_0.gguf")];
    let report: quantize::Report = round_trips(&[&words[..], &rest].concat());
    assert!(!report.groups.is_empty() && report.computed_bytes.is_none());
    let words = [p("quantize"), &model, p("--method"), p("rtn"), p("--type"), p("q4_0")];
    let rest = [p("--dry-run"), p("-o"), &out("other.gguf")];
    let report: quantize::Report = round_trips(&[&words[..], &rest].concat());
    assert!(report.dry_run && report.computed_bytes.is_some());
}
