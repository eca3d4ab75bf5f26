//! A GGUF model as a checkpoint like another one: the same tensors by the same names, in the same
//! files, with every change of an import taken back.

use std::collections::HashMap;
use std::io::{self, Write};

use indexmap::IndexMap;
use serde_json::{Map, Value as Json, json};

use super::error::{Error, Result};
use super::family::{Family, How};
use super::folder::{Checkpoint, Entry};
use super::fp8::is_fp8;
use super::named::{Named, named_tensors};
use super::rows::{from_f32, interleaved, same_type};
use super::sizes::Sizes;
use crate::gguf::{GgmlType, Model, Tensor, Watch};
use crate::quant::decode_rows;

/// Elements that are decoded at once, unless a head has more.
const CHUNK_ELEMENTS: u64 = 1 << 20;
/// The output and the embedding, which are one tensor in many models.
const OUTPUT: &str = "output.weight";
const EMBEDDING: &str = "token_embd.weight";

/// Which type the tensors of a checkpoint get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportType {
    /// That of the checkpoint that it becomes like; BF16 for FP8.
    Auto,
    /// F32, F16 or BF16.
    Named(GgmlType),
}

/// What an export will write.
#[derive(Debug)]
pub struct Export<'c> {
    like: &'c Checkpoint,
    /// The family of the model.
    pub family: &'static Family,
    /// Every tensor of the checkpoint, by its name there.
    targets: HashMap<String, Target>,
}

/// A tensor of a checkpoint, and where it is in the model.
#[derive(Debug)]
struct Target {
    /// Its name in GGUF.
    name: String,
    /// The first of its rows there.
    first: u64,
    /// Rows of a head whose halves are interleaved there.
    interleave: Option<u64>,
    plus_one: bool,
    ty: GgmlType,
}

impl<'c> Export<'c> {
    /// Plans the export of `model` as a checkpoint like `like`.
    ///
    /// # Errors
    /// `like` is none that aird imports, or the model is of another family, or lacks a tensor, or
    /// has one more.
    pub fn plan(like: &'c Checkpoint, model: &Model, ty: ExportType) -> Result<Export<'c>> {
        let family = Family::of(&like.config)?;
        if model.architecture() != family.architecture {
            let found = model.architecture().into();
            return Err(Error::OtherArchitecture { found, expected: family.architecture });
        }
        let sizes = Sizes::of(&like.config)?;
        let named = named_tensors(like, family, &sizes)?;
        let mut placed: Vec<&str> =
            (family.extra)(&like.config, &sizes)?.iter().map(|extra| extra.name).collect();
        placed.extend(named.iter().map(|named| named.name.as_str()));
        if let Some(tensor) = model.tensors().find(|t| !placed.contains(&t.info.name.as_str())) {
            return Err(Error::Unplaced { tensor: tensor.info.name.clone() });
        }
        let mut targets = HashMap::new();
        for named in &named {
            let tensor = tensor_of(model, named)?;
            for (i, part) in named.parts.iter().enumerate() {
                let rows = part.entry.shape.iter().rev().skip(1).product::<u64>();
                let interleaves = matches!(named.line.how, How::InterleaveQ | How::InterleaveK);
                let target = Target {
                    name: tensor.info.name.clone(),
                    first: i as u64 * rows,
                    interleave: interleaves.then_some(named.head),
                    plus_one: named.line.how == How::PlusOne,
                    ty: type_of(&part.entry, ty),
                };
                targets.insert(part.name.clone(), target);
            }
        }
        Ok(Export { like, family, targets })
    }

    /// How many tensors are written.
    #[must_use]
    pub fn n_tensors(&self) -> usize {
        self.targets.len()
    }

    /// The type of most weights, as `config.json` names it.
    #[must_use]
    pub fn dtype_name(&self) -> &'static str {
        let mut counts: IndexMap<GgmlType, usize> = IndexMap::new();
        self.targets.values().for_each(|target| *counts.entry(target.ty).or_default() += 1);
        match counts.into_iter().max_by_key(|(_, n)| *n) {
            Some((GgmlType::F32, _)) => "float32",
            Some((GgmlType::F16, _)) => "float16",
            _ => "bfloat16",
        }
    }

    /// The tensors of a file of the checkpoint, in the order of their bytes. Scales of FP8 have no
    /// place in what is written.
    fn of_shard(&self, shard: usize) -> Vec<(&'c String, &'c Entry, &Target)> {
        let tensors = self.like.tensors.iter().filter(|(_, entry)| entry.shard == shard);
        let mut tensors: Vec<_> = tensors
            .filter_map(|(name, entry)| Some((name, entry, self.targets.get(name)?)))
            .collect();
        tensors.sort_by_key(|(_, entry, _)| entry.range.start);
        tensors
    }

    /// The bytes before the tensors of a file: those of the checkpoint's own file where all types
    /// stay.
    #[must_use]
    pub fn header(&self, shard: usize) -> Vec<u8> {
        let tensors = self.of_shard(shard);
        let n_theirs = self.like.tensors.values().filter(|entry| entry.shard == shard).count();
        let stays =
            |(_, entry, target): &(_, &Entry, &Target)| same_type(entry.dtype) == Some(target.ty);
        if tensors.len() == n_theirs && tensors.iter().all(stays) {
            let begin = tensors.first().map_or(0, |(_, entry, _)| entry.range.start);
            return self.like.shards[shard].bytes()[..begin as usize].to_vec();
        }
        let mut header = Map::new();
        header.insert("__metadata__".into(), json!({ "format": "pt" }));
        let mut at = 0;
        for (name, entry, target) in tensors {
            let end = at + bytes_of(entry, target.ty);
            let info = json!({
                "dtype": target.ty.name(), "shape": entry.shape, "data_offsets": [at, end],
            });
            header.insert(name.clone(), info);
            at = end;
        }
        let mut text = Json::from(header).to_string().into_bytes();
        // The tensors begin at a multiple of 8.
        text.resize(text.len().next_multiple_of(8), b' ');
        [(text.len() as u64).to_le_bytes().as_slice(), &text].concat()
    }

    /// Bytes of a file.
    #[must_use]
    pub fn shard_bytes(&self, shard: usize) -> u64 {
        let tensors = self.of_shard(shard).into_iter();
        let bytes = tensors.map(|(_, entry, target)| bytes_of(entry, target.ty)).sum::<u64>();
        self.header(shard).len() as u64 + bytes
    }

    /// Writes a file of the checkpoint.
    ///
    /// # Errors
    /// The disk's, as an error inside the error; a tensor that cannot be decoded, or holds what is
    /// no number; an interrupt.
    pub fn write(
        &self,
        shard: usize,
        model: &Model,
        out: &mut dyn Write,
        watch: &dyn Watch,
    ) -> Result<io::Result<()>> {
        if let Err(error) = out.write_all(&self.header(shard)) {
            return Ok(Err(error));
        }
        for (name, entry, target) in self.of_shard(shard) {
            let missing =
                || Error::NotInModel { tensor: target.name.clone(), theirs: name.clone() };
            let tensor = model.tensor(&target.name).ok_or_else(missing)?;
            if let Err(error) = target.write(tensor, entry, out, watch)? {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }
}

impl Target {
    fn write(
        &self,
        tensor: Tensor<'_>,
        entry: &Entry,
        out: &mut dyn Write,
        watch: &dyn Watch,
    ) -> Result<io::Result<()>> {
        let n_cols = tensor.info.n_cols();
        let is_row = entry.shape.len() < 2;
        let n_rows = entry.shape.iter().rev().skip(1).product::<u64>();
        let mut at_once = (CHUNK_ELEMENTS / n_cols.max(1)).max(1);
        if let (Some(head), false) = (self.interleave, is_row) {
            at_once = at_once.next_multiple_of(head);
        }
        let mut floats = Vec::new();
        let mut bytes = Vec::new();
        let mut row = 0;
        while row < n_rows {
            if watch.interrupted() {
                return Err(crate::gguf::Error::Interrupted.into());
            }
            let end = n_rows.min(row + at_once);
            let rows = self.first + row..self.first + end;
            floats.resize(((end - row) * n_cols) as usize, 0.0);
            decode_rows(tensor.info.ty, tensor.rows(rows), n_cols as usize, &mut floats)?;
            if let Some(head) = self.interleave {
                let cell = if is_row { 1 } else { n_cols as usize };
                floats = parted(&floats, cell, head);
            }
            if self.plus_one {
                floats.iter_mut().for_each(|x| *x -= 1.0);
            }
            bytes.resize(floats.len() * type_bytes(self.ty), 0);
            from_f32(&floats, self.ty, &mut bytes);
            if !is_finite(&floats, self.ty) {
                return Err(Error::NotFinite { tensor: self.name.clone(), ty: self.ty });
            }
            if let Err(error) = out.write_all(&bytes) {
                return Ok(Err(error));
            }
            watch.advance(bytes.len() as u64);
            row = end;
        }
        Ok(Ok(()))
    }
}

/// Takes back what [`interleaved`] does, of whole heads of cells.
fn parted(floats: &[f32], cell: usize, head: u64) -> Vec<f32> {
    let mut out = vec![0.0; floats.len()];
    for (row, from) in floats.chunks(cell).enumerate() {
        let to = interleaved(row as u64, head) as usize * cell;
        out[to..to + cell].copy_from_slice(from);
    }
    out
}

/// True if all numbers are finite, also as `ty`.
fn is_finite(floats: &[f32], ty: GgmlType) -> bool {
    match ty {
        GgmlType::F16 => floats.iter().all(|x| half::f16::from_f32(*x).is_finite()),
        GgmlType::BF16 => floats.iter().all(|x| half::bf16::from_f32(*x).is_finite()),
        _ => floats.iter().all(|x| x.is_finite()),
    }
}

/// The tensor of the model for a tensor of the checkpoint. Where the model has no output, its
/// embedding is that.
fn tensor_of<'m>(model: &'m Model, named: &Named) -> Result<Tensor<'m>> {
    let tied = || model.tensor(EMBEDDING).filter(|_| named.name == OUTPUT);
    let theirs = named.parts[0].name.clone();
    let missing = || Error::NotInModel { tensor: named.name.clone(), theirs };
    let tensor = model.tensor(&named.name).or_else(tied).ok_or_else(missing)?;
    let mut expected: Vec<u64> = named.parts[0].entry.shape.iter().rev().copied().collect();
    if named.line.how == How::Stack {
        expected.push(named.parts.len() as u64);
    }
    if tensor.info.shape != expected {
        let (tensor, found) = (tensor.info.name.clone(), tensor.info.shape.clone());
        return Err(Error::ShapeInModel { tensor, found, expected });
    }
    Ok(tensor)
}

fn type_of(entry: &Entry, ty: ExportType) -> GgmlType {
    match ty {
        ExportType::Named(ty) => ty,
        ExportType::Auto if is_fp8(entry.dtype) => GgmlType::BF16,
        ExportType::Auto => same_type(entry.dtype).unwrap_or(GgmlType::BF16),
    }
}

fn type_bytes(ty: GgmlType) -> usize {
    if ty == GgmlType::F32 { 4 } else { 2 }
}

fn bytes_of(entry: &Entry, ty: GgmlType) -> u64 {
    let n: u64 = entry.shape.iter().product();
    n * type_bytes(ty) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_parted_as_they_were_before_they_were_interleaved() {
        let rows: Vec<f32> = (0..12).map(|row| interleaved(row, 6) as f32).collect();
        let back = parted(&rows, 1, 6);
        assert_eq!(back, (0..12).map(|x| x as f32).collect::<Vec<_>>());
    }
}
