//! What a rewrite will put where, before a byte is written: a caller can show it, the writer
//! follows it, and the read-back checks against it.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::copy::PAGE_BYTES;
use crate::edit::KvEdit;
use crate::error::{Error, Result};
use crate::ggml_type::GgmlType;
use crate::header::Header;
use crate::model::{Model, Shard};
use crate::shards::{self, ShardName, split_ending};

/// How many files a rewrite makes of a split model. Of a model in one file both make one.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One file with all tensors, without the `split.*` keys.
    Single,
    /// As many files as the model has, with the same tensors in each.
    KeepShards,
}

/// Adjacent bytes of an output, and where they come from.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq)]
pub enum Segment {
    /// Bytes of the model that stay as they are, of one tensor or several.
    Copy {
        /// The file that they come from: an index into [`Model::shards`].
        shard: usize,
        /// Their offsets in that file.
        from: Range<u64>,
        /// Their first offset in the output.
        to: u64,
    },
    /// New bytes of one tensor, from its [`Replacement`](crate::Replacement).
    Produce {
        /// The tensor.
        name: String,
        /// Its first offset in the output.
        to: u64,
        /// Bytes of each row in the new type.
        row_bytes: u64,
        /// How many rows it has, over all dimensions after the first.
        n_rows: u64,
    },
}

/// What one output file will hold.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedFile {
    /// The path that it will have.
    pub path: PathBuf,
    /// Its header; None if nothing changes and the file is a copy of a whole shard.
    pub header: Option<Header>,
    /// Everything after the header, by ascending offset; without a header, the whole file. Bytes
    /// that no segment covers are padding, zeros.
    pub segments: Vec<Segment>,
    /// Length of the file.
    pub bytes: u64,
}

/// What a [`Rewrite`](crate::Rewrite) will write: see [`Rewrite::plan`](crate::Rewrite::plan).
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The output files, in the order of their numbers.
    pub files: Vec<PlannedFile>,
}

impl Plan {
    /// Length of all files together, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.bytes).sum()
    }

    /// Bytes that come from producers; all others are copied or are headers and padding.
    #[must_use]
    pub fn produced_bytes(&self) -> u64 {
        let segments = self.files.iter().flat_map(|f| &f.segments);
        let produced = segments.map(|s| match s {
            Segment::Produce { row_bytes, n_rows, .. } => row_bytes * n_rows,
            Segment::Copy { .. } => 0,
        });
        produced.sum()
    }

    /// How many bytes later the longest copy would have to begin to have the offset within a page
    /// that its source has: only then can the kernel share or move whole pages. Less than
    /// [`PAGE_BYTES`].
    pub(crate) fn page_shift(&self) -> u64 {
        let segments = self.files.iter().flat_map(|f| &f.segments);
        let copies = segments.filter_map(|s| match s {
            Segment::Copy { from, to, .. } => Some((from.end - from.start, from.start, *to)),
            Segment::Produce { .. } => None,
        });
        // The first of equal lengths; max_by_key would take the last.
        let longest = copies.min_by_key(|&(len, ..)| std::cmp::Reverse(len));
        longest.map_or(0, |(_, from, to)| from.wrapping_sub(to) % PAGE_BYTES)
    }

    /// Lays out `model` with `edits` applied, and new bytes of the given types for the tensors of
    /// `types`.
    pub(crate) fn new(
        model: &Model,
        edits: &[KvEdit],
        types: &HashMap<String, GgmlType>,
        layout: Layout,
        out: &Path,
    ) -> Result<Plan> {
        let join = layout == Layout::Single || model.shards().len() == 1;
        let split = model.shards().len() > 1;
        if edits.is_empty() && types.is_empty() && !(split && join) {
            return Ok(Plan { files: copies(model, out) });
        }
        if join {
            let mut header = model.shards()[0].header.clone();
            for shard in &model.shards()[1..] {
                header.tensors.extend(shard.header.tensors.clone());
            }
            let split_keys = [shards::NO_KEY, shards::COUNT_KEY, shards::TENSORS_KEY];
            if split {
                split_keys.iter().for_each(|&key| drop(header.kv.shift_remove(key)));
            }
            let file = plan_file(model, header, edits, types, out.to_owned())?;
            return Ok(Plan { files: vec![file] });
        }
        let mut files = Vec::new();
        for (i, shard) in model.shards().iter().enumerate() {
            // The model's keys are in the first shard only.
            let edits = if i == 0 { edits } else { &[] };
            let path = shard_path(out, i, model.shards().len());
            files.push(plan_file(model, shard.header.clone(), edits, types, path)?);
        }
        Ok(Plan { files })
    }
}

/// The plan if nothing changes: copies of whole files, so that a file system with reflinks shares
/// all of their blocks.
fn copies(model: &Model, out: &Path) -> Vec<PlannedFile> {
    let n = model.shards().len();
    let copy = |(i, shard): (usize, &Shard)| PlannedFile {
        path: shard_path(out, i, n),
        header: None,
        segments: vec![Segment::Copy { shard: i, from: 0..shard.file_bytes(), to: 0 }],
        bytes: shard.file_bytes(),
    };
    model.shards().iter().enumerate().map(copy).collect()
}

/// The path of file `index` of `count`: `out` itself if it is the only one, else `out` with the
/// number of the shard in its name.
fn shard_path(out: &Path, index: usize, count: usize) -> PathBuf {
    if count == 1 {
        return out.to_owned();
    }
    let without_ending = || {
        let name = out.file_name().unwrap_or_default().to_string_lossy();
        out.with_file_name(split_ending(&name).0)
    };
    let prefix = ShardName::parse(out).map_or_else(without_ending, |n| n.prefix);
    ShardName { prefix, index: 0, count: count as u64 }.path(index as u64)
}

/// The plan of a file with the tensors of `header`, which are changed as `edits` and `types` say.
fn plan_file(
    model: &Model,
    mut header: Header,
    edits: &[KvEdit],
    types: &HashMap<String, GgmlType>,
    path: PathBuf,
) -> Result<PlannedFile> {
    for edit in edits {
        edit.apply(&mut header.kv)?;
    }
    for info in header.tensors.values_mut() {
        info.ty = *types.get(&info.name).unwrap_or(&info.ty);
    }
    header.lay_out();
    let alignment = header.alignment();
    let data_offset = header.encode().len() as u64;
    let mut segments = Vec::new();
    let mut bytes = data_offset;
    for info in header.tensors.values() {
        let to = data_offset + info.offset;
        bytes = to + info.n_bytes().next_multiple_of(alignment);
        if types.contains_key(&info.name) {
            segments.push(Segment::Produce {
                name: info.name.clone(),
                to,
                row_bytes: info.row_bytes(),
                n_rows: info.n_rows(),
            });
            continue;
        }
        let no_tensor = || Error::NoTensor { name: info.name.clone() };
        let tensor = model.tensor(&info.name).ok_or_else(no_tensor)?;
        let shard = &model.shards()[tensor.shard];
        let mut from = shard.range(tensor.info);
        // Padding is copied too, so that adjacent tensors become one long copy. After the last
        // tensor of a file there may be none.
        if shard.header.alignment() == alignment {
            let padded = from.start + info.n_bytes().next_multiple_of(alignment);
            from.end = padded.min(shard.file_bytes());
        }
        push_copy(&mut segments, tensor.shard, from, to);
    }
    Ok(PlannedFile { path, header: Some(header), segments, bytes })
}

/// Adds a copy, or extends the one before it if the new bytes follow it in both files.
fn push_copy(segments: &mut Vec<Segment>, shard: usize, from: Range<u64>, to: u64) {
    if let Some(Segment::Copy { shard: s, from: f, to: t }) = segments.last_mut()
        && *s == shard
        && f.end == from.start
        && *t + (f.end - f.start) == to
    {
        f.end = from.end;
        return;
    }
    segments.push(Segment::Copy { shard, from, to });
}
