//! A checkpoint's folder: which files there are, and which tensor lies where. Files are mapped;
//! nothing is copied.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use serde_json::Value as Json;

use super::config::Config;
use super::error::{Error, Result};
use crate::gguf::MappedFile;

const CONFIG: &str = "config.json";
const INDEX: &str = "model.safetensors.index.json";
/// How a pointer of Git LFS begins.
const LFS: &[u8] = b"version https://git-lfs";
/// Bytes before the header of a safetensors file: its length.
const LENGTH_BYTES: u64 = 8;

/// A tensor of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The file that it lies in: an index into [`Checkpoint::shards`].
    pub shard: usize,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its shape, rows first, as PyTorch prints it.
    pub shape: Vec<u64>,
    /// Its bytes in the file.
    pub range: Range<u64>,
}

/// A Hugging Face checkpoint, opened for reading.
#[derive(Debug)]
pub struct Checkpoint {
    /// The folder.
    pub folder: PathBuf,
    /// `config.json`.
    pub config: Config,
    /// The files with the weights, in the order of their names.
    pub shards: Vec<MappedFile>,
    /// The tensors, shard by shard, in each by name: the order in which llama.cpp's converter
    /// takes them.
    pub tensors: IndexMap<String, Entry>,
}

/// True if `path` is a folder that has a `config.json`.
#[must_use]
pub fn is_checkpoint(path: &Path) -> bool {
    path.is_dir() && path.join(CONFIG).symlink_metadata().is_ok()
}

impl Checkpoint {
    /// Opens the folder and checks that its files belong together.
    ///
    /// # Errors
    /// A file is missing, malformed or not of this kind; the weights are pickled or quantized.
    pub fn open(folder: &Path) -> Result<Checkpoint> {
        if !folder.is_dir() || folder.join(CONFIG).symlink_metadata().is_err() {
            let path = folder.into();
            return Err(match folder.join("adapter_config.json").is_file() {
                true => Error::Adapter { path },
                false => Error::NotACheckpoint { path },
            });
        }
        let config = Config::read(&real(folder.join(CONFIG))?)?;
        refuse_quantized(&config)?;
        let index = weight_map(folder)?;
        let names = match &index {
            Some(index) => index.keys().cloned().collect(),
            None => unindexed(folder)?,
        };
        let mut checkpoint = Checkpoint {
            folder: folder.into(),
            config,
            shards: Vec::new(),
            tensors: IndexMap::new(),
        };
        for name in names {
            let named = index.as_ref().map(|index| &index[&name]);
            checkpoint.add_shard(&name, named)?;
        }
        Ok(checkpoint)
    }

    /// The bytes of a tensor.
    #[must_use]
    pub fn data(&self, entry: &Entry) -> &[u8] {
        &self.shards[entry.shard].bytes()[entry.range.start as usize..entry.range.end as usize]
    }

    /// A file of the folder; None if it is not there.
    ///
    /// # Errors
    /// It is a link that leads nowhere.
    pub fn file(&self, name: &str) -> Result<Option<PathBuf>> {
        let path = self.folder.join(name);
        path.symlink_metadata().ok().map(|_| real(path)).transpose()
    }

    /// Every file that decides what an import makes of the folder, by name: configuration,
    /// tokenizer, model card, in the order of their names. The weights are [`Checkpoint::shards`].
    ///
    /// # Errors
    /// As [`Checkpoint::file`].
    pub fn small_files(&self) -> Result<Vec<PathBuf>> {
        const NAMES: [&str; 11] = [
            CONFIG,
            "README.md",
            "added_tokens.json",
            "chat_template.jinja",
            "chat_template.json",
            "generation_config.json",
            "merges.txt",
            INDEX,
            "tokenizer.json",
            "tokenizer.model",
            "tokenizer_config.json",
        ];
        let found = NAMES.iter().map(|name| self.file(name));
        Ok(found.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// Maps a shard and adds its tensors. `named` are those that the index puts into it.
    fn add_shard(&mut self, name: &str, named: Option<&Vec<String>>) -> Result<()> {
        let path = self.folder.join(name);
        if let Some(named) = named
            && path.symlink_metadata().is_err()
        {
            let tensors = named.len();
            let first = named.first().cloned().unwrap_or_default();
            let missing = Error::MissingShard { name: name.into(), index: INDEX, tensors, first };
            return Err(missing.in_file(&self.folder));
        }
        let file = MappedFile::open(&real(path.clone())?)?;
        let tensors = tensors_of(&file, self.shards.len())?;
        if let Some(named) = named {
            let named: HashSet<&str> = named.iter().map(String::as_str).collect();
            if let Some(absent) = named.iter().filter(|name| !tensors.contains_key(**name)).min() {
                return Err(Error::NotInShard { tensor: (*absent).into() }.in_file(&path));
            }
            if let Some(extra) = tensors.keys().find(|name| !named.contains(name.as_str())) {
                return Err(Error::NotInIndex { tensor: extra.clone() }.in_file(&path));
            }
        }
        for (name, entry) in tensors {
            if self.tensors.contains_key(&name) {
                return Err(Error::TensorTwice { tensor: name }.in_file(&path));
            }
            self.tensors.insert(name, entry);
        }
        self.shards.push(file);
        Ok(())
    }
}

/// The tensors of a safetensors file, by name.
fn tensors_of(file: &MappedFile, shard: usize) -> Result<BTreeMap<String, Entry>> {
    if file.bytes().starts_with(LFS) {
        return Err(Error::LfsPointer { path: file.path.clone() });
    }
    let read = SafeTensors::read_metadata(file.bytes());
    let (header, metadata) = read.map_err(|e| Error::from(e).in_file(&file.path))?;
    let begin = LENGTH_BYTES + header as u64;
    let entry = |info: &safetensors::tensor::TensorInfo| Entry {
        shard,
        dtype: info.dtype,
        shape: info.shape.iter().map(|&n| n as u64).collect(),
        range: begin + info.data_offsets.0 as u64..begin + info.data_offsets.1 as u64,
    };
    Ok(metadata.tensors().into_iter().map(|(name, info)| (name, entry(info))).collect())
}

/// Which tensors each shard holds, as the index says; None if there is no index.
fn weight_map(folder: &Path) -> Result<Option<BTreeMap<String, Vec<String>>>> {
    let path = folder.join(INDEX);
    if path.symlink_metadata().is_err() {
        return Ok(None);
    }
    let index = Config::read(&real(path)?)?;
    let expected = "an object of tensors and their files";
    let map = index.get("weight_map").ok_or_else(|| index.missing("weight_map", expected))?;
    let wrong = |found: &Json| index.wrong("weight_map", found, expected);
    let mut shards: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (tensor, file) in map.as_object().ok_or_else(|| wrong(map))? {
        let file = file.as_str().ok_or_else(|| wrong(file))?;
        if file.is_empty() || file.contains(['/', '\\']) || file == ".." || file == "." {
            return Err(Error::ShardName { name: file.into() }.in_file(index.path()));
        }
        shards.entry(file.into()).or_default().push(tensor.clone());
    }
    Ok(Some(shards))
}

/// The weights of a folder without an index.
fn unindexed(folder: &Path) -> Result<Vec<String>> {
    let read = std::fs::read_dir(folder);
    let read = read.map_err(|source| Error::Io { path: folder.into(), source })?;
    let names = read.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.collect();
    names.sort();
    let starting = |start: &str, end: &str| {
        let fits = |name: &&String| name.starts_with(start) && name.ends_with(end);
        names.iter().filter(fits).cloned().collect::<Vec<_>>()
    };
    let weights = starting("model", ".safetensors");
    if !weights.is_empty() {
        return Ok(weights);
    }
    let path = folder.to_owned();
    let pickles = [("pytorch_model", ".bin"), ("", ".pt"), ("", ".pth"), ("", ".bin")];
    let pickle = pickles.iter().find_map(|(start, end)| starting(start, end).into_iter().next());
    let mistral = starting("consolidated", ".safetensors").into_iter().next();
    Err(match (mistral, pickle) {
        (Some(found), _) => Error::MistralFormat { path, found },
        (_, Some(found)) => Error::Pickle { path, found },
        (None, None) => Error::NoWeights { path },
    })
}

/// Refuses what `quantization_config` says unless it is FP8 with scales beside the weights.
fn refuse_quantized(config: &Config) -> Result<()> {
    let Some(quantization) = config.object("quantization_config")? else { return Ok(()) };
    let method = quantization.text("quant_method")?.unwrap_or("by an unnamed method");
    let name = match method {
        "fp8" => return Ok(()),
        "gptq" => "GPTQ",
        "awq" => "AWQ",
        "bitsandbytes" => "bitsandbytes",
        "compressed-tensors" => "compressed-tensors",
        "hqq" => "HQQ",
        "aqlm" => "AQLM",
        "mxfp4" => "MXFP4",
        other => other,
    };
    Err(Error::Quantized { method: name.into() }.in_file(config.path()))
}

/// The path, unless it is a link that leads nowhere.
fn real(path: PathBuf) -> Result<PathBuf> {
    match path.is_symlink() && path.metadata().is_err() {
        true => Err(Error::DanglingLink { path }),
        false => Ok(path),
    }
}
