//! Quantizes a model: which type each matrix gets and how it is rounded, and the new rows, a chunk
//! at a time.

use std::ops::Range;

use super::error::{Error, Result};
use super::faithful::{self, Scheme};
use super::fold::Folds;
use super::int8;
use super::matrices::{by_matrix, make_rows, n_matrices};
use super::types::{check_type, fitting};
use crate::gguf::{Ask, BoxError, GgmlType, Model, Replacement, Rewrite, Tensor, TensorInfo};
use crate::llama::weighs_errors;
use crate::quant::{PRUNED, decode_finite, encode_pruned_rows, is_block_matrix, is_convertible};
use crate::stats::Stats;

/// How the rows of a matrix become bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// ggml's rounding to the type; zeros of a pruned matrix stay zeros where the type can hold
    /// them.
    Ggml,
    /// LLM.int8()'s row-wise scale, in Q8_0 blocks.
    RowWise,
    /// AWQ's reference grid; `clip` searches ranges first.
    Faithful {
        /// Asymmetric or symmetric.
        scheme: Scheme,
        /// True to clip; queries and keys are never clipped.
        clip: bool,
    },
}

/// The new type of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Name of the tensor, e.g. `blk.0.ffn_down.weight`.
    pub name: String,
    /// Type in the input file.
    pub from: GgmlType,
    /// Type in the output file.
    pub to: GgmlType,
    /// How it is rounded.
    pub coding: Coding,
    /// The type that it would have if its rows fitted.
    pub wanted: GgmlType,
}

impl Assignment {
    /// True if statistics change how it is rounded: if a range is searched for, or if ggml's
    /// rounding uses importance weights.
    pub fn uses_importance(&self) -> bool {
        match self.coding {
            Coding::Ggml => weighs_errors(self.to),
            Coding::RowWise => false,
            Coding::Faithful { clip, .. } => clip,
        }
    }
}

/// A type for a tensor of that name, or none in particular.
pub type TypeOf<'a> = Box<dyn Fn(&str) -> Option<GgmlType> + 'a>;

/// What to quantize to. The first that matches a tensor decides: `for_names`, embeddings and
/// output, all other matrices.
pub struct Quantizing<'a> {
    /// Type of the blocks' matrices, and of other matrices that are not named below.
    pub ty: GgmlType,
    /// Rounding of the blocks' matrices that get `ty`.
    pub coding: Coding,
    /// Type of `output.weight`; None: llama-quantize's default.
    pub output: Option<GgmlType>,
    /// Type of `token_embd.weight`; None: llama-quantize's default.
    pub embedding: Option<GgmlType>,
    /// True if embeddings and output stay as they are unless named: LLM.int8() is about linear
    /// layers, and leaves the head out.
    pub linear_only: bool,
    /// Types by the tensor's name, for tensors that differ from the rest.
    pub for_names: TypeOf<'a>,
    /// True if quantized tensors may be quantized once more.
    pub requantize: bool,
    /// True if there will be statistics that show which errors matter.
    pub has_importance: bool,
}

const EMBEDDING: &str = "token_embd.weight";
const OUTPUT: &str = "output.weight";

/// What becomes of each matrix of `model` that changes.
///
/// # Errors
/// A type that ggml cannot write, or not without statistics; or a matrix that is quantized.
pub fn assign(model: &Model, asked: &Quantizing<'_>) -> Result<Vec<Assignment>> {
    let mut assignments = Vec::new();
    for Tensor { info, .. } in model.tensors().filter(|t| is_convertible(t.info)) {
        let Some((wanted, coding)) = wanted(model, info, asked) else { continue };
        check_type(wanted, asked.has_importance)?;
        let to = fitting(info, wanted);
        let coding = fitting_coding(info, wanted, to, coding);
        if to == info.ty && coding == Coding::Ggml && !asked.requantize {
            // Rounding to its own type would only lose.
            continue;
        }
        if info.ty.is_quantized() && !asked.requantize {
            return Err(Error::AlreadyQuantized { name: info.name.clone(), ty: info.ty });
        }
        let (name, from) = (info.name.clone(), info.ty);
        assignments.push(Assignment { name, from, to, coding, wanted });
    }
    Ok(assignments)
}

/// The type and the coding that a matrix would get if its rows fitted; None if it stays.
pub(super) fn wanted(
    model: &Model,
    info: &TensorInfo,
    asked: &Quantizing<'_>,
) -> Option<(GgmlType, Coding)> {
    let tied = model.tensor(OUTPUT).is_none();
    let plain = |ty| Some((ty, Coding::Ggml));
    if let Some(ty) = (asked.for_names)(&info.name) {
        return plain(ty);
    }
    let is_output = info.name == OUTPUT || (tied && info.name == EMBEDDING);
    if info.name == EMBEDDING && asked.embedding.is_some() {
        return asked.embedding.and_then(plain);
    }
    if is_output && asked.output.is_some() {
        return asked.output.and_then(plain);
    }
    if asked.linear_only && !is_block_matrix(info) {
        return None;
    }
    if is_output {
        return plain(output_type(info, asked.ty));
    }
    match is_block_matrix(info) {
        true => Some((asked.ty, asked.coding)),
        false => plain(asked.ty),
    }
}

/// llama-quantize's choice for the output head, and for embeddings that are the head as well
/// (`llama_tensor_get_type_impl` of llama.cpp's `src/llama-quant.cpp`): finer than the rest.
fn output_type(info: &TensorInfo, ty: GgmlType) -> GgmlType {
    use GgmlType as T;
    match ty {
        T::F32 | T::F16 | T::BF16 | T::Q8_0 => ty,
        _ if info.row_bytes_as(ty).is_none() => T::Q8_0,
        T::IQ1_S | T::IQ1_M | T::IQ2_XXS | T::IQ2_XS | T::IQ2_S | T::IQ3_XXS => T::Q5_K,
        _ => T::Q6_K,
    }
}

/// The coding, or ggml's where it does not fit the rows or the type.
fn fitting_coding(info: &TensorInfo, wanted: GgmlType, to: GgmlType, coding: Coding) -> Coding {
    match coding {
        _ if to != wanted => Coding::Ggml,
        Coding::Faithful { scheme, clip }
            if info.n_cols().is_multiple_of(faithful::GROUP as u64) =>
        {
            // Queries and keys are multiplied with each other: the reference does not clip them.
            let of_query =
                ["attn_q.", "attn_k.", "attn_qkv."].iter().any(|part| info.name.contains(part));
            Coding::Faithful { scheme, clip: clip && !of_query }
        }
        Coding::Faithful { .. } => Coding::Ggml,
        other => other,
    }
}

/// Registers the quantization in `rewrite`: `assignments` through their coding, and everything in
/// `folds` scaled. `stats`, if given, show which errors matter.
///
/// # Errors
/// Rows do not fit a type.
pub fn quantize<'m>(
    rewrite: &mut Rewrite<'m>,
    model: &'m Model,
    stats: Option<&'m Stats>,
    assignments: &[Assignment],
    folds: &'m Folds,
) -> Result<()> {
    for assignment in assignments {
        let Some(tensor) = model.tensor(&assignment.name) else { continue };
        let importance = importance(tensor.info, stats, folds);
        let quantizer =
            Quantizer { tensor, to: assignment.to, coding: assignment.coding, importance, folds };
        rewrite.replace(&assignment.name, quantizer.replacement())?;
    }
    // Norms and biases that are divided by scales.
    let assigned = |name: &str| assignments.iter().any(|a| a.name == name);
    for name in folds.names().filter(|name| !assigned(name)) {
        let Some(tensor) = model.tensor(name) else { continue };
        if tensor.info.ty.is_quantized() {
            return Err(Error::AlreadyQuantized { name: name.into(), ty: tensor.info.ty });
        }
        let (to, coding) = (tensor.info.ty, Coding::Ggml);
        let importance = vec![None; n_matrices(tensor.info)];
        let quantizer = Quantizer { tensor, to, coding, importance, folds };
        rewrite.replace(name, quantizer.replacement())?;
    }
    Ok(())
}

/// `E[x^2]` of each matrix's input channels, divided by the squares of their scales; None if no
/// token went there, or nothing is known.
fn importance(info: &TensorInfo, stats: Option<&Stats>, folds: &Folds) -> Vec<Option<Vec<f32>>> {
    let input = stats.and_then(|stats| stats.inputs.get(&info.name));
    let of_matrix = |matrix: usize| {
        let mean_sq = input?.mean_square(matrix)?;
        Some(folds.importance(&info.name, matrix, &mean_sq))
    };
    (0..n_matrices(info)).map(of_matrix).collect()
}

/// The tensors whose rounding would use importance weights, but about which `stats` hold nothing:
/// embeddings are looked up, and always among them.
pub fn lacks_importance(stats: &Stats, assignments: &[Assignment]) -> Vec<String> {
    let lacks = |a: &&Assignment| a.uses_importance() && !stats.inputs.contains_key(&a.name);
    assignments.iter().filter(lacks).map(|a| a.name.clone()).collect()
}

/// Makes one tensor's new bytes.
struct Quantizer<'m> {
    tensor: Tensor<'m>,
    to: GgmlType,
    coding: Coding,
    /// Importance of the input channels, one entry per matrix.
    importance: Vec<Option<Vec<f32>>>,
    folds: &'m Folds,
}

impl<'m> Quantizer<'m> {
    fn replacement(self) -> Replacement<'m> {
        let ty = self.to;
        let produce =
            move |rows: Range<u64>, out: &mut [u8]| self.produce(rows, out).map_err(BoxError::from);
        Replacement { ty, ask: Ask::Chunks, produce: Box::new(produce) }
    }

    fn produce(&self, rows: Range<u64>, out: &mut [u8]) -> Result<()> {
        let info = self.tensor.info;
        let n_cols = info.n_cols() as usize;
        let row_bytes = info.row_bytes_as(self.to).unwrap_or(0);
        for (matrix, part) in by_matrix(info, rows.clone()) {
            let place = |row: u64| ((row - rows.start) * row_bytes) as usize;
            let out = &mut out[place(part.start)..place(part.end)];
            let importance = self.importance[matrix].as_deref();
            let make = |rows: Range<u64>, values: &mut [f32], out: &mut [u8]| {
                decode_finite(self.tensor, rows.clone(), values)?;
                self.folds.apply(info, rows, values);
                encode(self.coding, self.to, values, n_cols, importance, out)
            };
            make_rows(info, self.to, part, out, make)?;
        }
        Ok(())
    }
}

fn encode(
    coding: Coding,
    ty: GgmlType,
    values: &mut [f32],
    n_cols: usize,
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Result<()> {
    match coding {
        Coding::Ggml => Ok(encode_pruned_rows(ty, values, n_cols, importance, PRUNED, out)?),
        Coding::RowWise => int8::encode(values, n_cols, out),
        Coding::Faithful { scheme, clip } => {
            if let Some(mean_sq) = importance.filter(|_| clip) {
                faithful::clip_rows(values, n_cols, mean_sq, scheme)?;
            }
            faithful::encode(values, n_cols, scheme, out)
        }
    }
}
