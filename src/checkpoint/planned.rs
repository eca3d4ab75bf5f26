//! The import of a checkpoint, planned: every tensor of the new file, and where its rows come from.

use std::ops::Range;

use indexmap::IndexMap;

use super::error::{Error, Result};
use super::family::{Family, How, Line};
use super::folder::{Checkpoint, Entry};
use super::fp8::{SCALES, Scales, UNUSED, is_fp8};
use super::general::general_keys;
use super::keys::Keys;
use super::parts::{Part, Rows};
use super::rows::{element_bytes, same_type};
use super::sizes::{Dim, Sizes};
use super::tokenizer::tokenizer_keys;
use crate::gguf::{
    Ask, Assembly, Content, GgmlType, KvEdit, KvMap, Replacement, Value, file_type_edit,
};

/// How the names of a block's tensors begin in a checkpoint.
const BLOCK: &str = "model.layers.";
/// Endings of tensors that older checkpoints hold and models compute.
const COMPUTED: [&str; 3] = [".attention.masked_bias", ".attention.bias", ".rotary_emb.inv_freq"];
/// `GGML_QNT_VERSION` of llama.cpp's `ggml.h`.
const QUANTIZATION_VERSION: u32 = 2;

/// Which type the matrices of an imported model get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportType {
    /// That of most of the checkpoint's matrices: nothing is rounded.
    Auto,
    /// F32, F16 or BF16.
    Named(GgmlType),
}

/// A tensor of the new file.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// Its name in GGUF.
    pub name: String,
    /// Its shape, columns first.
    pub shape: Vec<u64>,
    /// Its type.
    pub ty: GgmlType,
    source: Source,
}

#[derive(Debug, Clone, PartialEq)]
enum Source {
    /// Tensors of the checkpoint, one after another: all experts, or one alone.
    Tensors(Rows),
    /// Values that were computed.
    Values(Vec<f32>),
}

/// What an import will write.
#[derive(Debug)]
pub struct Import {
    /// The family of the model.
    pub family: &'static Family,
    /// The type of its matrices.
    pub ty: GgmlType,
    /// All keys, in order.
    pub kv: KvMap,
    /// All tensors, in order.
    pub tensors: Vec<Planned>,
}

impl Import {
    /// Plans the import of a checkpoint, and checks all of it but the weights' values.
    ///
    /// # Errors
    /// The checkpoint is of an unknown family; a tensor is missing, unknown, or of another shape
    /// than `config.json` says; the tokenizer is none that llama.cpp has.
    pub fn plan(checkpoint: &Checkpoint, ty: ImportType) -> Result<Import> {
        let config = &checkpoint.config;
        let family = Family::of(config)?;
        let sizes = Sizes::of(config)?;
        let named = named_tensors(checkpoint, family, &sizes)?;
        let ty = match ty {
            ImportType::Named(ty) => ty,
            ImportType::Auto => own_type(checkpoint),
        };
        let extra = (family.extra)(config, &sizes)?.into_iter().map(|extra| Planned {
            name: extra.name.into(),
            shape: vec![extra.values.len() as u64],
            ty: GgmlType::F32,
            source: Source::Values(extra.values),
        });
        let read = named.into_iter().map(|named| named.planned(ty));
        let tensors: Vec<Planned> = extra.chain(read).collect();
        let mut keys = Keys::new(family.architecture);
        keys.set("general.type", "model");
        general_keys(checkpoint, parameters(&tensors), &mut keys)?;
        (family.keys)(config, &sizes, &mut keys)?;
        if let Some(KvEdit::Set(key, value)) = file_type_edit(ty) {
            keys.set(&key, value);
        }
        keys.set("general.quantization_version", Value::U32(QUANTIZATION_VERSION));
        tokenizer_keys(checkpoint, family.vocabulary, sizes.n_vocab, &mut keys)?;
        Ok(Import { family, ty, kv: keys.kv, tensors })
    }

    /// How many tokens the vocabulary has.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        let tokens = self.kv.get("tokenizer.ggml.tokens").and_then(Value::as_array);
        tokens.map_or(0, |tokens| tokens.len())
    }

    /// The new file, whose tensors are read from `checkpoint` as it is written.
    ///
    /// # Errors
    /// A name is too long, or a shape does not fit GGUF.
    pub fn assembly<'c>(&self, checkpoint: &'c Checkpoint) -> Result<Assembly<'c>> {
        let mut assembly = Assembly::new();
        for (key, value) in &self.kv {
            assembly.kv(key, value.clone());
        }
        for tensor in &self.tensors {
            let content = tensor.content(checkpoint);
            assembly.tensor(&tensor.name, &tensor.shape, tensor.ty, content)?;
        }
        Ok(assembly)
    }
}

/// How many weights there are.
fn parameters(tensors: &[Planned]) -> u64 {
    tensors.iter().map(|tensor| tensor.shape.iter().product::<u64>()).sum()
}

/// The type of most of a checkpoint's matrices, by their bytes; BF16 where ggml has no such type.
fn own_type(checkpoint: &Checkpoint) -> GgmlType {
    let mut bytes: IndexMap<GgmlType, u64> = IndexMap::new();
    for entry in checkpoint.tensors.values().filter(|entry| entry.shape.len() > 1) {
        let ty = same_type(entry.dtype).unwrap_or(GgmlType::BF16);
        *bytes.entry(ty).or_default() += entry.range.end - entry.range.start;
    }
    let most = bytes.into_iter().max_by_key(|(_, bytes)| *bytes);
    most.map_or(GgmlType::BF16, |(ty, _)| ty)
}

/// A GGUF tensor, and the tensors of the checkpoint that it is made of.
struct Named {
    name: String,
    line: &'static Line,
    head: u64,
    parts: Vec<Part>,
}

impl Named {
    fn planned(self, wanted: GgmlType) -> Planned {
        let stacked = self.line.how == How::Stack;
        let mut shape: Vec<u64> = self.parts[0].entry.shape.iter().rev().copied().collect();
        if stacked {
            shape.push(self.parts.len() as u64);
        }
        // As the converter decides: what is no matrix, and norms, biases and routers.
        let is_weight = self.name.ends_with(".weight");
        let is_norm = self.name.ends_with("_norm.weight");
        let is_router = self.name.ends_with("ffn_gate_inp.weight");
        let plain = shape.len() < 2 || !is_weight || is_norm || is_router;
        let interleaves = matches!(self.line.how, How::InterleaveQ | How::InterleaveK);
        Planned {
            name: self.name,
            shape,
            ty: if plain { GgmlType::F32 } else { wanted },
            source: Source::Tensors(Rows {
                plus_one: self.line.how == How::PlusOne,
                parts: self.parts,
                interleave: interleaves.then_some(self.head),
            }),
        }
    }
}

/// Every tensor of the new file in the order of its last part, as the converter writes them.
fn named_tensors(
    checkpoint: &Checkpoint,
    family: &'static Family,
    sizes: &Sizes,
) -> Result<Vec<Named>> {
    let mut left: IndexMap<&str, &Entry> = IndexMap::new();
    for (name, entry) in &checkpoint.tensors {
        if !COMPUTED.iter().chain(&UNUSED).any(|end| name.ends_with(end)) {
            left.insert(name, entry);
        }
    }
    let place = |name: &str| checkpoint.tensors.get_index_of(name).unwrap_or(0);
    let mut found: Vec<(usize, Named)> = Vec::new();
    let blocks = (0..sizes.n_block).map(Some);
    for block in std::iter::once(None).chain(blocks) {
        let lines = if block.is_none() { family.whole } else { family.block };
        let mut stacks = Vec::new();
        for line in lines {
            let names = theirs(line, block, sizes);
            let Some(parts) = take_parts(&names, line, sizes, &mut left, checkpoint)? else {
                continue;
            };
            let last = parts.iter().map(|part| place(&part.name)).max().unwrap_or(0);
            let named = Named { name: ours(line, block), line, head: sizes.head_length, parts };
            match line.how {
                How::Stack => stacks.push((last, named)),
                _ => found.push((last, named)),
            }
        }
        // All experts of a block come where the last of their tensors is.
        let last = stacks.iter().map(|(place, _)| *place).max().unwrap_or(0);
        found.extend(stacks.into_iter().map(|(_, named)| (last, named)));
    }
    if let Some((tensor, entry)) = left.first() {
        let family = family.architecture;
        let path = &checkpoint.shards[entry.shard].path;
        return Err(Error::UnknownTensor { tensor: (*tensor).into(), family }.in_file(path));
    }
    found.sort_by_key(|(place, _)| *place);
    Ok(found.into_iter().map(|(_, named)| named).collect())
}

/// The names of a line's tensors in the checkpoint.
fn theirs(line: &Line, block: Option<u64>, sizes: &Sizes) -> Vec<String> {
    let name = match block {
        Some(block) => format!("{BLOCK}{block}.{}", line.theirs),
        None => line.theirs.to_owned(),
    };
    match line.how {
        How::Stack => (0..sizes.n_expert).map(|i| name.replace('*', &i.to_string())).collect(),
        _ => vec![name],
    }
}

/// The name of a line's tensor in GGUF.
fn ours(line: &Line, block: Option<u64>) -> String {
    match block {
        Some(block) => format!("blk.{block}.{}", line.ours),
        None => line.ours.to_owned(),
    }
}

/// Takes the tensors of a line out of those that are left; None if the model may lack them.
fn take_parts(
    names: &[String],
    line: &'static Line,
    sizes: &Sizes,
    left: &mut IndexMap<&str, &Entry>,
    checkpoint: &Checkpoint,
) -> Result<Option<Vec<Part>>> {
    let mut parts = Vec::new();
    for name in names {
        let Some(entry) = left.shift_remove(name.as_str()) else {
            if line.optional && parts.is_empty() {
                return Ok(None);
            }
            let missing = Error::MissingTensor { tensor: name.clone(), blocks: sizes.n_block };
            return Err(missing.in_file(&checkpoint.folder));
        };
        let of_file = |error: Error| error.in_file(&checkpoint.shards[entry.shard].path);
        check(name, entry, line.shape, sizes).map_err(of_file)?;
        let scales = match is_fp8(entry.dtype) {
            true => Some(scales(name, entry, left, checkpoint).map_err(of_file)?),
            false => None,
        };
        parts.push(Part { name: name.clone(), entry: entry.clone(), scales });
    }
    Ok(Some(parts))
}

/// Checks the shape and the type of a tensor.
fn check(name: &str, entry: &Entry, shape: &[Dim], sizes: &Sizes) -> Result<()> {
    let expected: Vec<u64> = shape.iter().map(|&dim| sizes.dim(dim)).collect();
    if entry.shape != expected {
        let found = entry.shape.clone();
        return Err(Error::WrongShape { tensor: name.into(), found, expected });
    }
    if element_bytes(entry.dtype).is_none() && !is_fp8(entry.dtype) {
        let found = format!("{:?}", entry.dtype);
        return Err(Error::Dtype { tensor: name.into(), found });
    }
    Ok(())
}

/// Takes the scales of an FP8 tensor out of the tensors that are left.
fn scales(
    name: &str,
    entry: &Entry,
    left: &mut IndexMap<&str, &Entry>,
    checkpoint: &Checkpoint,
) -> Result<Scales> {
    let found = left.shift_remove(format!("{name}{SCALES}").as_str());
    let missing = || {
        let found = format!("{:?} without scales ({name}{SCALES})", entry.dtype);
        Error::Dtype { tensor: name.into(), found }
    };
    Scales::read(checkpoint, name, &entry.shape, found.ok_or_else(missing)?)
}

impl Planned {
    /// The names of the checkpoint's tensors that it is made of; none if it is computed.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        let parts = match &self.source {
            Source::Tensors(rows) => rows.parts.as_slice(),
            Source::Values(_) => &[],
        };
        parts.iter().map(|part| part.name.as_str())
    }

    /// Where its bytes come from.
    fn content<'c>(&self, checkpoint: &'c Checkpoint) -> Content<'c> {
        let ty = self.ty;
        match self.source.clone() {
            Source::Values(values) => {
                let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
                let produce = Box::new(move |_: Range<u64>, out: &mut [u8]| {
                    out.copy_from_slice(&bytes);
                    Ok(())
                });
                Content::Made(Replacement { ty, ask: Ask::Whole, produce })
            }
            Source::Tensors(rows) => {
                if let Some(entry) = rows.copied_as(ty) {
                    let file = &checkpoint.shards[entry.shard];
                    return Content::Copied { file, from: entry.range.clone() };
                }
                let produce = Box::new(move |asked: Range<u64>, out: &mut [u8]| {
                    rows.fill(checkpoint, asked, ty, out);
                    Ok(())
                });
                Content::Made(Replacement { ty, ask: Ask::Chunks, produce })
            }
        }
    }
}
