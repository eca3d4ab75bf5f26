//! `aird quantize`: ggml's bytes, llama-quantize's types, AWQ's scales that change nothing but the
//! rounding.

use std::path::Path;
use std::process::Output;

use aird::gguf::{GgmlType, Model, history};
use aird::llama::encode;
use aird::quant::decoded;

use crate::support::{Arch, Tiny, aird, llama, names_in, root, stderr, tempdir};

const PROMPT: &str = "Tell me a story, in 3 words.\n";

fn quantize(model: &Path, out: &Path, more: &[&str]) -> Output {
    aird().arg("quantize").arg(model).arg("-o").arg(out).args(more).output().unwrap()
}

fn data() -> [String; 8] {
    let text = root().join("fixtures/imatrix/text.txt").display().to_string();
    ["--data", &text, "--ctx", "64", "--samples", "8", "--threads", "1"].map(str::to_owned)
}

fn ok(output: &Output) {
    assert!(output.status.success(), "{}", stderr(output));
}

#[test]
fn rtn_writes_the_bytes_that_ggml_makes() {
    for ty in ["q8_0", "q4_0", "q4_1", "q4_k", "q6_k", "q5_k", "q3_k", "iq4_nl"] {
        let folder = tempdir();
        let path = Tiny::new(Arch::Llama).ty(GgmlType::F16).seed(1).write(folder.path());
        let out = folder.path().join("out.gguf");
        ok(&quantize(&path, &out, &["--method", "rtn", "--type", ty, "--output-type", ty]));
        let (before, after) = (Model::open(&path).unwrap(), Model::open(&out).unwrap());
        for tensor in after.tensors().filter(|t| t.info.shape.len() == 2) {
            let source = before.tensor(&tensor.info.name).unwrap();
            let n_cols = source.info.n_cols() as usize;
            let values = decoded(source, 0..source.info.n_rows()).unwrap();
            let mut bytes = vec![0; tensor.data().len()];
            encode(tensor.info.ty, &values, n_cols, None, &mut bytes).unwrap();
            assert!(tensor.data() == bytes, "{ty} {}", tensor.info.name);
        }
    }
}

#[test]
fn types_are_those_of_llama_quantize() {
    let folder = tempdir();
    let path = Tiny::new(Arch::Llama).ty(GgmlType::F16).seed(1).write(folder.path());
    let out = folder.path().join("out.gguf");
    let types = |more: &[&str]| {
        ok(&quantize(&path, &out, &[&["--method", "rtn", "--force"], more].concat()));
        let model = Model::open(&out).unwrap();
        let ty = |name: &str| model.tensor(name).unwrap().info.ty;
        [
            ty("output.weight"),
            ty("token_embd.weight"),
            ty("blk.0.ffn_down.weight"),
            ty("blk.1.attn_norm.weight"),
        ]
    };
    use GgmlType as T;
    // 64 columns: no block of 256 fits.
    assert_eq!(types(&["--type", "q4_0"]), [T::Q8_0, T::Q4_0, T::Q4_0, T::F32]);
    assert_eq!(types(&["--type", "q4_k"]), [T::Q8_0, T::Q5_0, T::Q5_0, T::F32]);
    let named = ["--output-type", "f16", "--embedding-type", "q8_0", "--type-for", "down=q5_1"];
    let found = types(&[&["--type", "q4_0"][..], &named].concat());
    assert_eq!(found, [T::F16, T::Q8_0, T::Q5_1, T::F32]);
    let model = Model::open(&out).unwrap();
    assert_eq!(model.kv()["general.file_type"].as_u64(), Some(2));
    let step = &history(model.kv())[0];
    assert_eq!(step["parameters"]["type_for"][0], "down=q5_1");
}

#[test]
fn awq_scales_every_group_to_no_more_error_and_leaves_a_model_that_answers() {
    for arch in [Arch::Llama, Arch::Qwen2, Arch::Gemma3, Arch::Qwen3Moe] {
        let folder = tempdir();
        let path = Tiny::new(arch).seed(2).write(folder.path());
        let [rtn, awq] = ["rtn.gguf", "awq.gguf"].map(|name| folder.path().join(name));
        let more = ["--type", "q4_0", "--output-type", "f32", "--embedding-type", "f32"];
        let data = data();
        let data: Vec<&str> = data.iter().map(String::as_str).collect();
        ok(&quantize(&path, &rtn, &[&["--method", "rtn"], &more[..]].concat()));
        let arguments = [&["--method", "awq", "--json"], &more[..], &data].concat();
        let report: serde_json::Value =
            serde_json::from_slice(&quantize(&path, &awq, &arguments).stdout).unwrap();
        assert!(names_in(folder.path()).contains(&"awq.imatrix.gguf".to_owned()));
        let groups = report["groups"].as_array().unwrap();
        let losses: Vec<f64> =
            groups.iter().map(|g| g["relative_loss"].as_f64().unwrap()).collect();
        assert!(losses.iter().all(|loss| *loss <= 1.0), "{arch:?}: {losses:?}");
        assert!(losses.iter().any(|loss| *loss < 0.99), "{arch:?}: {losses:?}");
        // A mistake in folding would show here as an error many times larger.
        let before = llama::logits(&path, PROMPT).unwrap();
        let error = |model: &Path| {
            let after = llama::logits(model, PROMPT).unwrap();
            before.iter().zip(&after).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>()
        };
        let (awq, rtn) = (error(&awq), error(&rtn));
        assert!(awq > 0.0 && awq < 2.0 * rtn, "{arch:?}: {awq} {rtn}");
    }
}

#[test]
fn int8_and_llm_int8_answer_nearly_as_the_float_model() {
    let folder = tempdir();
    let path = Tiny::new(Arch::Llama).seed(2).write(folder.path());
    let before = llama::logits(&path, PROMPT).unwrap();
    let size = before.iter().map(|x| x.abs()).fold(0.0, f32::max);
    for method in ["int8", "llm-int8"] {
        let out = folder.path().join(method);
        ok(&quantize(&path, &out, &["--method", method]));
        let after = llama::logits(&out, PROMPT).unwrap();
        let most = before.iter().zip(&after).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(most > 0.0 && most / size < 0.05, "{method}: {}", most / size);
        let model = Model::open(&out).unwrap();
        assert_eq!(model.tensor("blk.0.ffn_up.weight").unwrap().info.ty, GgmlType::Q8_0);
        // LLM.int8() is about linear layers.
        let head = model.tensor("output.weight").unwrap().info.ty;
        assert_eq!(head == GgmlType::Q8_0, method == "int8");
    }
}

#[test]
fn the_same_settings_give_the_same_bytes_whatever_the_threads() {
    let folder = tempdir();
    let path = Tiny::new(Arch::Qwen3Moe).seed(2).write(folder.path());
    let stats = folder.path().join("stats");
    let data = data();
    let output = aird().arg("calibrate").arg(&path).arg("-o").arg(&stats).args(data).output();
    ok(&output.unwrap());
    let make = |name: &str, threads: &str| {
        let out = folder.path().join(name);
        let output = aird()
            .env("RAYON_NUM_THREADS", threads)
            .args(["quantize", "--method", "awq", "--type", "q4_1", "--stats"])
            .arg(&stats)
            .arg(&path)
            .arg("-o")
            .arg(&out)
            .output();
        ok(&output.unwrap());
        std::fs::read(out).unwrap()
    };
    assert!(make("a", "1") == make("b", "4"));
}

#[test]
fn what_is_wrong_is_said_and_nothing_written() {
    let folder = tempdir();
    let path = Tiny::new(Arch::Llama).seed(1).write(folder.path());
    let out = folder.path().join("out.gguf");
    for (arguments, code, expected) in [
        (&["--method", "awq"][..], 1, "needs --stats FILE or --data FILE"),
        (&["--method", "rtn"][..], 1, "needs --type"),
        (&["--method", "rtn", "--type", "q9_k"][..], 2, "expected a ggml type"),
        (&["--method", "rtn", "--type", "q8_1"][..], 1, "ggml does not write Q8_1"),
        (&["--method", "int8", "--type", "q4_0"][..], 1, "write q8_0, not Q4_0"),
        (&["--method", "rtn", "--type", "q4_0", "--faithful"][..], 1, "about --method awq"),
        (&["--method", "rtn", "--type", "f32"][..], 1, "nothing to quantize"),
        (&["--method", "rtn", "--type", "q4_0", "--type-for", "x"][..], 2, "expected REGEX=TYPE"),
    ] {
        let output = quantize(&path, &out, arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert!(stderr(&output).contains(expected), "{arguments:?}: {}", stderr(&output));
        assert!(!out.exists());
    }
    let quantized = Tiny::new(Arch::Llama).ty(GgmlType::Q4_0).seed(1).write(folder.path());
    let output = quantize(&quantized, &out, &["--method", "rtn", "--type", "q8_0"]);
    assert!(stderr(&output).contains("Q4_0 already"), "{}", stderr(&output));
    assert!(!out.exists());
    ok(&quantize(&quantized, &out, &["--method", "rtn", "--type", "q8_0", "--requantize"]));
}
