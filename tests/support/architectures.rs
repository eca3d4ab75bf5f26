//! A tiny model of every architecture, made from `fixtures/architectures/models.txt`: the file
//! explains its lines. llama.cpp loads each of them and answers with finite logits.

use std::ops::RangeInclusive;
use std::path::Path;

use aird::gguf::{Builder, GgmlType, Value};

use super::ggml;
use super::random::Random;
use super::vocabulary::Tokenizer;

const FIXTURE: &str = include_str!("../../fixtures/architectures/models.txt");
/// What llama.cpp's architecture test leaves out.
const OWN: &str = include_str!("../../fixtures/architectures/own.txt");

/// It has a token for every byte, so that any text can be tokenized.
const TOKENIZER: Tokenizer = Tokenizer::Gpt2;

/// What the fixture states about a model.
#[derive(Debug, Clone)]
pub struct Facts {
    /// `llama-dense`: some architectures have two models.
    pub name: String,
    /// `general.architecture`.
    pub architecture: String,
    /// Keys without the architecture in front; the last of two with the same name counts.
    keys: Vec<(String, Value)>,
    tensors: Vec<Tensor>,
}

#[derive(Debug, Clone)]
struct Tensor {
    /// None for the embedding, the output and the like, which come first in the file.
    block: Option<u64>,
    name: String,
    /// Inputs first.
    shape: Vec<u64>,
}

/// All models, in the order of the two fixtures.
pub fn all() -> Vec<Facts> {
    let mut models = read(FIXTURE);
    models.extend(read(OWN));
    models
}

fn read(fixture: &str) -> Vec<Facts> {
    let mut common = Vec::new();
    let mut models = Vec::new();
    for section in fixture.split("\n\n") {
        let mut lines = section.lines().filter(|line| !line.starts_with('#'));
        // The first section is a comment.
        let Some(head) = lines.next() else { continue };
        match head.split(' ').collect::<Vec<_>>()[..] {
            ["common"] => common = lines.map(|line| key(line).unwrap()).collect(),
            ["model", name, architecture] => {
                let mut facts = Facts {
                    name: name.to_owned(),
                    architecture: architecture.to_owned(),
                    keys: common.clone(),
                    tensors: Vec::new(),
                };
                facts.read(lines);
                models.push(facts);
            }
            _ => panic!("not a section of the fixture: {head}"),
        }
    }
    models
}

impl Facts {
    /// Writes the model to `path`, the same bytes each time.
    pub fn write(&self, path: &Path) {
        let mut file = Builder::new();
        file.kv("general.architecture", self.architecture.as_str())
            .kv("general.type", "model")
            // llama.cpp looks for the real phi3's special tokens in a model of that name.
            .kv("general.name", format!("Tiny {}", self.name.replace("phi3", "phi")))
            .kv("general.file_type", 0u32);
        for (key, value) in &self.keys {
            file.kv(format!("{}.{key}", self.architecture), value.clone());
        }
        TOKENIZER.write(&mut file);
        if self.tensors.iter().any(|tensor| tensor.name == "token_types.weight") {
            file.kv("tokenizer.ggml.token_type_count", 2u32);
        }
        for tensor in &self.tensors {
            let bytes = ggml::encode(GgmlType::F32, &tensor.values(&self.name), tensor.shape[0]);
            file.tensor(&tensor.name, &tensor.shape, GgmlType::F32, bytes).unwrap();
        }
        file.write(path).unwrap();
    }

    /// Reads the lines after `model`.
    fn read<'a>(&mut self, lines: impl Iterator<Item = &'a str>) {
        let mut blocks: Option<RangeInclusive<u64>> = None;
        for line in lines {
            if let Some(key) = key(line) {
                self.keys.push(key);
            } else if let Some(range) = line.strip_prefix("blocks ") {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                blocks = Some(first.parse().unwrap()..=last.parse().unwrap());
            } else if let Some(blocks) = blocks.clone() {
                self.tensors.extend(blocks.flat_map(|block| tensors(line, Some(block))));
            } else {
                self.tensors.extend(tensors(line, None));
            }
        }
        // The fixture states first what many blocks share; files have one block after the other.
        self.tensors.sort_by_key(|tensor| tensor.block);
    }
}

/// `KEY = VALUE`; None for other lines.
fn key(line: &str) -> Option<(String, Value)> {
    let (key, text) = line.split_once(" = ")?;
    Some((key.to_owned(), value(text)))
}

fn value(text: &str) -> Value {
    let Some(list) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) else {
        return single(text);
    };
    let values: Vec<Value> = match list.split_once(" x ") {
        Some((text, n)) => vec![single(text); n.parse().unwrap()],
        None => list.split(", ").map(single).collect(),
    };
    Value::array(values[0].value_type(), values)
}

fn single(text: &str) -> Value {
    if let Ok(truth) = text.parse::<bool>() {
        truth.into()
    } else if let Some(number) = text.strip_suffix('i') {
        number.parse::<i32>().unwrap().into()
    } else if text.contains(['.', 'e']) {
        text.parse::<f32>().unwrap().into()
    } else {
        text.parse::<u32>().unwrap().into()
    }
}

/// `NAME SHAPE [+bias] [+scale]`: the tensor and those that belong to it.
fn tensors(line: &str, block: Option<u64>) -> Vec<Tensor> {
    let prefix = block.map(|block| format!("blk.{block}.")).unwrap_or_default();
    let tensor = |name: &str, ending: &str, shape: &[u64]| Tensor {
        block,
        name: format!("{prefix}{name}{ending}"),
        shape: shape.to_vec(),
    };
    let mut words = line.split(' ');
    let name = words.next().unwrap();
    let shape: Vec<u64> = words.next().unwrap().split('x').map(dimension).collect();
    let stem = name.strip_suffix(".weight").unwrap_or(name);
    let mut all = vec![tensor(name, "", &shape)];
    for word in words {
        match word {
            // A norm has as many outputs as inputs.
            "+bias" if shape.len() == 1 => all.push(tensor(stem, ".bias", &shape)),
            "+bias" => all.push(tensor(stem, ".bias", &shape[1..])),
            "+scale" => {
                let shape = if shape.len() > 2 { &shape[2..] } else { &[1] };
                all.extend([".scale", ".input_scale"].map(|ending| tensor(stem, ending, shape)));
            }
            _ => panic!("not a word of the fixture: {word}"),
        }
    }
    all
}

fn dimension(text: &str) -> u64 {
    if text == "vocab" { TOKENIZER.n_vocab() } else { text.parse().unwrap() }
}

impl Tensor {
    /// The values of the tensor in model `model`. The names are the seed, so that a new tensor in
    /// the fixture leaves the values of the others as they are.
    fn values(&self, model: &str) -> Vec<f32> {
        let mut random = Random::new(fnv1a(&format!("{model}/{}", self.name)));
        let (mean, deviation) = self.mean_and_deviation();
        let n = self.shape.iter().product::<u64>() as usize;
        // As in real gemmas, whose norms have gains of .1 and of hundreds side by side.
        if model.ends_with("-wide") && self.name.contains("post_") {
            return random.normals(n, 1.0).into_iter().map(|x| 0.1 + 5.0 * x.powi(4)).collect();
        }
        random.normals(n, deviation).into_iter().map(|x| mean + x).collect()
    }

    /// What the values should be like, by the tensor's name.
    fn mean_and_deviation(&self) -> (f32, f32) {
        let prefix = self.block.map(|block| format!("blk.{block}.")).unwrap_or_default();
        let part = self.name.strip_prefix(&prefix).unwrap();
        match part {
            // A state is multiplied by exp(a * softplus(dt + bias)) at each token. Values of these
            // two are below zero (`Random::normal` is never beyond 3.5): a state does not grow, and
            // it is not lost at once.
            "ssm_a" | "ssm_dt.bias" => (-2.0, 0.5),
            // A score beside those of the tokens, which have about unit size.
            "attn_sinks.weight" => (0.0, 0.5),
            // Small beside what they are added to; `exp_probs_b` is added to probabilities.
            "exp_probs_b" => (0.0, 0.05),
            _ if part.ends_with(".bias") => (0.0, 0.05),
            // Factors: near 1, but not so near that a code that forgets them seems to be right.
            // Some norms' gains have names without `.weight`.
            "ssm_d" => (1.0, 0.15),
            _ if ["norm", "scale", "rope_f"].iter().any(|word| part.contains(word)) => (1.0, 0.15),
            // Rows of length 0.8: an input of unit size gives outputs of about unit size. A matrix
            // with one output has one dimension.
            _ => (0.0, 0.8 / (self.shape[0] as f32).sqrt()),
        }
    }
}

/// A hash of `text` that is the same everywhere (Fowler, Noll, Vo).
fn fnv1a(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}
