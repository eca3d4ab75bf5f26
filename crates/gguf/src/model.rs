//! A model opened for reading: one file or all of its shards, mapped into memory.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::error::{Error, Result, io_error};
use crate::header::{Header, KvMap};
use crate::keys;
use crate::shards::{self, ShardName};
use crate::tensor::TensorInfo;
use crate::value::Array;

/// One file of a model, mapped into memory: its only file, or one of several.
#[derive(Debug)]
pub struct Shard {
    /// The path that it was opened by.
    pub path: PathBuf,
    /// The header of this file. The model's own keys are in the first shard only.
    pub header: Header,
    /// File offset where the tensors' bytes begin.
    pub data_offset: u64,
    pub(crate) file: File,
    map: Mmap,
}

impl Shard {
    /// Opens, maps and checks a single file, and ignores its `split.*` keys.
    ///
    /// # Errors
    /// The file cannot be read or is no regular file, or llama.cpp's reader would refuse it.
    pub fn open(path: &Path) -> Result<Shard> {
        // Before it is opened: to open a pipe would wait for its writer, maybe for ever.
        check_regular(path)?;
        let file = File::open(path).map_err(io_error("cannot open", path))?;
        let map = map(&file).map_err(io_error("cannot map", path))?;
        let parsed = Header::parse(&map).and_then(|(header, data_offset)| {
            header.check_data(data_offset, map.len() as u64)?;
            Ok((header, data_offset))
        });
        let (header, data_offset) = parsed.map_err(|e| e.in_file(path))?;
        Ok(Shard { path: path.to_owned(), header, data_offset, file, map })
    }

    /// Length of the file in bytes.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.map.len() as u64
    }

    /// The bytes of the whole file, header and padding included.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// The text of a key; None if there is no such key.
    ///
    /// # Errors
    /// [`Error::WrongValue`]: the key is no text, or not UTF-8.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        self.named(keys::text(&self.header.kv, key))
    }

    /// The array of strings of a key; None if there is no such key. Its elements are bytes, since
    /// tokens need not be UTF-8.
    ///
    /// # Errors
    /// [`Error::WrongValue`]: the key is something else.
    pub fn texts(&self, key: &str) -> Result<Option<&Array>> {
        self.named(keys::texts(&self.header.kv, key))
    }

    /// The whole number, 0 or more, of a key of any integer type; None if there is no such key.
    ///
    /// # Errors
    /// [`Error::WrongValue`]: the key is something else.
    pub fn count(&self, key: &str) -> Result<Option<u64>> {
        self.named(keys::count(&self.header.kv, key))
    }

    /// The finite number of a key: a float, or an integer that an f64 holds exactly; None if there
    /// is no such key.
    ///
    /// # Errors
    /// [`Error::WrongValue`]: the key is something else.
    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        self.named(keys::number(&self.header.kv, key))
    }

    /// Adds the file to an error.
    fn named<T>(&self, found: Result<T>) -> Result<T> {
        found.map_err(|error| error.in_file(&self.path))
    }

    /// The file offsets of the bytes of `tensor`, without padding. It must be one of this shard's.
    #[must_use]
    pub fn range(&self, tensor: &TensorInfo) -> Range<u64> {
        let start = self.data_offset + tensor.offset;
        start..start + tensor.n_bytes()
    }
}

/// Maps a whole file for reading.
pub(crate) fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the map is read-only and private to us. Another process that shortens the file while
    // we read could still end ours (SIGBUS). Only reading whole models into memory would protect
    // from that, and llama.cpp maps them in the same way.
    unsafe { Mmap::map(file) }
}

/// Checks that `path` leads to a regular file: one that can be mapped, and read more than once.
///
/// # Errors
/// There is nothing, or [`Error::NotRegular`]: a folder, a pipe or a device.
pub fn check_regular(path: &Path) -> Result<()> {
    if path.metadata().map_err(io_error("cannot open", path))?.is_file() {
        return Ok(());
    }
    Err(Error::NotRegular { path: path.into() })
}

/// A tensor of an open model: its entry in the header, and its bytes in the map.
#[derive(Debug, Clone, Copy)]
pub struct Tensor<'m> {
    /// Its name, shape, type and offset.
    pub info: &'m TensorInfo,
    /// The file that it lies in: an index into [`Model::shards`].
    pub shard: usize,
    data: &'m [u8],
}

impl<'m> Tensor<'m> {
    /// The encoded bytes of all rows, without padding.
    #[must_use]
    pub fn data(&self) -> &'m [u8] {
        self.data
    }

    /// The encoded bytes of `rows`, counted from 0 over all dimensions after the first.
    ///
    /// # Panics
    /// If there are fewer rows than that.
    #[must_use]
    pub fn rows(&self, rows: Range<u64>) -> &'m [u8] {
        let row = self.info.row_bytes();
        &self.data[(rows.start * row) as usize..(rows.end * row) as usize]
    }
}

/// A whole model opened for reading, in one file or several. Files are mapped: what is not read
/// costs no memory.
#[derive(Debug)]
pub struct Model {
    shards: Vec<Shard>,
}

impl Model {
    /// Opens the model that `path` names: a file, or any shard of a split model, whose other shards
    /// lie beside it under the names that llama.cpp gives them.
    ///
    /// # Errors
    /// A shard is missing or malformed, or the shards do not belong together; or a common key of
    /// models (e.g. `general.architecture`, `tokenizer.ggml.tokens`) has another type than
    /// llama.cpp takes. [`Shard::open`] does not check the keys.
    pub fn open(path: &Path) -> Result<Model> {
        let model = Model::open_shards(path)?;
        let first = &model.shards[0];
        first.named(keys::check(&first.header.kv))?;
        Ok(model)
    }

    fn open_shards(path: &Path) -> Result<Model> {
        let first = Shard::open(path)?;
        let count = first.count(shards::COUNT_KEY)?.unwrap_or(0);
        if count <= 1 {
            return Ok(Model { shards: vec![first] });
        }
        let no = first.count(shards::NO_KEY)?.unwrap_or(0);
        let name = ShardName::parse(path);
        let by_name = name.as_ref().map(|n| (n.index, n.count));
        let Some(name) = name.filter(|_| by_name == Some((no, count))) else {
            return Err(wrong_shard(Some((no, count)), by_name).in_file(path));
        };
        let mut all = Vec::new();
        let mut first = Some(first);
        for index in 0..count {
            let shard = match first.take_if(|_| index == no) {
                Some(shard) => shard,
                None => open_sibling(&name.path(index), index, count)?,
            };
            all.push(shard);
        }
        let model = Model { shards: all };
        model.check_together()?;
        Ok(model)
    }

    /// The model's files, in the order of their numbers; one if it is not split.
    #[must_use]
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// The model's keys: those of the first shard.
    #[must_use]
    pub fn kv(&self) -> &KvMap {
        &self.shards[0].header.kv
    }

    /// Length of all files together, in bytes.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.shards.iter().map(Shard::file_bytes).sum()
    }

    /// Every tensor, shard by shard, in the files' order.
    pub fn tensors(&self) -> impl Iterator<Item = Tensor<'_>> {
        self.shards.iter().enumerate().flat_map(|(i, shard)| {
            shard.header.tensors.values().map(move |info| tensor_of(shard, i, info))
        })
    }

    /// How many tensors all shards have together.
    #[must_use]
    pub fn n_tensors(&self) -> usize {
        self.shards.iter().map(|s| s.header.tensors.len()).sum()
    }

    /// The tensor of that name; None if no shard has it.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        self.shards.iter().enumerate().find_map(|(i, shard)| {
            shard.header.tensors.get(name).map(|info| tensor_of(shard, i, info))
        })
    }

    /// As [`Shard::text`], of the first shard.
    ///
    /// # Errors
    /// The key is something else.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        self.shards[0].text(key)
    }

    /// As [`Shard::texts`], of the first shard.
    ///
    /// # Errors
    /// The key is something else.
    pub fn texts(&self, key: &str) -> Result<Option<&Array>> {
        self.shards[0].texts(key)
    }

    /// As [`Shard::count`], of the first shard.
    ///
    /// # Errors
    /// The key is something else.
    pub fn count(&self, key: &str) -> Result<Option<u64>> {
        self.shards[0].count(key)
    }

    /// As [`Shard::number`], of the first shard.
    ///
    /// # Errors
    /// The key is something else.
    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        self.shards[0].number(key)
    }

    /// `general.architecture`; empty if there is no such key. That it is text was checked by
    /// [`Model::open`].
    #[must_use]
    pub fn architecture(&self) -> &str {
        self.text("general.architecture").ok().flatten().unwrap_or_default()
    }

    /// A count that llama.cpp keeps under `{architecture}.{name}`, e.g. `block_count`; None if
    /// there is no such key.
    ///
    /// # Errors
    /// The key is something else.
    pub fn hparam(&self, name: &str) -> Result<Option<u64>> {
        self.count(&self.hparam_key(name))
    }

    /// As [`Model::hparam`], for a count that is one for the whole model or an array with one for
    /// each block, e.g. `feed_forward_length`.
    ///
    /// # Errors
    /// The key is something else, or lists fewer blocks.
    pub fn hparam_of_block(&self, name: &str, block: u32) -> Result<Option<u64>> {
        self.shards[0].named(keys::count_of_block(self.kv(), &self.hparam_key(name), block))
    }

    /// As [`Model::hparam`], for a count without which the model cannot be used.
    ///
    /// # Errors
    /// It is missing, or something else.
    pub fn needed_hparam(&self, name: &str) -> Result<u64> {
        let missing = || keys::missing(&self.hparam_key(name), "a whole number");
        self.hparam(name)?.ok_or_else(|| missing().in_file(&self.shards[0].path))
    }

    fn hparam_key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture())
    }

    /// Checks that the shards are of one model: no tensor twice, and as many as the first one says.
    fn check_together(&self) -> Result<()> {
        let first = &self.shards[0];
        let mut seen = std::collections::HashSet::new();
        for shard in &self.shards {
            for name in shard.header.tensors.keys() {
                if !seen.insert(name) {
                    let twice = Error::TensorInTwoShards { name: name.clone() };
                    return Err(twice.in_file(&shard.path));
                }
            }
        }
        let found = seen.len() as u64;
        match first.count(shards::TENSORS_KEY)? {
            Some(expected) if expected != found => {
                Err(Error::ShardTensorCount { found, expected }.in_file(&first.path))
            }
            _ => Ok(()),
        }
    }
}

fn tensor_of<'m>(shard: &'m Shard, index: usize, info: &'m TensorInfo) -> Tensor<'m> {
    let range = shard.range(info);
    let data = &shard.map[range.start as usize..range.end as usize];
    Tensor { info, shard: index, data }
}

/// Opens shard `index` of `count`, and checks by its keys that it is that one.
fn open_sibling(path: &Path, index: u64, count: u64) -> Result<Shard> {
    if !path.exists() {
        return Err(Error::MissingShard { path: path.into(), count });
    }
    let shard = Shard::open(path)?;
    let found = shard.count(shards::NO_KEY)?.zip(shard.count(shards::COUNT_KEY)?);
    if found != Some((index, count)) {
        return Err(wrong_shard(found, Some((index, count))).in_file(path));
    }
    Ok(shard)
}

/// The error of keys and a name that disagree, each as number (from 0) and count.
fn wrong_shard(by_keys: Option<(u64, u64)>, by_name: Option<(u64, u64)>) -> Error {
    let text = |shard: Option<(u64, u64)>| match shard {
        Some((no, count)) => format!("shard {} of {count}", no.saturating_add(1)),
        None => "no shard".into(),
    };
    Error::WrongShard { found: text(by_keys), expected: text(by_name) }
}
