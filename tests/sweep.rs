//! `prune --method sparsegpt` and `quantize --method gptq`: what one column loses the next make up
//! for, so that less is lost than by choosing or rounding each weight by itself.

use std::path::{Path, PathBuf};
use std::process::Output;

use aird::gguf::{Model, history};
use aird::quant::decoded;

use crate::support::{Arch, Tiny, aird, names_in, root, stderr, stdout, tempdir};

fn text() -> String {
    root().join("fixtures/imatrix/text.txt").display().to_string()
}

/// `verb` on `model`, with the fixture's text as data.
fn compress(verb: &str, model: &Path, out: &Path, more: &[&str]) -> Output {
    let text = text();
    let data = ["--data", text.as_str(), "--ctx", "64", "--samples", "16"];
    aird().arg(verb).arg(model).arg("-o").arg(out).args(data).args(more).output().unwrap()
}

fn compressed(verb: &str, model: &Path, out: &Path, more: &[&str]) -> PathBuf {
    let output = compress(verb, model, out, more);
    assert!(output.status.success(), "{more:?}: {}", stderr(&output));
    out.into()
}

/// The mean KL of `model` to `base` on the text.
fn kl(model: &Path, base: &Path) -> f64 {
    let mut command = aird();
    command.arg("tasks").arg(model).arg("--reference").arg(base).arg("--text").arg(text());
    let output = command.args(["--ctx", "64", "--chunks", "8", "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let kl = &report["models"][0]["kl"]["mean"]["mean"];
    kl.as_f64().unwrap_or_else(|| panic!("{report}"))
}

fn values(model: &Path, name: &str) -> Vec<f32> {
    let model = Model::open(model).unwrap();
    let tensor = model.tensor(name).unwrap();
    decoded(tensor, 0..tensor.info.n_rows()).unwrap()
}

#[test]
fn what_sparsegpt_prunes_costs_less_than_what_wanda_prunes() {
    let folder = tempdir();
    let model = Tiny::new(Arch::Llama).blocks(3).seed(5).write(folder.path());
    let of = |method: &str, name: &str, much: &[&str]| {
        let more = [&["--method", method, "--threads", "1"][..], much].concat();
        compressed("prune", &model, &folder.path().join(name), &more)
    };
    let half = ["--sparsity", "0.5"];
    let (wanda, swept) = (of("wanda", "wanda.gguf", &half), of("sparsegpt", "s.gguf", &half));
    let (plain, less) = (kl(&wanda, &model), kl(&swept, &model));
    assert!(less < 0.9 * plain, "{less} against {plain}");
    let [step] = &history(Model::open(&swept).unwrap().kv())[..] else { panic!("one step") };
    assert_eq!(step["parameters"]["method"], "sparsegpt");
    assert_eq!(step["parameters"]["achieved"], 0.5);
    let pattern = of("sparsegpt", "nm.gguf", &["--nm", "2:4", "--type", "q8_0"]);
    for run in values(&pattern, "blk.1.ffn_down.weight").chunks(4) {
        assert!(run.iter().filter(|w| **w == 0.0).count() >= 2, "{run:?}");
    }
    assert!(!names_in(folder.path()).iter().any(|name| name.contains("part")));
}

#[test]
fn what_gptq_rounds_costs_less_than_what_is_rounded_to_the_nearest() {
    let folder = tempdir();
    let model = Tiny::new(Arch::Llama).blocks(3).seed(6).write(folder.path());
    let of = |method: &str, threads: &str| {
        let out = folder.path().join(format!("{method}-{threads}.gguf"));
        let more = ["--method", method, "--type", "q4_0", "--threads", threads];
        compressed("quantize", &model, &out, &more)
    };
    let (rounded, swept) = (of("rtn", "1"), of("gptq", "1"));
    let (plain, less) = (kl(&rounded, &model), kl(&swept, &model));
    assert!(less < 0.9 * plain, "{less} against {plain}");
    assert!(std::fs::read(&swept).unwrap() == std::fs::read(of("gptq", "2")).unwrap());
    // The head and the embeddings are rounded as ever.
    assert_eq!(values(&rounded, "output.weight"), values(&swept, "output.weight"));
    // Zeros of a pruned model stay.
    let pruned = folder.path().join("pruned.gguf");
    compressed("prune", &model, &pruned, &["--method", "wanda", "--sparsity", "0.5"]);
    let both = folder.path().join("both.gguf");
    compressed("quantize", &pruned, &both, &["--method", "gptq", "--type", "q4_0"]);
    let name = "blk.0.ffn_up.weight";
    let pairs = values(&pruned, name).into_iter().zip(values(&both, name));
    assert!(pairs.into_iter().all(|(before, after)| before != 0.0 || after == 0.0));
}

#[test]
fn the_experts_of_a_mixture_are_swept_too() {
    let folder = tempdir();
    let model = Tiny::new(Arch::Qwen3Moe).seed(7).write(folder.path());
    let out = folder.path().join("out.gguf");
    compressed("prune", &model, &out, &["--method", "sparsegpt", "--sparsity", "0.5"]);
    for name in ["blk.0.ffn_down_exps.weight", "blk.1.ffn_gate_exps.weight"] {
        let values = values(&out, name);
        let zeros = values.iter().filter(|w| **w == 0.0).count();
        assert_eq!(zeros, values.len() / 2, "{name}");
    }
    let of = |method: &str| {
        let out = folder.path().join(format!("{method}.gguf"));
        compressed("quantize", &model, &out, &["--method", method, "--type", "q4_0"])
    };
    let (plain, less) = (kl(&of("rtn"), &model), kl(&of("gptq"), &model));
    assert!(less < 0.9 * plain, "{less} against {plain}");
}

#[test]
fn what_a_sweep_cannot_go_by_is_refused() {
    let folder = tempdir();
    let model = Tiny::new(Arch::Llama).write(folder.path());
    let out = folder.path().join("out.gguf");
    let text = text();
    let half = ["--method", "sparsegpt", "--sparsity", "0.5"];
    let statistics = ["--stats", "x.gguf"];
    for (verb, more, said) in [
        ("prune", [&half[..], &statistics].concat(), "needs --data FILE"),
        ("prune", half.to_vec(), "needs --data FILE"),
        ("prune", [&half[..], &["--data", &text, "--allocation", "owl"]].concat(), "by itself"),
        ("prune", [&half[..], &["--data", &text, "--sequential", "2"]].concat(), "by itself"),
        ("prune", [&half[..], &["--data", &text, "--mask", "response"]].concat(), "every token"),
        ("quantize", vec!["--method", "gptq", "--data", &text], "needs --type"),
        ("quantize", vec!["--method", "gptq", "--type", "q4_0"], "needs --data FILE"),
    ] {
        let mut command = aird();
        let output = command.arg(verb).arg(&model).arg("-o").arg(&out).args(&more).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(1), "{more:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(said), "{more:?}: {}", stderr(&output));
        assert!(!out.exists() && stdout(&output).is_empty());
    }
}
