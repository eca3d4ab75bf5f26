//! The edit of a model's matrices: which ones, along which vector, in which type.
//!
//! ```text
//! x + W y               W' = W + alpha r r^T W           b' = b + alpha r (r . b)
//! x + g * (W y) / rms   W' = W + alpha u u^T W           u = (g * r) / |g * r|
//! ```
//! Behind a norm with gain g the residual stream gets `g * (W y) / rms`, whose part along r is that
//! of `W y` along `g * r`; that the edit moves rms as well makes it an approximation.

use std::ops::Range;

use super::error::{Error, Result};
use super::half::Half;
use crate::gguf::{
    Ask, BoxError, Error as GgufError, GgmlType, Model, Replacement, Rewrite, Tensor, Watch,
};
use crate::llama::architecture::{output_norm, residual_writer, writers_are_known};
use crate::quant::{Strengthened, decoded, encode_rows, first_non_finite, strengthen};

/// Off by this part of itself, an alpha is not what was asked for.
const ALPHA_TOLERANCE: f64 = 0.03;
/// Noise that [`Storage::Auto`] takes, against that of the type's own rounding.
const NOISE_LIMIT: f64 = 1.35;

/// What to edit.
#[derive(Debug, Clone, Copy)]
pub struct Edit<'a> {
    /// r, [n_embd], of length 1.
    pub unit: &'a [f32],
    /// Above 0.
    pub alpha: f64,
    /// Halves of blocks whose writers are edited.
    pub halves: &'a [Half],
    /// Types of what comes out.
    pub storage: Storage,
    /// Edits models of architectures that are not known here, too, as if no norm followed.
    pub any_architecture: bool,
}

/// Which type an edited matrix gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// Its own.
    Keep,
    /// Its own, if alpha comes out within 3 % and with at most 1.35 times the noise of the type's
    /// own rounding; else the next finer one where it does.
    Auto,
    /// This one.
    Named(GgmlType),
}

/// One edited tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Edited {
    /// The tensor.
    pub name: String,
    /// Its type before.
    pub from: GgmlType,
    /// Its type after.
    pub to: GgmlType,
    /// The alpha that is really in there; of experts the one that is furthest off.
    pub realised_alpha: f64,
    /// What rounding added, relative to the matrix; of experts the largest.
    pub noise: f64,
    /// The same of the type's own rounding.
    pub own_noise: f64,
    /// All rows.
    pub bytes: Vec<u8>,
}

/// Edits `model`'s matrices and biases in memory.
///
/// # Errors
/// An alpha that is not above 0, a direction of another width, a block that is not there, an
/// unknown architecture, an edit that would be lost in the type, or an interrupt.
pub fn edit(model: &Model, edit: Edit<'_>, watch: &dyn Watch) -> Result<Vec<Edited>> {
    check(model, edit)?;
    let mut edited = Vec::new();
    for &half in edit.halves {
        let writers = model.tensors().filter(|t| half_of(*t) == Some(half));
        for tensor in writers {
            if watch.interrupted() {
                return Err(GgufError::Interrupted.into());
            }
            edited.push(edit_matrix(model, tensor, edit)?);
            edited.extend(edit_bias(model, tensor, edit)?);
        }
    }
    Ok(edited)
}

/// The half that `tensor` ends, if it is a matrix that writes into the residual stream.
pub(super) fn half_of(tensor: Tensor<'_>) -> Option<Half> {
    let (block, part) = (tensor.info.block()?, residual_writer(&tensor.info.name)?);
    Some(Half { block, part })
}

/// Tells `rewrite` to write what was edited.
///
/// # Errors
/// Rows do not fit a type.
pub fn apply<'m>(rewrite: &mut Rewrite<'m>, edited: &'m [Edited]) -> Result<()> {
    for edit in edited {
        rewrite.replace(&edit.name, replacement(edit))?;
    }
    Ok(())
}

/// The bytes of one tensor, as the writers of files take them.
pub fn replacement(edited: &Edited) -> Replacement<'_> {
    let produce = |rows: Range<u64>, out: &mut [u8]| -> std::result::Result<(), BoxError> {
        let row_bytes = out.len() as u64 / (rows.end - rows.start).max(1);
        let range = (rows.start * row_bytes) as usize..(rows.end * row_bytes) as usize;
        out.copy_from_slice(&edited.bytes[range]);
        Ok(())
    };
    Replacement { ty: edited.to, ask: Ask::Chunks, produce: Box::new(produce) }
}

/// Looks at what can be seen without editing: what [`edit`] would refuse at once.
///
/// # Errors
/// As [`edit`].
pub fn check(model: &Model, edit: Edit<'_>) -> Result<()> {
    if !(edit.alpha > 0.0 && edit.alpha.is_finite()) {
        return Err(Error::Alpha { alpha: edit.alpha });
    }
    let expected = model.hparam("embedding_length").unwrap_or(0);
    if edit.unit.len() as u64 != expected {
        return Err(Error::Width { found: edit.unit.len(), expected });
    }
    let last = model.tensors().filter_map(|t| t.info.block()).max().unwrap_or(0);
    if let Some(&Half { block, .. }) = edit.halves.iter().find(|half| half.block > last) {
        return Err(Error::NoBlock { block, last });
    }
    // A block may have one half alone: a state-space model's has no MLP.
    let writes = |block| model.tensors().filter_map(half_of).any(|half| half.block == block);
    if let Some(half) = edit.halves.iter().find(|half| !writes(half.block)) {
        return Err(Error::NoWriter { block: half.block });
    }
    match edit.any_architecture || writers_are_known(model.architecture()) {
        true => Ok(()),
        false => Err(Error::Architecture { found: model.architecture().into() }),
    }
}

/// r, or u where a norm follows the matrix.
pub(super) fn along(model: &Model, tensor: Tensor<'_>, unit: &[f32]) -> Result<Vec<f32>> {
    let (name, block) = (&tensor.info.name, tensor.info.block().unwrap_or(0));
    let norm = residual_writer(name).and_then(|part| output_norm(model.architecture(), part));
    let Some(norm) = norm else { return Ok(unit.to_vec()) };
    let norm = format!("blk.{block}.{norm}.weight");
    let no_norm = || Error::NoNorm { name: norm.clone(), matrix: name.clone() };
    let gains = decoded(model.tensor(&norm).ok_or_else(no_norm)?, 0..1)?;
    if gains.len() != unit.len() {
        return Err(no_norm());
    }
    let scaled = gains.iter().zip(unit).map(|(g, r)| f64::from(*g) * f64::from(*r));
    let scaled: Vec<f64> = scaled.collect();
    let length = scaled.iter().map(|x| x * x).sum::<f64>().sqrt();
    if !(length > 0.0 && length.is_finite()) {
        return Err(Error::NothingThere { name: name.clone() });
    }
    Ok(scaled.iter().map(|x| (x / length) as f32).collect())
}

/// The rows of each matrix in a writer: one, or one an expert.
pub(super) fn matrices(tensor: Tensor<'_>, n_embd: usize) -> Result<Vec<Range<u64>>> {
    let info = tensor.info;
    let (found, expected) = (info.shape.get(1).copied().unwrap_or(0), n_embd as u64);
    if found != expected {
        return Err(Error::Rows { name: info.name.clone(), found, expected });
    }
    Ok((0..info.n_rows() / expected).map(|i| i * expected..(i + 1) * expected).collect())
}

fn edit_matrix(model: &Model, tensor: Tensor<'_>, edit: Edit<'_>) -> Result<Edited> {
    let along = along(model, tensor, edit.unit)?;
    let info = tensor.info;
    let types = match edit.storage {
        Storage::Keep => vec![info.ty],
        Storage::Named(ty) => vec![ty],
        Storage::Auto => finer(info.ty),
    };
    let fits: Vec<GgmlType> =
        types.into_iter().filter(|ty| info.row_bytes_as(*ty).is_some()).collect();
    let fits = if fits.is_empty() { vec![GgmlType::F16] } else { fits };
    let mut lost = None;
    for (i, &ty) in fits.iter().enumerate() {
        let edited = strengthened(tensor, &along, edit.alpha, ty)?;
        let exact = (edited.realised_alpha / edit.alpha - 1.0).abs() <= ALPHA_TOLERANCE;
        let quiet = edited.noise <= NOISE_LIMIT * edited.own_noise;
        // The last type there is, and one that was asked for, may be noisy; none may lose the edit.
        let last = i + 1 == fits.len();
        if exact && (last || quiet || edit.storage != Storage::Auto) {
            return Ok(edited);
        }
        lost = Some(edited);
    }
    let (name, asked) = (info.name.clone(), edit.alpha);
    let (ty, realised) = lost.map_or((info.ty, f64::NAN), |e| (e.to, e.realised_alpha));
    let hint = match edit.storage {
        Storage::Auto => {
            "this matrix writes next to nothing along the direction: choose another block"
        }
        _ => "--type auto stores the tensor in a finer type",
    };
    Err(Error::Lost { name, ty, realised, asked, hint })
}

fn strengthened(tensor: Tensor<'_>, along: &[f32], alpha: f64, ty: GgmlType) -> Result<Edited> {
    let info = tensor.info;
    let n_cols = info.n_cols() as usize;
    let (name, from) = (info.name.clone(), info.ty);
    let mut edited = Edited {
        name,
        from,
        to: ty,
        realised_alpha: f64::NAN,
        noise: 0.0,
        own_noise: 0.0,
        bytes: Vec::new(),
    };
    for rows in matrices(tensor, along.len())? {
        let one: Strengthened = strengthen(tensor, rows, along, alpha, ty)?;
        edited.bytes.extend(&one.bytes);
        edited.noise = edited.noise.max(one.noise);
        edited.own_noise = edited.own_noise.max(one.own_noise);
        let off = |x: f64| (x - alpha).abs();
        if !(one.noise.is_finite() && first_non_finite(ty, &one.bytes, n_cols)?.is_none()) {
            return Err(Error::NotFinite { name: edited.name, ty });
        }
        // An expert that writes nothing along r has no alpha: NaN is not further off.
        let further =
            edited.realised_alpha.is_nan() || off(one.realised_alpha) > off(edited.realised_alpha);
        if further && !one.realised_alpha.is_nan() {
            edited.realised_alpha = one.realised_alpha;
        }
    }
    match edited.realised_alpha.is_nan() {
        true => Err(Error::NothingThere { name: edited.name }),
        false => Ok(edited),
    }
}

/// `b + alpha r (r . b)`, for a matrix that has a bias.
fn edit_bias(model: &Model, matrix: Tensor<'_>, edit: Edit<'_>) -> Result<Option<Edited>> {
    let Some(stem) = matrix.info.name.strip_suffix(".weight") else { return Ok(None) };
    let Some(bias) = model.tensor(&format!("{stem}.bias")) else { return Ok(None) };
    let along = along(model, matrix, edit.unit)?;
    let values = decoded(bias, 0..bias.info.n_rows())?;
    let mut new = Vec::with_capacity(values.len());
    for values in values.chunks(along.len()) {
        let pairs = values.iter().zip(&along);
        let part: f64 = pairs.map(|(b, r)| f64::from(*b) * f64::from(*r)).sum();
        let row = values.iter().zip(&along);
        new.extend(row.map(|(b, r)| (f64::from(*b) + edit.alpha * f64::from(*r) * part) as f32));
    }
    let (name, from) = (bias.info.name.clone(), bias.info.ty);
    let to = if from.is_quantized() { GgmlType::F32 } else { from };
    let mut bytes = vec![0; to.bytes_for(new.len() as u64).unwrap_or(0) as usize];
    encode_rows(to, &new, bias.info.n_cols() as usize, None, &mut bytes)?;
    let (noise, own_noise, realised_alpha) = (0.0, 0.0, edit.alpha);
    Ok(Some(Edited { name, from, to, realised_alpha, noise, own_noise, bytes }))
}

/// A type and the finer ones, to F16.
fn finer(ty: GgmlType) -> Vec<GgmlType> {
    use GgmlType as T;
    let further: &[T] = match ty {
        T::F32 | T::F16 | T::BF16 => &[],
        T::Q8_0 => &[T::F16],
        T::Q6_K => &[T::Q8_0, T::F16],
        T::Q5_K => &[T::Q6_K, T::Q8_0, T::F16],
        T::Q5_0 | T::Q5_1 => &[T::Q8_0, T::F16],
        T::Q4_0 | T::IQ4_NL => &[T::Q5_0, T::Q8_0, T::F16],
        T::Q4_1 => &[T::Q5_1, T::Q8_0, T::F16],
        T::Q4_K | T::IQ4_XS => &[T::Q5_K, T::Q6_K, T::Q8_0, T::F16],
        _ => &[T::Q4_K, T::Q5_K, T::Q6_K, T::Q8_0, T::F16],
    };
    [&[ty], further].concat()
}
