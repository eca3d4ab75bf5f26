//! `aird import`: what llama.cpp's converter makes of a Hugging Face checkpoint, byte for byte, and
//! a sentence where that cannot be.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use aird::gguf::{Model, Value as Kv, ValueType, history};
use aird::verbs::import::Report;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::checkpoint::{Case, cases};
use crate::support::{aird, is_report, names_in, stderr, stdout, tempdir};

const TYPES: [&str; 3] = ["F32", "F16", "BF16"];
/// Keys that the import adds.
const OURS: [&str; 2] = ["aird.version", "aird.history"];

fn import(folder: &Path, out: &Path, more: &[&str]) -> Output {
    aird().arg("import").arg(folder).arg("-o").arg(out).args(more).output().unwrap()
}

fn imported(case: &Case, folder: &Path, ty: &str) -> PathBuf {
    let checkpoint = case.write(folder);
    let out = folder.join(format!("{ty}.gguf"));
    let output = import(&checkpoint, &out, &["--type", &ty.to_lowercase()]);
    assert!(output.status.success(), "{}", stderr(&output));
    out
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// A key's value as `scripts/make-checkpoints.py` writes it.
fn shown(value: &Kv) -> Value {
    let name = |ty: ValueType| {
        let names = [
            ("u8", "UINT8"),
            ("i8", "INT8"),
            ("u16", "UINT16"),
            ("i16", "INT16"),
            ("u32", "UINT32"),
            ("i32", "INT32"),
            ("f32", "FLOAT32"),
            ("bool", "BOOL"),
            ("str", "STRING"),
            ("u64", "UINT64"),
            ("i64", "INT64"),
            ("f64", "FLOAT64"),
        ];
        names.iter().find(|(ours, _)| *ours == ty.name()).unwrap().1
    };
    if let Some(array) = value.as_array() {
        let mut bytes = Vec::new();
        for element in array.iter() {
            match element {
                Kv::String(text) => {
                    bytes.extend((text.len() as u64).to_le_bytes());
                    bytes.extend(text);
                }
                Kv::I32(x) => bytes.extend(x.to_le_bytes()),
                Kv::U32(x) => bytes.extend(x.to_le_bytes()),
                Kv::F32(x) => bytes.extend(x.to_le_bytes()),
                Kv::Bool(x) => bytes.push(x),
                other => panic!("{other:?}"),
            }
        }
        return json!(["ARRAY", name(array.element()), array.len(), sha256(&bytes)]);
    }
    let ty = name(value.value_type());
    match value {
        Kv::F32(x) => json!([ty, f64::from(*x)]),
        Kv::Bool(x) => json!([ty, *x != 0]),
        Kv::String(_) => json!([ty, value.as_str().unwrap()]),
        other => json!([ty, other.as_u64().unwrap()]),
    }
}

/// Numbers of the fixtures are texts, as Python writes them.
fn parsed(value: &Value) -> Value {
    match (value[0].as_str(), value[1].as_str()) {
        (Some(ty @ "FLOAT32"), Some(text)) => json!([ty, text.parse::<f64>().unwrap()]),
        _ => value.clone(),
    }
}

/// What an import has otherwise than the converter made it.
fn differences(name: &str, case: &Case, ty: &str) -> Vec<String> {
    let folder = tempdir();
    let model = Model::open(&imported(case, folder.path(), ty)).unwrap();
    let expected = case.expected(ty);
    let mut found = Vec::new();
    for tensor in model.tensors() {
        let info = tensor.info;
        let line = format!("{} {:?} {}", info.ty, info.shape, &sha256(tensor.data())[..16]);
        let theirs = expected.get(&info.name).and_then(Value::as_str);
        if theirs != Some(line.as_str()) {
            found.push(format!("{name} {ty} {}: {line}, expected {theirs:?}", info.name));
        }
    }
    let missing = expected.keys().filter(|tensor| model.tensor(tensor).is_none());
    found.extend(missing.map(|tensor| format!("{name} {ty} {tensor} is missing")));
    for (key, value) in case.keys() {
        let (ours, theirs) = (model.kv().get(key).map(shown), parsed(value));
        if ours.as_ref() != Some(&theirs) {
            found.push(format!("{name} {ty} {key}: {ours:?}, expected {theirs}"));
        }
    }
    let is_ours = |key: &str| OURS.contains(&key) || key == FILE_TYPE;
    let more = model.kv().keys().filter(|key| !case.keys().contains_key(*key) && !is_ours(key));
    found.extend(more.map(|key| format!("{name} {ty} {key} is one too many")));
    found
}

#[test]
fn every_family_is_imported_as_llama_cpps_converter_does_it() {
    let names = cases();
    assert!(names.len() >= 19, "{names:?}");
    let mut found = Vec::new();
    for name in names {
        let case = Case::read(&name);
        found.extend(TYPES.iter().flat_map(|ty| differences(&name, &case, ty)));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

const FILE_TYPE: &str = "general.file_type";

#[test]
fn the_report_and_the_history_say_what_was_read() {
    let folder = tempdir();
    let case = Case::read("smollm");
    let checkpoint = case.write(folder.path());
    let out = folder.path().join("out.gguf");
    let output = import(&checkpoint, &out, &["--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let report: Report = is_report(serde_json::from_slice(&output.stdout).unwrap());
    assert_eq!((report.family.as_str(), report.ty.as_str()), ("LlamaForCausalLM", "BF16"));
    assert_eq!(report.tensors_read, case.tensors.len());
    assert_eq!(report.files[0].bytes, out.metadata().unwrap().len());
    let model = Model::open(&out).unwrap();
    assert_eq!(model.count(FILE_TYPE).unwrap(), Some(32));
    let steps = history(model.kv());
    assert_eq!(steps.len(), 1);
    assert_eq!(steps[0]["verb"], "import");
    for (role, file) in [
        ("weights", "model.safetensors"),
        ("config.json", "config.json"),
        ("tokenizer.json", "tokenizer.json"),
    ] {
        let sum = sha256(&fs::read(checkpoint.join(file)).unwrap());
        assert_eq!(steps[0]["sources"][role], sum, "{role}");
    }
}

#[test]
fn a_dry_run_says_how_large_the_model_is_and_writes_nothing() {
    let folder = tempdir();
    let checkpoint = Case::read("qwen2").write(folder.path());
    let out = folder.path().join("out.gguf");
    let dry = import(&checkpoint, &out, &["--dry-run", "--json"]);
    assert!(dry.status.success(), "{}", stderr(&dry));
    let report: Report = is_report(serde_json::from_slice(&dry.stdout).unwrap());
    assert_eq!(names_in(folder.path()), ["tiny-model"]);
    let shown = import(&checkpoint, &out, &["--dry-run"]);
    assert!(stdout(&shown).contains("would write\n"), "{}", stdout(&shown));
    assert!(import(&checkpoint, &out, &[]).status.success());
    assert_eq!(report.files[0].bytes, out.metadata().unwrap().len());
    // What exists stays, unless it may be replaced.
    let said = stderr(&import(&checkpoint, &out, &[]));
    assert!(said.contains("exists"), "{said}");
    assert!(import(&checkpoint, &out, &["--force"]).status.success());
}

#[test]
fn shards_and_links_to_them_make_the_same_model() {
    let folder = tempdir();
    let case = Case::read("qwen2");
    let whole = imported(&case, folder.path(), "BF16");
    let checkpoint = folder.path().join("tiny-model");
    let weights = checkpoint.join("model.safetensors");
    fs::remove_file(&weights).unwrap();
    let blobs = folder.path().join("blobs");
    fs::create_dir(&blobs).unwrap();
    let mut map = serde_json::Map::new();
    for (i, prefix) in ["model.layers.0.", "model.layers.1.", ""].iter().enumerate() {
        let file = format!("model-0000{}-of-00003.safetensors", i + 1);
        let is_of = |name: &str| match prefix.is_empty() {
            true => !name.starts_with("model.layers."),
            false => name.starts_with(prefix),
        };
        case.write_weights(&blobs.join(format!("blob{i}")), is_of);
        #[cfg(unix)]
        std::os::unix::fs::symlink(format!("../blobs/blob{i}"), checkpoint.join(&file)).unwrap();
        #[cfg(not(unix))]
        fs::copy(blobs.join(format!("blob{i}")), checkpoint.join(&file)).unwrap();
        for (name, _) in case.tensors.iter().filter(|(name, _)| is_of(name)) {
            map.insert(name.clone(), file.as_str().into());
        }
    }
    let index = json!({ "metadata": {}, "weight_map": map });
    let index_path = checkpoint.join("model.safetensors.index.json");
    fs::write(&index_path, index.to_string()).unwrap();
    let out = folder.path().join("sharded.gguf");
    let output = import(&checkpoint, &out, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    let (a, b) = (Model::open(&whole).unwrap(), Model::open(&out).unwrap());
    for tensor in a.tensors() {
        assert_eq!(tensor.data(), b.tensor(&tensor.info.name).unwrap().data(), "{}", tensor.info);
    }

    let said = |index: &Value| {
        fs::write(&index_path, index.to_string()).unwrap();
        let output = import(&checkpoint, &folder.path().join("no.gguf"), &[]);
        assert_eq!(output.status.code(), Some(1));
        stderr(&output)
    };
    let mut wrong = index.clone();
    wrong["weight_map"]["model.absent.weight"] = "model-00001-of-00003.safetensors".into();
    assert!(said(&wrong).contains("tensor 'model.absent.weight' is not in it"));
    let mut wrong = index.clone();
    wrong["weight_map"].as_object_mut().unwrap().remove("model.norm.weight");
    assert!(said(&wrong).contains("tensor 'model.norm.weight' is in it, and the index does not"));
    let mut wrong = index.clone();
    wrong["weight_map"]["model.norm.weight"] = "../secret".into();
    assert!(said(&wrong).contains("expected the name of a file beside it"));
    fs::remove_file(blobs.join("blob1")).unwrap();
    #[cfg(unix)]
    assert!(said(&index).contains("a link to a file that is not there"));
    fs::remove_file(checkpoint.join("model-00002-of-00003.safetensors")).unwrap();
    let missing = said(&index);
    assert!(missing.contains("shard model-00002-of-00003.safetensors is missing"), "{missing}");
    assert!(!folder.path().join("no.gguf").exists());
}

/// What a change of a case's checkpoint makes the import say.
fn refusal(name: &str, change: impl FnOnce(&mut Case), after: impl FnOnce(&Path)) -> String {
    let folder = tempdir();
    let mut case = Case::read(name);
    change(&mut case);
    let checkpoint = case.write(folder.path());
    after(&checkpoint);
    let output = import(&checkpoint, &folder.path().join("out.gguf"), &[]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("error: "), "{said}");
    assert_eq!(names_in(folder.path()), ["tiny-model"]);
    said
}

#[test]
fn quantized_and_pickled_checkpoints_are_refused_by_name() {
    for (method, expected) in
        [("gptq", "GPTQ"), ("awq", "AWQ"), ("bitsandbytes", "bitsandbytes"), ("new", "new")]
    {
        let quantize = |case: &mut Case| {
            case.edit("config.json", |config| {
                config.insert("quantization_config".into(), json!({ "quant_method": method }));
            });
        };
        let said = refusal("smollm", quantize, |_| ());
        assert!(said.contains(&format!("the weights are quantized ({expected})")), "{said}");
    }
    let rename = |to: &'static str| {
        move |folder: &Path| fs::rename(folder.join("model.safetensors"), folder.join(to)).unwrap()
    };
    for (file, expected) in [
        ("pytorch_model.bin", "convert to safetensors"),
        ("consolidated.safetensors", "Mistral's own format"),
        ("weights.safetensors", "has no model.safetensors"),
    ] {
        let said = refusal("smollm", |_| (), rename(file));
        assert!(said.contains(expected), "{said}");
    }
    let lfs = |folder: &Path| {
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
        fs::write(folder.join("model.safetensors"), pointer).unwrap();
    };
    assert!(refusal("smollm", |_| (), lfs).contains("a pointer of Git LFS"));
    let cut = |folder: &Path| {
        let path = folder.join("model.safetensors");
        let bytes = fs::read(&path).unwrap();
        fs::write(path, &bytes[..bytes.len() - 8]).unwrap();
    };
    assert!(refusal("smollm", |_| (), cut).contains("or one that was cut off"));
}

#[test]
fn what_config_json_does_not_say_is_refused_with_the_place() {
    let set = |key: &'static str, value: Value| {
        move |case: &mut Case| {
            case.edit("config.json", |config| drop(config.insert(key.into(), value)));
        }
    };
    for (key, value, expected) in [
        ("architectures", json!(["LlamaForCausalLn"]), "the nearest is 'LlamaForCausalLM'"),
        ("architectures", json!([]), "key 'architectures' is missing"),
        ("hidden_size", json!(32), "has shape [304, 16], expected [304, 32] by config.json"),
        ("hidden_size", json!("16"), "key 'hidden_size' is \"16\", expected a whole number"),
        (
            "num_hidden_layers",
            json!(3),
            "tensor 'model.layers.2.input_layernorm.weight' is missing",
        ),
        ("num_hidden_layers", json!(1), "is not one of a llama model: its weights would be lost"),
        ("num_attention_heads", json!(0), "key 'num_attention_heads' is 0, expected"),
        ("num_attention_heads", json!(16), "is 16, expected heads of an even length"),
        ("vocab_size", json!(100), "has shape [304, 16], expected [100, 16] by config.json"),
        ("rope_scaling", json!({"rope_type": "odd"}), "the positions are scaled by 'odd'"),
    ] {
        let said = refusal("smollm", set(key, value.clone()), |_| ());
        assert!(said.contains(expected), "{key} {value}: {said}");
    }
    let said = refusal("smollm", |_| (), |f| fs::write(f.join("config.json"), "{").unwrap());
    assert!(said.contains("config.json: not valid JSON"), "{said}");
    let remove = |f: &Path| fs::remove_file(f.join("config.json")).unwrap();
    assert!(refusal("smollm", |_| (), remove).contains("it has no config.json"));
}

#[test]
fn a_tokenizer_that_llama_cpp_does_not_have_is_shown() {
    let patch =
        |key: &'static str, value: Value| move |case: &mut Case| case.edit_tokenizer(key, value);
    let said = refusal("smollm", patch("merges", json!([])), |_| ());
    assert!(said.contains("tokenizer has no merges"), "{said}");
    let odd = json!({"type": "Split", "pattern": {"Regex": "odd+"}, "behavior": "Isolated",
        "invert": false});
    let said = refusal("smollm", patch("pre_tokenizer", odd), |_| ());
    assert!(said.contains("the pre-tokenizer is none that aird knows"), "{said}");
    assert!(said.contains("odd+"), "{said}");
    let said = refusal("smollm", patch("ignore_merges", json!(true)), |_| ());
    assert!(said.contains("ignore_merges"), "{said}");
    let said = refusal("smollm", patch("normalizer", json!({"type": "Lowercase"})), |_| ());
    assert!(said.contains("has the normalizer Lowercase"), "{said}");
    let remove = |f: &Path| fs::remove_file(f.join("tokenizer.json")).unwrap();
    assert!(refusal("smollm", |_| (), remove).contains("there is no tokenizer.json"));
}

#[test]
fn a_folder_in_place_of_a_model_is_imported_once_and_found_again() {
    let folder = tempdir();
    let checkpoint = Case::read("smollm").write(folder.path());
    let cache = folder.path().join("cache");
    let diff = |reference: &Path| {
        let model = folder.path().join("BF16.gguf");
        aird()
            .arg("diff")
            .args([&model, reference])
            .arg("--cache-dir")
            .arg(&cache)
            .output()
            .unwrap()
    };
    imported(&Case::read("smollm"), folder.path(), "BF16");
    let first = diff(&checkpoint);
    assert!(first.status.success(), "{}", stderr(&first));
    assert!(stderr(&first).contains("importing "), "{}", stderr(&first));
    assert!(stdout(&first).contains("0 changed"), "{}", stdout(&first));
    let names = names_in(&cache);
    assert_eq!(names.len(), 1);
    assert!(names[0].starts_with("Tiny-Model-BF16-") && names[0].ends_with(".gguf"), "{names:?}");
    assert!(stderr(&diff(&checkpoint)).contains("was imported before"));
    assert_eq!(names_in(&cache), names);
    // Another file of the checkpoint is another model.
    fs::write(checkpoint.join("README.md"), "---\nlicense: mit\n---\n").unwrap();
    assert!(diff(&checkpoint).status.success());
    assert_eq!(names_in(&cache).len(), 2);
    // What is changed in place is no folder.
    let mut repair = aird();
    repair.arg("repair").arg(&checkpoint).arg("--reference").arg(&checkpoint);
    let repair = repair.args(["--in-place", "--cache-dir"]).arg(&cache).output().unwrap();
    assert_eq!(repair.status.code(), Some(1));
    assert!(stderr(&repair).contains("which is not changed in place"), "{}", stderr(&repair));
}

#[test]
fn an_exported_model_is_imported_as_the_same_bytes() {
    for name in cases() {
        let folder = tempdir();
        let case = Case::read(&name);
        let checkpoint = case.write(folder.path());
        let first = imported(&case, folder.path(), "BF16");
        let parent = folder.path().join("exported");
        fs::create_dir(&parent).unwrap();
        let out = parent.join("tiny-model");
        let export = || {
            let command = [Path::new("export"), &first, Path::new("--like"), &checkpoint];
            aird().args(command).arg("-o").arg(&out).arg("--json").output().unwrap()
        };
        let output = export();
        assert!(output.status.success(), "{name}: {}", stderr(&output));
        let report: aird::verbs::export::Report =
            is_report(serde_json::from_slice(&output.stdout).unwrap());
        assert_eq!(report.tensors, case.tensors.len(), "{name}");
        let refused = export();
        assert!(stderr(&refused).contains("exists"), "{name}: {}", stderr(&refused));
        let second = folder.path().join("second.gguf");
        let output = import(&out, &second, &["--type", "bf16"]);
        assert!(output.status.success(), "{name}: {}", stderr(&output));
        let (a, b) = (Model::open(&first).unwrap(), Model::open(&second).unwrap());
        for tensor in a.tensors() {
            let again = b.tensor(&tensor.info.name).unwrap();
            assert_eq!((tensor.info, tensor.data()), (again.info, again.data()), "{name}");
        }
        for (key, value) in a.kv().iter().filter(|(key, _)| !OURS.contains(&key.as_str())) {
            assert_eq!(b.kv().get(key), Some(value), "{name}: {key}");
        }
        assert_eq!(names_in(&parent), ["tiny-model"]);
        let card = fs::read_to_string(out.join("README.md")).unwrap();
        assert!(card.contains("\naird_source_sha256: "), "{card}");
    }
}
