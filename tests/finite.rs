//! NaN and infinity are never rounded into numbers: every verb that writes weights refuses them and
//! says where they are.

use std::path::{Path, PathBuf};

use aird::gguf::GgmlType;
use half::{bf16, f16};

use crate::support::{Adapter, Arch, Tiny, aird, names_in, scribble, stderr, stdout, tempdir};

const NAME: &str = "blk.1.ffn_down.weight";
/// Column of row 2 that is bad.
const COLUMN: usize = 5;

/// A tiny model of 256 columns with one bad weight.
fn broken(folder: &Path, ty: GgmlType, value: f32) -> PathBuf {
    let tiny = Tiny::new(Arch::Llama).ty(ty);
    let path = tiny.write(folder);
    let bytes = match ty {
        GgmlType::F16 => f16::from_f32(value).to_le_bytes().to_vec(),
        GgmlType::BF16 => bf16::from_f32(value).to_le_bytes().to_vec(),
        _ => value.to_le_bytes().to_vec(),
    };
    let n_cols = tiny.n_ff() as usize;
    scribble(&path, NAME, (2 * n_cols + COLUMN) * bytes.len(), &bytes);
    path
}

#[test]
fn quantize_refuses_one_bad_weight_whatever_the_type() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let folder = tempdir();
        let path = broken(folder.path(), GgmlType::F32, value);
        let before = names_in(folder.path());
        for ty in ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "iq4_nl", "mxfp4", "f16", "bf16"] {
            let out = folder.path().join("out.gguf");
            let output = aird()
                .arg("quantize")
                .arg(&path)
                .args(["--method", "rtn", "--type", ty, "-o"])
                .arg(&out)
                .output()
                .unwrap();
            let said = stderr(&output);
            assert_eq!(output.status.code(), Some(1), "{ty} {value}: {said}");
            let place = format!("{NAME} row 2 column {COLUMN} is NaN or infinite");
            assert!(said.contains(&place), "{ty} {value}: {said}");
            assert_eq!(names_in(folder.path()), before);
        }
    }
}

#[test]
fn prune_and_merge_refuse_one_bad_weight() {
    let folder = tempdir();
    let tiny = Tiny::new(Arch::Llama).ty(GgmlType::F16);
    let lora = Adapter::new(&tiny, &[NAME]).write(folder.path());
    let lora = format!("--lora={}", lora.display());
    for value in [f32::NAN, f32::INFINITY] {
        let path = broken(folder.path(), GgmlType::F16, value);
        for words in [
            &["prune", "--method=magnitude", "--sparsity=0.5"][..],
            &["prune", "--method=magnitude", "--nm=2:4", "--type=q8_0"],
            &["merge", &lora, "--type=q8_0"],
            &["merge", &lora, "--type=keep"],
        ] {
            let out = folder.path().join("out.gguf");
            let output = aird().args(words).arg(&path).arg("-o").arg(&out).output().unwrap();
            let said = stderr(&output);
            assert_eq!(output.status.code(), Some(1), "{words:?}: {said}");
            assert!(said.contains(&format!("{NAME} row 2 column {COLUMN}")), "{words:?}: {said}");
            assert!(!out.exists());
        }
    }
}

#[test]
fn a_tensor_that_is_only_copied_is_checked_too() {
    let folder = tempdir();
    let path = Tiny::new(Arch::Llama).ty(GgmlType::F16).write(folder.path());
    scribble(&path, "blk.0.attn_norm.weight", 8, &f32::NAN.to_le_bytes());
    let out = folder.path().join("out.gguf");
    let words = ["--method", "rtn", "--type", "q8_0", "-o"];
    let output = aird().arg("quantize").arg(&path).args(words).arg(&out).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("blk.0.attn_norm.weight row 0 column 2"),
        "{}",
        stderr(&output)
    );
    assert!(!out.exists());
}

#[test]
fn logits_that_are_nan_are_said_to_be_so() {
    let folder = tempdir();
    let tiny = Tiny::new(Arch::Llama).ty(GgmlType::F16);
    let path = tiny.write(folder.path());
    scribble(&path, "output_norm.weight", 0, &f32::NAN.to_le_bytes());
    for words in [&["ask", "MODEL", "Hi"][..], &["asr", "MODEL", "--limit", "1"]] {
        let arguments = words
            .iter()
            .map(|word| if *word == "MODEL" { path.as_path() } else { Path::new(word) });
        let output = aird().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
        assert!(stderr(&output).contains("logits are NaN or infinite"), "{}", stderr(&output));
    }
}
