//! `aird diff`: what changed is found, across types, and the rest is counted.

use std::path::Path;

use aird::gguf::{GgmlType, Model};

use crate::support::{Adapter, Arch, Tiny, json, run, tempdir};

#[test]
fn diff_finds_what_changed_across_types_and_counts_the_rest() {
    let folder = tempdir();
    let tiny = Tiny::new(Arch::Llama).ty(GgmlType::F32).seed(5);
    let a = tiny.write(folder.path());
    let adapter = Adapter::new(&tiny, &["blk.0.ffn_up.weight"]).write(folder.path());
    let b = folder.path().join("b.gguf");
    let merge = [Path::new("merge"), &a, Path::new("--lora"), &adapter, Path::new("-o"), &b];
    assert!(run(&merge).status.success());
    let report = json(&[Path::new("diff"), &a, &b]);
    let changed = report["changed"].as_array().unwrap();
    assert_eq!(changed.len(), 1);
    assert_eq!(changed[0]["name"], "blk.0.ffn_up.weight");
    assert!(changed[0]["relative_change"].as_f64().unwrap() > 0.01);
    assert!(changed[0]["cosine"].as_f64().unwrap() < 0.9999);
    assert_eq!(report["identical"], Model::open(&a).unwrap().n_tensors() - 1);
    assert_eq!(report["keys_added"][0]["key"], "aird.version");

    let other = Tiny::new(Arch::Llama).ty(GgmlType::F16).seed(5).write(folder.path());
    let report = json(&[Path::new("diff"), &a, &other]);
    for tensor in report["changed"].as_array().unwrap() {
        assert!(tensor["relative_change"].as_f64().unwrap() < 1e-3, "{tensor}");
        assert!(tensor["cosine"].as_f64().unwrap() > 0.999_999, "{tensor}");
    }
    let same = json(&[Path::new("diff"), &a, &a]);
    assert_eq!(same["changed"].as_array().unwrap().len(), 0);
}
