//! What a rewrite will put where, before a byte is written: `--dry-run` prints it, the writer
//! follows it, the read-back checks against it.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::copy::PAGE_BYTES;
use super::edit::KvEdit;
use super::error::{Error, Result};
use super::ggml_type::GgmlType;
use super::header::Header;
use super::model::{Model, Shard};
use super::shards::{self, ShardName, split_ending};

/// How many files come out of a split model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One file.
    Single,
    /// As many as came in, with the same tensors in each.
    KeepShards,
}

/// Where a stretch of an output's bytes comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Segment {
    /// Bytes `from` of shard `shard`, to offset `to`.
    Copy {
        /// Index into [`Model::shards`].
        shard: usize,
        /// Range in the shard's file.
        from: Range<u64>,
        /// Offset in the output.
        to: u64,
    },
    /// The new bytes of tensor `name`.
    Produce {
        /// A tensor of the output's header.
        name: String,
        /// Offset in the output.
        to: u64,
        /// Bytes of a row.
        row_bytes: u64,
        /// Rows in all.
        n_rows: u64,
    },
}

/// One output file.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedFile {
    /// Where it will be.
    pub path: PathBuf,
    /// Its header; None if the file is a copy of a whole shard.
    pub header: Option<Header>,
    /// Everything behind the header, by ascending offset.
    pub segments: Vec<Segment>,
    /// Bytes of the file.
    pub bytes: u64,
}

/// All output files.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// In the order of the model's shards.
    pub files: Vec<PlannedFile>,
}

impl Plan {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.bytes).sum()
    }

    /// Bytes that come from producers.
    pub fn produced_bytes(&self) -> u64 {
        let segments = self.files.iter().flat_map(|f| &f.segments);
        let produced = segments.map(|s| match s {
            Segment::Produce { row_bytes, n_rows, .. } => row_bytes * n_rows,
            Segment::Copy { .. } => 0,
        });
        produced.sum()
    }

    /// How many bytes later the longest copy would have to begin to lie in its pages as its source
    /// does in its own: only then can the kernel share or move whole pages.
    pub(super) fn page_shift(&self) -> u64 {
        let segments = self.files.iter().flat_map(|f| &f.segments);
        let copies = segments.filter_map(|s| match s {
            Segment::Copy { from, to, .. } => Some((from.end - from.start, from.start, *to)),
            Segment::Produce { .. } => None,
        });
        // Of two as long the first, whatever max_by_key would do.
        let longest = copies.min_by_key(|&(len, ..)| std::cmp::Reverse(len));
        longest.map_or(0, |(_, from, to)| from.wrapping_sub(to) % PAGE_BYTES)
    }

    /// Lays out `model` with `edits` applied and the tensors of `types` given new bytes.
    pub(super) fn new(
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
            // The model's keys live in the first shard alone.
            let edits = if i == 0 { edits } else { &[] };
            let path = shard_path(out, i, model.shards().len());
            files.push(plan_file(model, shard.header.clone(), edits, types, path)?);
        }
        Ok(Plan { files })
    }
}

/// Nothing changes: whole files, so that they may be shared by the file system.
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

/// `out` itself for one file; else its name with the shard's number in it.
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
            let (row_bytes, n_rows) = (info.row_bytes(), info.n_rows());
            segments.push(Segment::Produce { name: info.name.clone(), to, row_bytes, n_rows });
            continue;
        }
        let no_tensor = || Error::NoTensor { name: info.name.clone() };
        let tensor = model.tensor(&info.name).ok_or_else(no_tensor)?;
        let shard = &model.shards()[tensor.shard];
        let mut from = shard.range(tensor.info);
        // With its padding, so that neighbours make one copy; a last tensor may have none.
        if shard.header.alignment() == alignment {
            let padded = from.start + info.n_bytes().next_multiple_of(alignment);
            from.end = padded.min(shard.file_bytes());
        }
        push_copy(&mut segments, tensor.shard, from, to);
    }
    Ok(PlannedFile { path, header: Some(header), segments, bytes })
}

/// Adds a copy, or lets the one before reach further.
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
