//! PEFT folders: what peft wrote adds what peft adds, what aird writes reads back as the same, and
//! what is not supported is refused by name.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use aird::adapter::Adapter as Lora;
use aird::gguf::{GgmlType, Model};
use aird::quant::decoded;
use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::support::{Adapter, Arch, Tiny, aird, names_in, root, stderr, stdout, tempdir};

fn run(arguments: &[&str], paths: &[&Path]) -> Output {
    aird().args(arguments).args(paths).output().unwrap()
}

/// The model with the adapter, in F32.
fn merged(model: &Path, lora: &Path, out: &Path) -> Output {
    run(&["merge"], &[model, Path::new("--lora"), lora, Path::new("-o"), out, Path::new("--force")])
}

fn values(model: &Path, name: &str) -> Vec<f32> {
    let model = Model::open(model).unwrap();
    let tensor = model.tensor(name).unwrap();
    decoded(tensor, 0..tensor.info.n_rows()).unwrap()
}

fn fixture(name: &str) -> PathBuf {
    root().join("fixtures/peft").join(name)
}

/// The file's tensor for a module, and in how many heads its rows are permuted.
fn tensor_of(module: &str) -> (String, Option<usize>) {
    if module == "model.embed_tokens" {
        return ("token_embd.weight".into(), None);
    }
    let mut parts = module.split('.');
    let (block, kind) = (parts.nth(2).unwrap(), parts.next_back().unwrap());
    let (name, heads) = match kind {
        "q_proj" => ("attn_q", Some(4)),
        "k_proj" => ("attn_k", Some(2)),
        "v_proj" => ("attn_v", None),
        "o_proj" => ("attn_output", None),
        "down_proj" => ("ffn_down", None),
        other => panic!("{other}"),
    };
    (format!("blk.{block}.{name}.weight"), heads)
}

/// `w.reshape(heads, 2, -1, n_cols).swapaxes(1, 2)`: `LlamaModel.permute` of llama.cpp's converter.
fn permuted(w: &[f32], heads: usize, n_cols: usize) -> Vec<f32> {
    let half = w.len() / n_cols / heads / 2;
    let mut out = Vec::new();
    for head in 0..heads {
        for i in 0..half {
            for j in 0..2 {
                let row = head * 2 * half + j * half + i;
                out.extend(&w[row * n_cols..(row + 1) * n_cols]);
            }
        }
    }
    out
}

#[test]
fn a_folder_of_peft_adds_what_peft_adds_to_every_module() {
    let folder = tempdir();
    let model = Tiny::new(Arch::Llama).seed(1).write(folder.path());
    let out = folder.path().join("merged.gguf");
    for (name, n) in [("patterns", 6), ("stabilised", 5)] {
        let output = merged(&model, &fixture(name), &out);
        assert!(output.status.success(), "{}", stderr(&output));
        let bytes = fs::read(fixture(&format!("{name}-deltas.safetensors"))).unwrap();
        let deltas = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(deltas.names().len(), n, "{name}");
        for (module, delta) in deltas.tensors() {
            let words = delta.data().as_chunks::<4>().0.iter();
            let delta: Vec<f32> = words.map(|b| f32::from_le_bytes(*b)).collect();
            let (tensor, heads) = tensor_of(&module);
            let n_cols = if tensor.contains("ffn_down") { 128 } else { 64 };
            let expected = heads.map_or(delta.clone(), |heads| permuted(&delta, heads, n_cols));
            let (before, after) = (values(&model, &tensor), values(&out, &tensor));
            let found = after.iter().zip(&before).map(|(a, b)| a - b);
            let most = found.zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            let size = expected.iter().map(|x| x.abs()).fold(0.0, f32::max);
            assert!(
                size > 0.01 && most < 1e-5 * (1.0 + size),
                "{name}, {module}: {most} of {size}"
            );
        }
    }
}

#[test]
fn llama_cpp_answers_with_a_folder_as_with_the_merged_model() {
    let folder = tempdir();
    let model = Tiny::new(Arch::Llama).seed(1).write(folder.path());
    let out = folder.path().join("merged.gguf");
    assert!(merged(&model, &fixture("patterns"), &out).status.success());
    let lora = fixture("patterns");
    let asked = |model: &Path, more: &[&Path]| {
        let mut command = aird();
        command.arg("ask").arg(model).args(["Tell me a story.", "--max-tokens", "12", "--json"]);
        let output = command.args(more).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    };
    let with = asked(&model, &[Path::new("--lora"), &lora]);
    assert_eq!(with, asked(&out, &[]));
    assert_ne!(with, asked(&model, &[]));
}

/// Matrices of every kind that a block of `llama` has.
const NAMES: [&str; 7] = [
    "blk.0.attn_q.weight",
    "blk.1.attn_k.weight",
    "blk.0.attn_v.weight",
    "blk.1.attn_output.weight",
    "blk.0.ffn_gate.weight",
    "blk.1.ffn_up.weight",
    "blk.0.ffn_down.weight",
];

#[test]
fn an_adapter_goes_to_peft_and_back_in_every_family() {
    for arch in [Arch::Llama, Arch::Qwen2, Arch::Gemma3, Arch::Olmo2] {
        let folder = tempdir();
        let tiny = Tiny::new(arch).seed(1);
        let model = Model::open(&tiny.write(folder.path())).unwrap();
        let lora = Lora::open(&Adapter::new(&tiny, &NAMES).write(folder.path())).unwrap();
        let peft = folder.path().join("peft");
        fs::create_dir(&peft).unwrap();
        for (name, bytes) in lora.to_peft(&model).unwrap() {
            fs::write(peft.join(name), bytes).unwrap();
        }
        let back = Lora::open_for(&peft, &model).unwrap();
        assert!(back.does_as(&lora, 1e-6), "{arch:?}");
        // Rows of q and k are permuted for llama only.
        let bytes = fs::read(peft.join("adapter_model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let name = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight";
        let b = file.tensor(name).unwrap().data().to_vec();
        let own = Adapter::new(&tiny, &NAMES).pairs()[0].1.values.clone();
        let own: Vec<u8> = own.iter().flat_map(|x| (2.0 * x).to_le_bytes()).collect();
        assert_eq!(b == own, arch != Arch::Llama, "{arch:?}");
    }
}

#[test]
fn a_repair_is_written_as_a_folder_that_does_the_same() {
    let folder = tempdir();
    let tiny = Tiny::new(Arch::Llama).ty(GgmlType::F16).seed(1);
    let model = tiny.write(folder.path());
    let direction = crate::support::direction(folder.path(), &tiny);
    let [gguf, peft, a, b] = ["a.gguf", "peft", "b.gguf", "c.gguf"].map(|n| folder.path().join(n));
    let repair = |lora: &Path, more: &[&str]| {
        let mut command = aird();
        command.args(["repair", "--block", "0,1", "--alpha", "0.5", "--direction"]);
        command.arg(&direction).arg(&model).arg("--lora").arg(lora).args(more).output().unwrap()
    };
    assert!(repair(&gguf, &[]).status.success());
    let output = repair(&peft, &["--format", "peft", "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["files"].as_array().unwrap().len(), 3);
    let files = ["adapter_config.json", "adapter_model.safetensors", "aird.json"];
    assert_eq!(names_in(&peft), files);
    assert!(merged(&model, &gguf, &a).status.success());
    assert!(merged(&model, &peft, &b).status.success());
    let name = "blk.1.ffn_down.weight";
    assert_eq!(values(&a, name), values(&b, name));
    assert_ne!(values(&a, name), values(&model, name));
    let about: Value = serde_json::from_slice(&fs::read(peft.join(files[2])).unwrap()).unwrap();
    assert_eq!(about["history"][0]["verb"], "repair");

    let again = repair(&peft, &["--format", "peft"]);
    assert!(stderr(&again).contains("the folder exists"), "{}", stderr(&again));
    fs::write(peft.join("notes.txt"), "mine").unwrap();
    assert!(repair(&peft, &["--format", "peft", "--force"]).status.success());
    // Its other files stay.
    assert_eq!(names_in(&peft), [files[0], files[1], files[2], "notes.txt"]);
    // A folder of something else is never replaced.
    let other = folder.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("mine"), "x").unwrap();
    assert!(!repair(&other, &["--format", "peft", "--force"]).status.success());
    assert_eq!(names_in(&other), ["mine"]);
    assert!(names_in(folder.path()).iter().all(|name| !name.starts_with('.')));
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let folder = tempdir();
    let model = Tiny::new(Arch::Llama).seed(1).write(folder.path());
    let moe = Tiny::new(Arch::Qwen3Moe).seed(1).write(folder.path());
    let out = folder.path().join("merged.gguf");
    let peft = folder.path().join("peft");
    let said = |model: &Path, change: &dyn Fn(&mut Value)| {
        let _ = fs::remove_dir_all(&peft);
        fs::create_dir(&peft).unwrap();
        for name in ["adapter_config.json", "adapter_model.safetensors"] {
            fs::copy(fixture("patterns").join(name), peft.join(name)).unwrap();
        }
        let config = peft.join("adapter_config.json");
        let mut json: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
        change(&mut json);
        fs::write(&config, json.to_string()).unwrap();
        let output = merged(model, &peft, &out);
        assert_eq!(output.status.code(), Some(1));
        assert!(!out.exists());
        stderr(&output)
    };
    let dora = said(&model, &|config| config["use_dora"] = json!(true));
    assert!(dora.contains("DoRA is not supported"), "{dora}");
    let modules = said(&model, &|config| config["modules_to_save"] = json!(["lm_head"]));
    assert!(modules.contains("modules_to_save"), "{modules}");
    let ranks = said(&model, &|config| config["rank_pattern"] = json!({}));
    assert!(ranks.contains("expected its rank 4"), "{ranks}");
    let experts = said(&moe, &|_| {});
    assert!(experts.contains("qwen3moe's modules"), "{experts}");
    fs::remove_file(peft.join("adapter_model.safetensors")).unwrap();
    fs::write(peft.join("adapter_model.bin"), "pickle").unwrap();
    let output = merged(&model, &peft, &out);
    assert!(stderr(&output).contains("is a pickle"), "{}", stderr(&output));
}
