//! `aird quantize`: ggml's bytes, llama-quantize's types, AWQ's scales that change nothing but the
//! rounding.

use std::path::Path;
use std::process::Output;

use aird::gguf::{Builder, GgmlType, Model, history};
use aird::llama::encode;
use aird::quant::decoded;
use aird::stats::{self, Stats};
use serde_json::Value;

use crate::support::{Arch, Tiny, aird, ggml, llama, names_in, root, stderr, tempdir};

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

/// The report of a run that succeeds, and what it said.
fn report(model: &Path, out: &Path, more: &[&str]) -> (Value, String) {
    let output = quantize(model, out, &[&["--json", "--force"], more].concat());
    ok(&output);
    (serde_json::from_slice(&output.stdout).unwrap(), stderr(&output))
}

#[test]
fn every_tensor_that_gets_another_type_or_stays_is_reported_with_its_reason() {
    let folder = tempdir();
    let path = Tiny::new(Arch::Qwen3Moe).ty(GgmlType::F16).seed(1).write(folder.path());
    let out = folder.path().join("out.gguf");
    let (report, said) = report(&path, &out, &["--method", "rtn", "--type", "q4_k"]);
    // 64 columns: nothing of Q4_K fits. The output head is meant to be Q8_0, and is.
    let fell_back = report["fell_back"].as_array().unwrap();
    assert_eq!(fell_back.len() as u64, report["quantized"].as_u64().unwrap() - 1);
    assert!(fell_back.iter().all(|f| f["wanted"] == "Q4_K" && f["to"] == "Q5_0"));
    let expected = format!("Q4_K does not fit the rows of {} tensors, so Q5_0", fell_back.len());
    assert!(said.contains(&expected), "{said}");
    assert!(said.contains("blk.*.attn_q.weight (2)"), "{said}");
    assert!(
        said.contains("2 tensors stay as they are: llama.cpp keeps its type: blk.*."),
        "{said}"
    );
    let n_tensors = Model::open(&path).unwrap().n_tensors() as u64;
    let stayed = report["stayed"].as_array().unwrap();
    assert_eq!(stayed.len() as u64 + report["quantized"].as_u64().unwrap(), n_tensors);
    let reason = |name: &str| stayed.iter().find(|s| s["name"] == name).unwrap()["reason"].clone();
    assert_eq!(reason("blk.0.attn_norm.weight"), "one dimension");
    assert_eq!(reason("blk.1.ffn_gate_inp.weight"), "llama.cpp keeps its type");
}

/// A file of matrices that quantizing cannot change, and one that it can.
fn stubborn(path: &Path, with_another: bool) {
    let mut file = Builder::new();
    file.kv("general.architecture", "llama");
    let mut add = |name: &str, shape: [u64; 2], ty: GgmlType| {
        let n = (shape[0] * shape[1]) as usize;
        let bytes = match ty {
            GgmlType::I32 => vec![0; 4 * n],
            ty => ggml::encode(ty, &vec![0.5; n], shape[0]),
        };
        file.tensor(name, &shape, ty, bytes).unwrap();
    };
    add("blk.0.ffn_up.weight", [40, 8], GgmlType::F16);
    add("blk.0.map.weight", [32, 2], GgmlType::I32);
    if with_another {
        add("blk.0.ffn_down.weight", [64, 8], GgmlType::F16);
    }
    file.write(path).unwrap();
}

#[test]
fn matrices_that_cannot_be_quantized_are_warned_of() {
    let folder = tempdir();
    let (path, out) = (folder.path().join("m.gguf"), folder.path().join("out.gguf"));
    stubborn(&path, true);
    // A plan: llama.cpp does not run such a model, and so it would not be written.
    let (report, said) = report(&path, &out, &["--method", "int8", "--dry-run"]);
    assert_eq!(report["quantized"], 1);
    assert_eq!(report["stayed"][0]["reason"], "Q8_0 does not fit its rows");
    assert_eq!(report["stayed"][1]["reason"], "holds integers");
    let warned =
        "warning: 1 tensor stays as it is: Q8_0 does not fit its rows: blk.*.ffn_up.weight";
    assert!(said.contains(warned), "{said}");
    assert!(said.contains("stays as it is: holds integers: blk.*.map.weight"), "{said}");
    stubborn(&path, false);
    let output = quantize(&path, &out, &["--method", "int8", "--force"]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("nothing to quantize: 1 tensor stays as it is: Q8_0 does"), "{said}");
}

#[test]
fn statistics_that_nothing_goes_by_are_refused_before_any_work() {
    let folder = tempdir();
    let path = Tiny::new(Arch::Llama).seed(1).write(folder.path());
    let out = folder.path().join("out.gguf");
    let before = names_in(folder.path());
    let data = data();
    let data: Vec<&str> = data.iter().map(String::as_str).collect();
    for method in [&["--method", "int8"][..], &["--method", "rtn", "--type", "q8_0"]] {
        let output = quantize(&path, &out, &[method, &data].concat());
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains("needs no statistics"), "{}", stderr(&output));
        assert_eq!(names_in(folder.path()), before, "nothing was collected");
    }
    // One matrix that goes by them is enough. The file beside is named after the whole name.
    let out = folder.path().join("out-1.5B");
    let one = ["--method", "int8", "--type-for", "ffn_down=q4_0"];
    ok(&quantize(&path, &out, &[&one[..], &data].concat()));
    assert!(names_in(folder.path()).contains(&"out-1.5B.imatrix.gguf".to_owned()));
}

/// Statistics of `model`, bent by `bend`, in a file.
fn bent(model: &Path, bend: impl Fn(&mut Stats)) -> String {
    let out = model.with_extension("stats");
    let mut calibrate = aird();
    calibrate.arg("calibrate").arg(model).arg("-o").arg(&out).args(data()).arg("--force");
    ok(&calibrate.output().unwrap());
    let mut stats = stats::read(&out).unwrap().0;
    bend(&mut stats);
    stats::write(&out, &stats).unwrap();
    out.display().to_string()
}

#[test]
fn statistics_of_more_or_of_fewer_tensors_are_used_and_the_difference_is_named() {
    let folder = tempdir();
    let path = Tiny::new(Arch::Llama).seed(2).write(folder.path());
    let out = folder.path().join("out.gguf");
    let rtn = ["--method", "rtn", "--type", "q4_0", "--stats"];
    let whole = bent(&path, |_| ());
    report(&path, &out, &[&rtn[..], &[&whole]].concat());
    let plain = std::fs::read(&out).unwrap();
    let more = bent(&path, |stats| {
        let one = stats.inputs["blk.0.ffn_up.weight"].clone();
        for i in 0..12 {
            stats.inputs.insert(format!("blk.9.nextn.{i}.weight"), one.clone());
        }
    });
    let (found, said) = report(&path, &out, &[&rtn[..], &[&more]].concat());
    assert_eq!(found["unused_statistics"].as_array().unwrap().len(), 12);
    assert!(said.contains("hold 12 tensors that the model does not have: blk.9.nextn."), "{said}");
    assert!(said.contains("and 4 more"), "{said}");
    let tensors = |bytes: &[u8]| bytes[bytes.len() - 4096..].to_vec();
    assert!(tensors(&plain) == tensors(&std::fs::read(&out).unwrap()));
    let lacking = ["blk.0.ffn_up.weight", "blk.1.ffn_up.weight"];
    let fewer = bent(&path, |stats| stats.inputs.retain(|name, _| !lacking.contains(&&**name)));
    for method in ["rtn", "awq"] {
        let arguments = ["--method", method, "--type", "q4_0", "--stats", &fewer];
        let (found, said) = report(&path, &out, &arguments);
        let without = found["without_importance"].as_array().unwrap();
        let in_blocks: Vec<&Value> =
            without.iter().filter(|name| **name != "token_embd.weight").collect();
        assert_eq!(in_blocks, lacking, "{method}");
        let expected = "say nothing about 2 tensors, rounded without importance: blk.*.ffn_up.";
        assert!(said.contains(expected), "{method}: {said}");
    }
}

#[test]
fn statistics_of_nothing_are_refused() {
    let folder = tempdir();
    let path = Tiny::new(Arch::Llama).seed(2).write(folder.path());
    let out = folder.path().join("out.gguf");
    let zero_sums = |stats: &mut Stats| stats.inputs.values_mut().for_each(|i| i.sum2.fill(0.0));
    let zero_counts = |stats: &mut Stats| stats.inputs.values_mut().for_each(|i| i.counts.fill(0));
    let foreign = |stats: &mut Stats| {
        let inputs = std::mem::take(&mut stats.inputs);
        stats.inputs = inputs.into_iter().map(|(name, i)| (format!("x.{name}"), i)).collect();
    };
    type Bend<'a> = &'a dyn Fn(&mut Stats);
    let bends: [(Bend<'_>, &str); 3] = [
        (&zero_sums, "are all zero, expected sums above 0"),
        (&zero_counts, "count no input row for"),
        (&foreign, "are of another model: it has none of their tensors"),
    ];
    for (bend, expected) in bends {
        let stats = bent(&path, bend);
        let output =
            quantize(&path, &out, &["--method", "rtn", "--type", "q4_0", "--stats", &stats]);
        assert_eq!(output.status.code(), Some(1), "{expected}");
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
        assert!(!out.exists());
    }
}
