//! The import of a checkpoint, planned: every tensor of the new file, and where its rows come from.

use std::ops::Range;

use indexmap::IndexMap;

use super::error::Result;
use super::family::{Family, How};
use super::folder::Checkpoint;
use super::general::{general_keys, rounded};
use super::keys::Keys;
use super::named::{Named, named_tensors};
use super::parts::Rows;
use super::rows::same_type;
use super::sizes::Sizes;
use super::tokenizer::tokenizer_keys;
use crate::gguf::{
    Ask, Assembly, Content, GgmlType, KvEdit, KvMap, Replacement, Value, file_type_edit,
};

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
        let read = named.into_iter().map(|named| planned(named, ty));
        let tensors: Vec<Planned> = extra.chain(read).collect();
        let mut keys = Keys::new(family.architecture);
        keys.set("general.type", "model");
        general_keys(checkpoint, &size_label(&tensors, sizes.n_expert), &mut keys)?;
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

/// How many weights there are, and experts: of these the weights of one count.
fn size_label(tensors: &[Planned], n_expert: u64) -> String {
    let mut parameters = 0;
    let mut has_experts = false;
    for tensor in tensors {
        let n: u64 = tensor.shape.iter().product();
        let is_stack = tensor.name.contains("_exps.");
        parameters += if is_stack { n / n_expert.max(1) } else { n };
        has_experts |= is_stack;
    }
    match has_experts {
        true => format!("{n_expert}x{}", rounded(parameters)),
        false => rounded(parameters),
    }
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

/// The tensor of the new file, of the type that is wanted or, as the converter decides, of F32.
fn planned(named: Named, wanted: GgmlType) -> Planned {
    let stacked = named.line.how == How::Stack;
    let mut shape: Vec<u64> = named.parts[0].entry.shape.iter().rev().copied().collect();
    if stacked {
        shape.push(named.parts.len() as u64);
    }
    // As the converter decides: what is no matrix, and norms, biases and routers.
    let is_weight = named.name.ends_with(".weight");
    let is_norm = named.name.ends_with("_norm.weight");
    let is_router = named.name.ends_with("ffn_gate_inp.weight");
    let plain = shape.len() < 2 || !is_weight || is_norm || is_router;
    let interleaves = matches!(named.line.how, How::InterleaveQ | How::InterleaveK);
    Planned {
        name: named.name,
        shape,
        ty: if plain { GgmlType::F32 } else { wanted },
        source: Source::Tensors(Rows {
            plus_one: named.line.how == How::PlusOne,
            parts: named.parts,
            interleave: interleaves.then_some(named.head),
        }),
    }
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
