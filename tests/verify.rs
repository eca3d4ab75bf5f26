//! `aird verify`: sound files pass, and each unsound one is told apart.

use std::path::Path;

use aird::gguf::GgmlType;

use crate::support::{Arch, Tiny, json, run, scribble, stderr, stdout, tempdir};

#[test]
fn verify_accepts_every_tiny_model() {
    for arch in [Arch::Llama, Arch::Qwen2, Arch::Gemma3, Arch::Olmo2, Arch::Qwen3Moe] {
        let folder = tempdir();
        let path = Tiny::new(arch).ty(GgmlType::Q4_0).write(folder.path());
        let output = run(&[Path::new("verify"), &path]);
        assert!(output.status.success(), "{arch:?}: {}", stderr(&output));
        assert!(stdout(&output).contains("llama.cpp  ok"), "{}", stdout(&output));
    }
}

#[test]
fn verify_finds_infinite_scales_and_numbers_that_are_none() {
    let nan = f32::NAN.to_le_bytes();
    let infinite = half::f16::INFINITY.to_le_bytes();
    for (ty, name, bytes) in [
        (GgmlType::F32, "blk.1.ffn_norm.weight", &nan[..]),
        (GgmlType::F32, "blk.0.attn_q.weight", &nan[..]),
        (GgmlType::Q8_0, "blk.1.ffn_down.weight", &infinite[..]),
        (GgmlType::Q4_K, "blk.0.attn_k.weight", &infinite[..]),
    ] {
        let folder = tempdir();
        let path = Tiny::new(Arch::Llama).ty(ty).write(folder.path());
        scribble(&path, name, 0, bytes);
        let output = run(&[Path::new("verify"), &path, Path::new("--quick")]);
        assert_eq!(output.status.code(), Some(1), "{ty}");
        assert!(stderr(&output).contains(&format!("{name} row 0 column 0")), "{}", stderr(&output));
        let report = json(&[Path::new("verify"), &path, Path::new("--quick")]);
        assert_eq!(report["ok"], false);
    }
}

#[test]
fn verify_tells_when_llama_cpp_refuses_a_file() {
    let folder = tempdir();
    let path = Tiny::new(Arch::Llama).write(folder.path());
    let mut bytes = std::fs::read(&path).unwrap();
    // An architecture of the same length that does not exist.
    let at = bytes.windows(13).position(|w| w == b"\x05\0\0\0\0\0\0\0llama").unwrap();
    bytes[at + 8..at + 13].copy_from_slice(b"lamma");
    std::fs::write(&path, bytes).unwrap();
    let output = run(&[Path::new("verify"), &path]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("lamma"), "{}", stderr(&output));
    assert!(run(&[Path::new("verify"), &path, Path::new("--quick")]).status.success());
}

#[test]
fn verify_prints_the_sum_that_sha256sum_prints() {
    let folder = tempdir();
    let path = Tiny::new(Arch::Llama).write(folder.path());
    let output = run(&[Path::new("verify"), &path, Path::new("--sha256"), Path::new("--quick")]);
    let expected = std::process::Command::new("sha256sum").arg(&path).output().unwrap();
    assert_eq!(stdout(&output).lines().next(), stdout(&expected).lines().next());
}
