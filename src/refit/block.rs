//! One block of a model as its own model: a GGUF file that llama.cpp can run.
//!
//! It has the model's keys with `block_count` 1, a vocabulary of [`N_VOCAB`] without texts,
//! embeddings of zeros, the tensors outside the blocks, and `blk.L.*` as `blk.0.*`. Rows of the
//! residual stream are put in where the stream enters the block. Keys that hold a value for each
//! block keep this block's.

use std::collections::HashMap;
use std::path::Path;

use super::error::Result;
use super::factors::Factors;
use crate::gguf::{self, Array, Builder, GgmlType, Model, Tensor, Value, block_of, within_block};

/// Size of the vocabulary: any, since only rows of the residual stream are read.
const N_VOCAB: u64 = 32;

/// Replacements of tensors, by their names in the model.
pub(super) type NewTensors = HashMap<String, NewTensor>;

/// The replacement of a tensor.
#[derive(Debug, Clone)]
pub(super) struct NewTensor {
    pub ty: GgmlType,
    pub bytes: Vec<u8>,
    /// The factors beside a tensor that is kept: `bytes` are the sum of both then.
    pub factors: Option<Factors>,
}

/// The name of a tensor of block `block` in the file of only that block, or the other way round.
pub(super) fn renamed(name: &str, block: u32) -> String {
    match within_block(name) {
        Some(rest) => format!("blk.{block}.{rest}"),
        None => name.into(),
    }
}

/// Writes block `block` of `model` to `path`; tensors in `replaced` get their new bytes.
pub(super) fn write_block(
    model: &Model,
    block: u32,
    replaced: &NewTensors,
    path: &Path,
) -> Result<()> {
    let mut file = Builder::new();
    let architecture = model.architecture().to_owned();
    let n_block = model.needed_hparam("block_count")?;
    for (key, value) in model.kv() {
        let of_model =
            key == "general.architecture" || key.starts_with(&format!("{architecture}."));
        if of_model {
            file.kv(key.as_str(), of_block(value, block, n_block));
        }
    }
    file.kv(format!("{architecture}.block_count"), 1u32);
    file.kv(format!("{architecture}.vocab_size"), N_VOCAB as u32);
    let dense_first = format!("{architecture}.leading_dense_block_count");
    if let Some(n) = model.hparam("leading_dense_block_count")? {
        file.kv(dense_first, u32::from(u64::from(block) < n));
    }
    file.kv("tokenizer.ggml.model", "none");
    let n_vocab = model.tensor("token_embd.weight").map_or(0, |t| t.info.n_rows());
    for tensor in model.tensors() {
        let (name, of) = (&tensor.info.name, block_of(&tensor.info.name));
        match of {
            Some(b) if b == block => {
                let (ty, bytes) = match replaced.get(name) {
                    Some(new) => (new.ty, new.bytes.as_slice()),
                    None => (tensor.info.ty, tensor.data()),
                };
                file.tensor(&renamed(name, 0), &tensor.info.shape, ty, bytes.into())?;
            }
            Some(_) => {}
            None => add_shared(&mut file, tensor, n_vocab)?,
        }
    }
    let bytes = file.encode();
    let io = |source| gguf::Error::Io { action: "write", path: path.into(), source };
    Ok(std::fs::write(path, bytes).map_err(io)?)
}

/// A tensor outside the blocks: as it is, or zeros and [`N_VOCAB`] rows if it has one row per
/// token.
fn add_shared(file: &mut Builder, tensor: Tensor<'_>, n_vocab: u64) -> Result<()> {
    let info = tensor.info;
    let by_token = info.shape.len() > 1 || info.name == "output.bias";
    match info.shape.iter().position(|n| *n == n_vocab && by_token) {
        None => file.tensor(&info.name, &info.shape, info.ty, tensor.data().into())?,
        Some(dimension) => {
            let mut shape = info.shape.clone();
            shape[dimension] = N_VOCAB;
            let n_bytes = shape.iter().product::<u64>() as usize * size_of::<f32>();
            file.tensor(&info.name, &shape, GgmlType::F32, vec![0; n_bytes])?
        }
    };
    Ok(())
}

/// The block's own value, if a key holds one for each block.
fn of_block(value: &Value, block: u32, n_block: u64) -> Value {
    let array = value.as_array().filter(|array| array.len() == n_block);
    let element = array.and_then(|array| array.iter().nth(block as usize));
    match (array, element) {
        (Some(array), Some(element)) => {
            let mut one = Array::new(array.element());
            one.push(&element);
            Value::Array(one)
        }
        _ => value.clone(),
    }
}
