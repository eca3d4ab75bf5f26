//! What a family's table says of a tensor, and what else a family is.

use crate::checkpoint::config::Config;
use crate::checkpoint::error::Result;
use crate::checkpoint::keys::Keys;
use crate::checkpoint::sizes::{Dim, Sizes};

/// A family of models.
#[derive(Debug)]
pub struct Family {
    /// `general.architecture` in GGUF.
    pub architecture: &'static str,
    /// What `architectures` of `config.json` calls it.
    pub name: &'static str,
    /// Tensors outside blocks.
    pub(in crate::checkpoint) whole: &'static [Line],
    /// Tensors of a block, without `model.layers.N.` and `blk.N.`.
    pub(in crate::checkpoint) block: &'static [Line],
    /// Its keys.
    pub(in crate::checkpoint) keys: fn(&Config, &Sizes, &mut Keys) -> Result<()>,
    /// Tensors that are computed from `config.json`.
    pub(in crate::checkpoint) extra: fn(&Config, &Sizes) -> Result<Vec<Extra>>,
    /// What its vocabulary is.
    pub(in crate::checkpoint) vocabulary: Vocabulary,
}

/// A tensor in both formats.
#[derive(Debug)]
pub(in crate::checkpoint) struct Line {
    /// Its name in the checkpoint. `*` is the number of an expert.
    pub(in crate::checkpoint) theirs: &'static str,
    /// Its name in GGUF.
    pub(in crate::checkpoint) ours: &'static str,
    /// Its shape in the checkpoint, rows first.
    pub(in crate::checkpoint) shape: &'static [Dim],
    /// What happens to its rows.
    pub(in crate::checkpoint) how: How,
    /// Whether a model may lack it.
    pub(in crate::checkpoint) optional: bool,
}

/// A tensor that is computed: F32, one row.
#[derive(Debug)]
pub(in crate::checkpoint) struct Extra {
    /// Its name in GGUF.
    pub(in crate::checkpoint) name: &'static str,
    /// Its values.
    pub(in crate::checkpoint) values: Vec<f32>,
}

/// What happens to a tensor's rows on the way to GGUF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::checkpoint) enum How {
    /// Nothing.
    Keep,
    /// The halves of each query head are interleaved: transformers rotates element i with i +
    /// n/2, llama.cpp's `llama` graph 2i with 2i + 1.
    InterleaveQ,
    /// As [`How::InterleaveQ`], of key heads.
    InterleaveK,
    /// 1 is added.
    PlusOne,
    /// All experts become one tensor.
    Stack,
}

/// Which tokenizer files a family may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::checkpoint) enum Vocabulary {
    /// SentencePiece or byte-level BPE.
    Llama,
    /// Byte-level BPE.
    Bpe,
    /// SentencePiece, whose texts do not begin with a space.
    Gemma,
    /// SentencePiece, or byte-level BPE where `tokenizer_config.json` says so.
    Phi,
}

/// A family without computed tensors.
pub(in crate::checkpoint) fn nothing(_: &Config, _: &Sizes) -> Result<Vec<Extra>> {
    Ok(Vec::new())
}

/// A line of a table that every model has.
pub(in crate::checkpoint) const fn line(
    theirs: &'static str,
    ours: &'static str,
    shape: &'static [Dim],
) -> Line {
    Line { theirs, ours, shape, how: How::Keep, optional: false }
}

impl Line {
    /// With its rows changed.
    pub(in crate::checkpoint) const fn how(self, how: How) -> Line {
        Line { how, ..self }
    }

    /// Of a tensor that a model may lack.
    pub(in crate::checkpoint) const fn optional(self) -> Line {
        Line { optional: true, ..self }
    }
}
