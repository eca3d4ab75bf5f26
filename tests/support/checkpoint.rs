//! The tiny checkpoints of `fixtures/checkpoints`, written as folders.

use std::fs;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use serde_json::{Map, Value};

use super::root;

/// Every family and variant that was converted by llama.cpp's converter.
pub fn cases() -> Vec<String> {
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let names = files.filter_map(|path| {
        let name = path.file_name()?.to_str()?.strip_suffix(".json")?.to_owned();
        (name != "bpe").then_some(name)
    });
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// A checkpoint, and what the converter made of it.
pub struct Case {
    json: Value,
    /// Names and shapes, rows first.
    pub tensors: Vec<(String, Vec<usize>)>,
    /// The type of the weights.
    pub dtype: Dtype,
}

impl Case {
    pub fn read(name: &str) -> Case {
        let text = fs::read_to_string(folder().join(format!("{name}.json"))).unwrap();
        let json: Value = serde_json::from_str(&text).unwrap();
        let tensors = json["tensors"].as_array().unwrap().iter().map(|tensor| {
            let shape = tensor[1].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize);
            (tensor[0].as_str().unwrap().to_owned(), shape.collect())
        });
        let dtype = match json["dtype"].as_str().unwrap() {
            "F32" => Dtype::F32,
            "F16" => Dtype::F16,
            _ => Dtype::BF16,
        };
        Case { tensors: tensors.collect(), dtype, json }
    }

    /// The keys that the converter wrote.
    pub fn keys(&self) -> &Map<String, Value> {
        self.json["keys"].as_object().unwrap()
    }

    /// Type, shape and hash of each tensor that the converter wrote, by name.
    pub fn expected(&self, ty: &str) -> &Map<String, Value> {
        self.json["expected"][ty].as_object().unwrap()
    }

    /// Changes a file of the checkpoint.
    pub fn edit(&mut self, file: &str, edit: impl FnOnce(&mut Map<String, Value>)) {
        edit(self.json["files"][file].as_object_mut().unwrap());
    }

    /// Changes `tokenizer.json`.
    pub fn edit_tokenizer(&mut self, key: &str, value: Value) {
        self.json["tokenizer"][key] = value;
    }

    /// Writes the checkpoint into `folder/tiny-model`.
    pub fn write(&self, folder: &Path) -> PathBuf {
        let out = folder.join("tiny-model");
        fs::create_dir_all(&out).unwrap();
        for (name, content) in self.json["files"].as_object().unwrap() {
            let text = content.as_str().map_or_else(|| content.to_string(), str::to_owned);
            fs::write(out.join(name), text).unwrap();
        }
        self.write_weights(&out.join("model.safetensors"), |_| true);
        if self.json["pieces"] == true {
            fs::copy(self::folder().join("pieces.model"), out.join("tokenizer.model")).unwrap();
            return out;
        }
        let text = fs::read_to_string(self::folder().join("bpe.json")).unwrap();
        let mut tokenizer: Value = serde_json::from_str(&text).unwrap();
        for (key, value) in self.json["tokenizer"].as_object().unwrap() {
            match key.as_str() {
                "ignore_merges" | "merges" => tokenizer["model"][key] = value.clone(),
                _ => tokenizer[key] = value.clone(),
            }
        }
        fs::write(out.join("tokenizer.json"), tokenizer.to_string()).unwrap();
        out
    }

    /// Writes the tensors that `chosen` takes by name.
    pub fn write_weights(&self, path: &Path, chosen: impl Fn(&str) -> bool) {
        let is_fp8 = !self.json["files"]["config.json"]["quantization_config"].is_null();
        let mut tensors = Vec::new();
        for (place, (name, shape)) in self.tensors.iter().enumerate().filter(|t| chosen(&t.1.0)) {
            if is_fp8 && name.contains("_proj.") {
                let blocks: Vec<usize> = shape.iter().map(|n| n.div_ceil(8)).collect();
                let scales = scales(place, &blocks);
                tensors.push((name.clone(), Dtype::F8_E4M3, shape.clone(), fp8(place, shape)));
                tensors.push((format!("{name}_scale_inv"), Dtype::F32, blocks, scales));
                continue;
            }
            let bytes = weights(place, shape, self.dtype);
            tensors.push((name.clone(), self.dtype, shape.clone(), bytes));
        }
        let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
            (name.clone(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
        });
        serialize_to_file(views, None, path).unwrap();
    }
}

fn folder() -> PathBuf {
    root().join("fixtures/checkpoints")
}

/// As `weights` of `scripts/make-checkpoints.py`, before they are rounded.
fn values(place: usize, shape: &[usize]) -> impl Iterator<Item = f32> {
    let n: usize = shape.iter().product();
    (0..n).map(move |i| {
        let k = (i * 7919 + place * 104_729) % 4099;
        (k as f32 - 2049.0) / 4099.0
    })
}

/// As `fp8` of the script: the elements.
fn fp8(place: usize, shape: &[usize]) -> Vec<u8> {
    let n: usize = shape.iter().product();
    let bits = (0..n).map(|i| (i * 31 + place * 7) % 256);
    bits.map(|bits| if bits % 128 == 127 { 0 } else { bits as u8 }).collect()
}

/// As `fp8` of the script: the scales.
fn scales(place: usize, blocks: &[usize]) -> Vec<u8> {
    values(place, blocks).flat_map(|x| ((x + 1.5) / 448.0).to_le_bytes()).collect()
}

/// As `weights` of the script.
fn weights(place: usize, shape: &[usize], dtype: Dtype) -> Vec<u8> {
    let values = values(place, shape);
    match dtype {
        Dtype::F32 => values.flat_map(f32::to_le_bytes).collect(),
        Dtype::F16 => values.flat_map(|x| f16::from_f32(x).to_le_bytes()).collect(),
        _ => values.flat_map(|x| bf16::from_f32(x).to_le_bytes()).collect(),
    }
}
