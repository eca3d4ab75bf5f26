//! Results that are kept from one run to the next are redone by another build: a digest of the
//! sources stands in their keys.

use std::fs;
use std::path::Path;

use aird::llama::Options;
use aird::study::{Arg, Folder, Plan, Record, RunBy, Settled, Step, Sums, keys};

use crate::support::tempdir;

#[path = "../build/digest.rs"]
mod digest;

const SOURCES: [&str; 2] = ["src", "Cargo.lock"];

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A small program's sources.
fn program(folder: &Path) {
    write(folder, "src/main.rs", "fn main() {\n}\n");
    write(folder, "src/a/b.rs", "pub const X: u8 = 1;\n");
    write(folder, "Cargo.lock", "version = 4\n");
    write(folder, "README.md", "of no account\n");
}

fn run_by(build: &str) -> RunBy {
    RunBy { build: build.into(), cpu: "AVX2 = 1".into(), placement: "cpu".into() }
}

#[test]
fn the_digest_of_sources_moves_with_their_names_and_bytes_alone() {
    let (one, other) = (tempdir(), tempdir());
    program(one.path());
    program(other.path());
    let of = |folder: &Path| digest::of(folder, &SOURCES).unwrap();
    let first = of(one.path());
    assert_eq!(first.len(), 16);
    assert_eq!(first, of(other.path()), "the same sources in another folder");
    write(other.path(), "README.md", "changed\n");
    write(other.path(), "src/main.rs", "fn main() {\r\n}\r\n");
    assert_eq!(first, of(other.path()), "neither a document nor ends of lines count");
    write(other.path(), "src/a/b.rs", "pub const X: u8 = 2;\n");
    let changed = of(other.path());
    assert_ne!(first, changed);
    fs::rename(other.path().join("src/a/b.rs"), other.path().join("src/a/c.rs")).unwrap();
    assert_ne!(changed, of(other.path()));
}

#[test]
fn a_step_is_redone_by_another_build_and_on_another_cpu() {
    let sources = tempdir();
    program(sources.path());
    let build = |sources: &Path| run_by(&digest::of(sources, &SOURCES).unwrap());
    let before = build(sources.path());
    let run = tempdir();
    let folder = Folder::open(&run.path().join("run"), &false.into(), || ()).unwrap();
    let step = Step { name: "m: answers".into(), args: vec![Arg::text("asr")], ..Step::default() };
    let plan = Plan { steps: vec![step], models: Vec::new() };
    let settled = |run_by: RunBy| {
        let keys = keys(&plan, run_by, &mut Sums::default()).unwrap();
        (plan.settled(&keys, &folder).remove(0), keys.steps[0].clone().unwrap())
    };
    let (open, key) = settled(before.clone());
    assert_eq!(open, Settled::Open);
    // It runs, and its record is kept.
    let record = Record { name: "m: answers".into(), found: true, why: None, outputs: Vec::new() };
    fs::write(folder.step_file(&key, "json"), "{}").unwrap();
    let text = serde_json::to_string(&record).unwrap();
    fs::write(folder.step_file(&key, "done.json"), text).unwrap();
    assert_eq!(settled(before.clone()).0, Settled::Done(record));

    write(sources.path(), "src/a/b.rs", "pub const X: u8 = 2;\n");
    assert_eq!(settled(build(sources.path())).0, Settled::Open, "a source changed");
    let other_cpu = RunBy { cpu: "AVX512 = 1".into(), ..before };
    assert_eq!(settled(other_cpu).0, Settled::Open, "another CPU");
}

#[test]
fn the_build_of_this_program_is_the_digest_of_its_sources() {
    let is_hex = |c: char| c.is_ascii_hexdigit();
    assert!(aird::BUILD.len() == 16 && aird::BUILD.chars().all(is_hex), "{}", aird::BUILD);
    assert_eq!(RunBy::this(Options::cpu(1)).build, aird::BUILD);
}
