//! Malformed files are refused with one sentence that says what is wrong and where, and never
//! with a panic. The files are kept under `fixtures/malformed/`, with what is said about each in
//! `expected.txt`; `AIRD_BLESS=1` writes both anew.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;

use aird::gguf::{Builder, GgmlType, Header, Model, Value};

use crate::support::malformed::{corpus, valid};
use crate::support::{Arch, Tiny, ggml, names_in, root, tempdir};

fn folder() -> PathBuf {
    root().join("fixtures/malformed")
}

fn bless() -> bool {
    std::env::var_os("AIRD_BLESS").is_some_and(|v| v == "1")
}

/// What is said about each file, without the folder in front.
fn messages() -> String {
    let mut out = String::from(
        "# What is said about each file of this folder: its name, then the message, indented.\n\
         # Written by: AIRD_BLESS=1 cargo test --test suite malformed\n",
    );
    let prefix = format!("{}/", folder().display());
    for file in corpus() {
        let path = folder().join(format!("{}.gguf", file.name));
        let said = match Model::open(&path) {
            Ok(_) => "it was opened".into(),
            Err(error) => error.to_string().replace(&prefix, ""),
        };
        out += &format!("\n{}\n", file.name);
        said.lines().for_each(|line| out += &format!("    {line}\n"));
    }
    out
}

#[test]
fn the_corpus_is_what_the_code_makes_and_each_file_is_refused_as_expected() {
    let corpus = corpus();
    if bless() {
        fs::create_dir_all(folder()).unwrap();
        for name in names_in(&folder()) {
            fs::remove_file(folder().join(name)).unwrap();
        }
        for file in &corpus {
            fs::write(folder().join(format!("{}.gguf", file.name)), &file.bytes).unwrap();
        }
        fs::write(folder().join("expected.txt"), messages()).unwrap();
    }
    let mut names: Vec<String> = corpus.iter().map(|f| format!("{}.gguf", f.name)).collect();
    names.push("expected.txt".into());
    names.sort();
    assert_eq!(names_in(&folder()), names, "hint: AIRD_BLESS=1");
    for file in &corpus {
        let committed = fs::read(folder().join(format!("{}.gguf", file.name))).unwrap();
        assert!(committed == file.bytes, "{} differs\nhint: AIRD_BLESS=1", file.name);
        assert!(file.bytes.len() < 4096, "{} has {} bytes", file.name, file.bytes.len());
    }
    let expected = fs::read_to_string(folder().join("expected.txt")).unwrap();
    assert_eq!(messages(), expected);
}

#[test]
fn each_message_is_one_sentence_and_perhaps_a_hint() {
    for file in corpus() {
        let path = folder().join(format!("{}.gguf", file.name));
        let said = Model::open(&path).unwrap_err().to_string();
        let (sentence, hint) = said.split_once('\n').unwrap_or((&said, "hint: "));
        assert!(hint.starts_with("hint: ") && !hint.contains('\n'), "{said}");
        assert!(!sentence.ends_with('.') && sentence.len() < 400, "{said}");
        // Of a model in shards it may be the other one.
        let name = file.name.split_once("-0000").map_or(file.name, |(name, _)| name);
        assert!(sentence.contains(name), "the file is not named: {said}");
    }
}

#[test]
fn what_ggml_refuses_is_refused() {
    assert!(ggml::read_bytes(&valid()).is_some() && Header::parse(&valid()).is_ok());
    // What only we refuse, each for a reason: ggml checks tensors against the file's end later,
    // when it loads them; it takes any bytes for text; zeros hide overflows from it; and it
    // does not look at shards or at what a key must be here.
    let ours_alone = |name: &str| {
        let names = [
            "key-not-utf-8",
            "tensor-name-not-utf-8",
            "zero-hides-an-overflow",
            "tensor-of-4-tib",
            "cut-in-front-of-the-data",
            "cut-in-the-last-tensor",
        ];
        names.contains(&name) || name.starts_with("shard") || name.starts_with("type-of-")
    };
    for file in corpus() {
        let seen = ggml::read_bytes(&file.bytes);
        assert_eq!(seen.is_some(), ours_alone(file.name), "{}", file.name);
    }
}

/// A header with every value type and a few tensors, small enough to try each of its bytes.
fn rich() -> Vec<u8> {
    let mut file = Builder::new();
    file.kv("u8", 1u8).kv("i8", -1i8).kv("u16", 2u16).kv("i16", -2i16).kv("u32", 3u32);
    file.kv("i32", -3i32).kv("f32", 0.5f32).kv("bool", true).kv("str", "text");
    file.kv("u64", 4u64).kv("i64", -4i64).kv("f64", 0.25f64).kv("general.alignment", 64u32);
    file.kv("arr", Value::strings(["a", "", "\u{e9}"]));
    file.kv("none", Value::array(aird::gguf::ValueType::F64, []));
    file.tensor("x", &[32, 2, 1], GgmlType::Q4_0, vec![7; 36]).unwrap();
    file.tensor("y", &[], GgmlType::F32, vec![8; 4]).unwrap();
    file.tensor("z", &[3, 1, 2, 1], GgmlType::F16, vec![9; 12]).unwrap();
    file.encode()
}

/// Opens as a file would be: parses, and checks that the data is there.
fn parses(bytes: &[u8]) -> bool {
    Header::parse(bytes).is_ok_and(|(header, at)| header.check_data(at, bytes.len() as u64).is_ok())
}

#[test]
fn a_file_cut_at_any_byte_is_refused() {
    let tiny = tempdir();
    let tiny = fs::read(Tiny::new(Arch::Llama).ty(GgmlType::Q4_0).write(tiny.path())).unwrap();
    let (_, tiny_data) = Header::parse(&tiny).unwrap();
    for (bytes, last) in [(&valid(), valid().len()), (&rich(), rich().len() - 52)] {
        assert!(parses(bytes));
        for n in 0..last {
            assert!(!parses(&bytes[..n]), "cut at {n} of {}", bytes.len());
        }
        // Only the last tensor's padding may be missing.
        (last..bytes.len()).for_each(|n| assert!(parses(&bytes[..n]), "cut at {n}"));
    }
    for n in (0..tiny_data as usize).step_by(7) {
        assert!(!parses(&tiny[..n]), "cut at {n}");
    }
}

#[test]
fn a_flipped_bit_anywhere_never_panics_and_ggml_agrees() {
    let bytes = rich();
    for at in 0..bytes.len() * 8 {
        let mut bent = bytes.clone();
        bent[at / 8] ^= 1 << (at % 8);
        agrees_with_ggml(&bent);
    }
}

/// What we parse ggml parses; what we refuse and ggml takes is refused for a reason we know.
fn agrees_with_ggml(bytes: &[u8]) {
    let theirs = ggml::read_bytes(bytes);
    match Header::parse(bytes) {
        Ok((header, data_offset)) => {
            assert!(theirs.is_some() || bytes.len() < data_offset as usize);
            assert!(header.alignment() > 4096 || Header::parse(&header.encode()).is_ok());
        }
        Err(error) => {
            let stricter = ["UTF-8", "size overflows"];
            let said = error.to_string();
            let known = stricter.iter().any(|why| said.contains(why));
            assert!(theirs.is_none() || known, "ggml takes it, but: {said}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 512,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn bytes_overwritten_at_random_never_panic_and_ggml_agrees(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let mut bytes = rich();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        agrees_with_ggml(&bytes);
    }

    #[test]
    fn any_bytes_behind_the_magic_never_panic(
        version in 2..=3u32,
        tail in prop::collection::vec(prop_oneof![3 => Just(0u8), 1 => any::<u8>()], 0..200),
    ) {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(version.to_le_bytes());
        bytes.extend(tail);
        agrees_with_ggml(&bytes);
    }
}
