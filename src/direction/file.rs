//! Direction files: safetensors with every candidate, the chosen unit vector, and how it was found.
//!
//! `candidates` F32 `[n_layer, n_pos, n_embd]` (position 0 is the last token), `direction` F32
//! `[n_embd]`; all else is one JSON object under the metadata key `aird`, one key so that the same
//! inputs give the same bytes.

use std::collections::HashMap;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde::{Deserialize, Serialize};

use super::capture::Grid;
use super::error::{Error, Result};
use super::intervene::unit;
use super::select::Scores;
use crate::gguf::{Builder, GgmlType, Value, check_regular, write_file};

/// Greatest error of a channel of a unit vector, if another machine rounded it to f32.
const TOLERANCE: f32 = 1e-5;
/// The metadata key.
const KEY: &str = "aird";

/// The metadata of a direction file.
///
/// A report may hold more fields beside it: [`Direction::read`] refuses unknown fields, this type
/// does not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// Version of aird that wrote the file.
    pub version: String,
    /// The model's name, from its file or its keys.
    pub model: String,
    /// sha256 of the model's file.
    pub model_sha256: String,
    /// `general.architecture`.
    pub architecture: String,
    /// The chosen block, whose input is meant; null before a choice.
    pub layer: Option<usize>,
    /// The chosen position, -1 the prompt's last token.
    pub position: Option<i32>,
    /// The limit on KL that the choice passed, nats; null if it was made by hand.
    pub max_kl: Option<f64>,
    /// First tokens of refusals.
    pub refusal_tokens: Vec<i32>,
    /// Candidates with their scores.
    pub scores: Vec<CellScores>,
    /// sha256 of each prompt set, by its role.
    pub prompts: serde_json::Map<String, serde_json::Value>,
    /// Prompts that the means were taken over: harmful, harmless.
    pub n_kept: (usize, usize),
    /// sha256 of the chat template.
    pub template_sha256: String,
}

/// One candidate's scores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellScores {
    /// The input of this block.
    pub layer: usize,
    /// -1 is the prompt's last token.
    pub position: i32,
    /// Prompts of each kind that it was evaluated on.
    pub n: usize,
    /// See [`Scores::bypass`]; null where it was not finite.
    pub bypass: Option<f64>,
    /// See [`Scores::induce`].
    pub induce: Option<f64>,
    /// See [`Scores::kl_nats`].
    pub kl_nats: Option<f64>,
}

impl From<&Scores> for CellScores {
    fn from(s: &Scores) -> CellScores {
        let finite = |x: f64| x.is_finite().then_some(x);
        CellScores {
            layer: s.cell.layer,
            position: -1 - s.cell.behind as i32,
            n: s.n,
            bypass: finite(s.bypass),
            induce: finite(s.induce),
            kl_nats: finite(s.kl_nats),
        }
    }
}

/// A direction, with the candidates it was chosen from.
#[derive(Debug, Clone, PartialEq)]
pub struct Direction {
    /// Raw differences of means.
    pub candidates: Grid<f32>,
    /// How it was found.
    pub about: About,
}

impl Direction {
    /// The raw candidate at the chosen layer and position.
    ///
    /// # Errors
    /// The file holds only candidates.
    pub fn chosen(&self) -> Result<&[f32]> {
        let (Some(layer), Some(position)) = (self.about.layer, self.about.position) else {
            return Err(malformed(Path::new("direction"), "no layer and position were chosen"));
        };
        Ok(self.candidates.at(layer, (-1 - position) as usize))
    }

    /// The chosen direction at length 1.
    ///
    /// # Errors
    /// As [`Direction::chosen`]; or it has no length.
    pub fn unit(&self) -> Result<Vec<f32>> {
        let no_length = || malformed(Path::new("direction"), "the chosen direction has no length");
        unit(self.chosen()?).ok_or_else(no_length)
    }

    /// Writes the file whole or not at all.
    ///
    /// # Errors
    /// The disk's.
    pub fn write(&self, path: &Path) -> Result<()> {
        Ok(write_file(path, &self.encode()?)?)
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// Scores that JSON cannot hold.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let path = Path::new("direction");
        let bytes = |x: &[f32]| x.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let Grid { n_layer, n_pos, n_embd, values } = &self.candidates;
        let all = bytes(values);
        let chosen = self.unit().ok().map(|unit| bytes(&unit));
        let broken = |e: safetensors::SafeTensorError| malformed(path, &e.to_string());
        let mut tensors = Vec::new();
        let shape = vec![*n_layer, *n_pos, *n_embd];
        tensors.push(("candidates", TensorView::new(Dtype::F32, shape, &all).map_err(broken)?));
        if let Some(chosen) = &chosen {
            let view = TensorView::new(Dtype::F32, vec![*n_embd], chosen).map_err(broken)?;
            tensors.push(("direction", view));
        }
        let about = serde_json::to_string(&self.about);
        let about = about.map_err(|e| malformed(path, &e.to_string()))?;
        let metadata = HashMap::from([(KEY.to_owned(), about)]);
        serialize(tensors, Some(metadata)).map_err(broken)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// It is not a direction file, or its parts do not fit together.
    pub fn read(path: &Path) -> Result<Direction> {
        let wrong = |what: &str| malformed(path, what);
        check_regular(path)?;
        let bytes = std::fs::read(path).map_err(|e| wrong(&format!("cannot read: {e}")))?;
        let no_file =
            |e: safetensors::SafeTensorError| wrong(&format!("not a direction file: {e}"));
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(no_file)?;
        let file = SafeTensors::deserialize(&bytes).map_err(no_file)?;
        let about = metadata.metadata().as_ref().and_then(|m| m.get(KEY));
        let about =
            about.ok_or_else(|| wrong("not a direction file: metadata 'aird' is missing"))?;
        let about = parsed(about)
            .map_err(|what| wrong(&format!("its metadata 'aird' does not parse: {what}")))?;
        check_version(&about.version).map_err(|what| wrong(&what))?;
        let known = |name: &&str| ["candidates", "direction"].contains(name);
        if let Some(name) = file.names().into_iter().find(|name| !known(name)) {
            return Err(wrong(&format!("tensor '{name}' is not one that aird knows")));
        }
        let tensor = file.tensor("candidates");
        let tensor = tensor.map_err(|_| wrong("not a direction file: no tensor 'candidates'"))?;
        let [n_layer, n_pos, n_embd] = *tensor.shape() else {
            return Err(wrong("'candidates' is not of shape [n_layer, n_pos, n_embd]"));
        };
        if tensor.dtype() != Dtype::F32 {
            return Err(wrong("'candidates' is not F32"));
        }
        let words = tensor.data().as_chunks::<4>().0.iter();
        let values: Vec<f32> = words.map(|b| f32::from_le_bytes(*b)).collect();
        if values.iter().any(|x| !x.is_finite()) {
            return Err(wrong("'candidates' holds a NaN or an infinity"));
        }
        let position = about.position.map_or(0, |p| -1 - p);
        let cell = (about.layer.unwrap_or(0), usize::try_from(position).unwrap_or(usize::MAX));
        if cell.0 >= n_layer || cell.1 >= n_pos {
            return Err(wrong("the chosen layer and position lie outside of 'candidates'"));
        }
        if about.layer.is_some() != about.position.is_some() {
            return Err(wrong("a layer or a position was chosen, expected both or none"));
        }
        let candidates = Grid { n_layer, n_pos, n_embd, values };
        let direction = Direction { candidates, about };
        if let Ok(chosen) = file.tensor("direction") {
            direction.check_chosen(&chosen).map_err(wrong)?;
        }
        Ok(direction)
    }

    /// Other tools read the tensor `direction`; aird reads the candidates: they must agree.
    fn check_chosen(&self, chosen: &TensorView<'_>) -> std::result::Result<(), &'static str> {
        if chosen.dtype() != Dtype::F32 || chosen.shape() != [self.candidates.n_embd] {
            return Err("'direction' is not F32 of shape [n_embd]");
        }
        let unit = self.unit().map_err(|_| "'direction' is there, but none was chosen")?;
        let words = chosen.data().as_chunks::<4>().0.iter();
        // Written so that a NaN counts as different.
        let is_same =
            |(bytes, x): (&[u8; 4], &f32)| (f32::from_le_bytes(*bytes) - x).abs() <= TOLERANCE;
        let same = words.zip(&unit).all(is_same);
        if same { Ok(()) } else { Err("'direction' is not the candidate that was chosen") }
    }

    /// Writes llama.cpp's control vector: the raw direction at the chosen layer's input, which is
    /// the output of the block before (`direction.N` is added at `l_out-N`).
    ///
    /// # Errors
    /// The chosen layer is 0, which a control vector cannot change; or the disk's.
    pub fn write_cvector(&self, path: &Path) -> Result<()> {
        let layer = self.about.layer.unwrap_or(0);
        if layer < 2 {
            let what =
                format!("layer {layer} is out of a control vector's reach, expected 2 or more");
            return Err(malformed(path, &what));
        }
        let bytes: Vec<u8> = self.chosen()?.iter().flat_map(|x| x.to_le_bytes()).collect();
        let mut file = Builder::new();
        file.kv("general.architecture", "controlvector")
            .kv("controlvector.model_hint", self.about.architecture.as_str())
            .kv("controlvector.layer_count", Value::I32(self.candidates.n_layer as i32));
        let shape = [self.candidates.n_embd as u64];
        file.tensor(&format!("direction.{}", layer - 1), &shape, GgmlType::F32, bytes)?;
        Ok(file.write(path)?)
    }
}

/// The metadata; an unknown field is an error.
fn parsed(text: &str) -> std::result::Result<About, String> {
    let about: About = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let fields = |value: serde_json::Result<serde_json::Value>| match value {
        Ok(serde_json::Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let known = fields(serde_json::to_value(&about));
    let found = fields(serde_json::from_str(text));
    match found.keys().find(|name| !known.contains_key(*name)) {
        None => Ok(about),
        Some(name) => Err(format!("unknown field `{name}`")),
    }
}

/// Refuses files of a later aird, whose meaning may have changed, and malformed versions.
fn check_version(version: &str) -> std::result::Result<(), String> {
    let parts = |text: &str| -> Option<Vec<u64>> {
        let (numbers, _) = text.split_once(['-', '+']).unwrap_or((text, ""));
        numbers.split('.').map(|n| n.parse().ok()).collect()
    };
    let own = env!("CARGO_PKG_VERSION");
    let found = parts(version)
        .ok_or_else(|| format!("its version is '{version}', expected numbers, e.g. {own}"))?;
    match parts(own).is_some_and(|own| found > own) {
        true => Err(format!("aird {version} wrote it, and this is {own}\nhint: use a newer aird")),
        false => Ok(()),
    }
}

fn malformed(path: &Path, what: &str) -> Error {
    Error::File { path: path.into(), what: what.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn direction() -> Direction {
        let candidates = Grid { n_layer: 2, n_pos: 1, n_embd: 2, values: vec![0.0, 1.0, 3.0, 4.0] };
        let about = About {
            version: env!("CARGO_PKG_VERSION").into(),
            model: "m".into(),
            model_sha256: String::new(),
            architecture: "llama".into(),
            layer: Some(1),
            position: Some(-1),
            max_kl: None,
            refusal_tokens: Vec::new(),
            scores: Vec::new(),
            prompts: serde_json::Map::new(),
            n_kept: (0, 0),
            template_sha256: String::new(),
        };
        Direction { candidates, about }
    }

    /// A tensor to be written: its name, shape, and numbers.
    type Part<'a> = (&'a str, Vec<usize>, &'a [f32]);

    /// What is said about a file of `tensors` whose metadata `bend` changed; None if it is read.
    fn said(bend: impl Fn(&mut serde_json::Value), tensors: &[Part<'_>]) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d.safetensors");
        let mut about = serde_json::to_value(direction().about).unwrap();
        bend(&mut about);
        let bytes: Vec<Vec<u8>> =
            tensors.iter().map(|t| t.2.iter().flat_map(|x| x.to_le_bytes()).collect()).collect();
        let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
            (*name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
        });
        let metadata = HashMap::from([(KEY.to_owned(), about.to_string())]);
        std::fs::write(&path, serialize(views, Some(metadata)).unwrap()).unwrap();
        Direction::read(&path).err().map(|error| error.to_string())
    }

    #[test]
    fn what_a_direction_file_says_is_never_passed_over() {
        let tensors: [Part<'_>; 1] = [("candidates", vec![2, 1, 2], &[0.0, 1.0, 3.0, 4.0])];
        assert_eq!(said(|_| (), &tensors), None);
        for (key, value, expected) in [
            ("version", serde_json::json!("99.0.0"), "aird 99.0.0 wrote it"),
            ("version", serde_json::json!("new"), "its version is 'new'"),
            ("version", serde_json::json!(1), "does not parse"),
            ("layer", serde_json::json!("1"), "does not parse"),
            ("layer", serde_json::json!(-1), "does not parse"),
            ("layer", serde_json::Value::Null, "expected both or none"),
            ("layer", serde_json::json!(2), "lie outside"),
            ("position", serde_json::json!(0), "lie outside"),
            ("scale", serde_json::json!(2.0), "unknown field"),
        ] {
            let said = said(|about| about[key] = value.clone(), &tensors);
            assert!(said.as_ref().is_some_and(|s| s.contains(expected)), "{key} {value}: {said:?}");
        }
        let lacks = |about: &mut serde_json::Value| {
            about.as_object_mut().unwrap().remove("architecture");
        };
        assert!(said(lacks, &tensors).unwrap().contains("missing field"));
    }

    #[test]
    fn the_tensors_of_a_direction_file_agree() {
        let with = |name: &str, values: &[f32]| {
            let candidates: Part<'_> = ("candidates", vec![2, 1, 2], &[0.0, 1.0, 3.0, 4.0]);
            said(|_| (), &[candidates, (name, vec![values.len()], values)])
        };
        assert_eq!(with("direction", &[0.6, 0.8]), None);
        for wrong in [&[0.8, 0.6][..], &[f32::NAN, 0.8], &[-0.6, -0.8]] {
            let said = with("direction", wrong).unwrap();
            assert!(said.contains("not the candidate that was chosen"), "{said}");
        }
        assert!(with("direction", &[1.0]).unwrap().contains("not F32 of shape"));
        assert!(with("bias", &[1.0]).unwrap().contains("tensor 'bias'"));
    }
}
