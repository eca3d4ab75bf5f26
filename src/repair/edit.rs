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
use crate::quant::{
    Strengthened, decode_rows, decoded, encode_rows, first_non_finite, realised_alpha, strengthen,
};

/// Off by this part of itself, an alpha is not what was asked for.
const ALPHA_TOLERANCE: f64 = 0.03;
/// The same in a type of less than [`FEW_BITS`], where the file's own type was to be kept.
const COARSE_TOLERANCE: f64 = 0.10;
const FEW_BITS: f64 = 4.0;
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
    /// Its own, if alpha comes out within 3 %, or 10 % in types of less than 4 bits.
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
    /// The alpha that is really in there; of all experts together.
    pub realised_alpha: f64,
    /// The same of the expert that is furthest off; of those that write anything along r.
    pub worst_alpha: f64,
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

impl Edited {
    /// True if rounding added more than the type's own rounding does by far: what
    /// [`Storage::Auto`] does not take.
    pub fn is_noisy(&self) -> bool {
        self.noise > NOISE_LIMIT * self.own_noise
    }
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

/// Looks at what can be seen without editing: what [`edit()`] would refuse at once.
///
/// # Errors
/// As [`edit()`].
pub fn check(model: &Model, edit: Edit<'_>) -> Result<()> {
    let Edit { alpha, halves, any_architecture, .. } = edit;
    check_asked(model, Asked { alpha, halves, any_architecture })?;
    let expected = model.needed_hparam("embedding_length")?;
    if edit.unit.len() as u64 != expected {
        return Err(Error::Width { found: edit.unit.len(), expected });
    }
    Ok(())
}

/// An edit as far as it is known before its direction.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// See [`Edit::alpha`].
    pub alpha: f64,
    /// See [`Edit::halves`].
    pub halves: &'a [Half],
    /// See [`Edit::any_architecture`].
    pub any_architecture: bool,
}

/// As [`check`], before there is a direction.
///
/// # Errors
/// As [`edit()`].
pub fn check_asked(model: &Model, asked: Asked<'_>) -> Result<()> {
    if !(asked.alpha > 0.0 && asked.alpha.is_finite()) {
        return Err(Error::Alpha { alpha: asked.alpha });
    }
    check_halves(model, asked.halves)?;
    match asked.any_architecture || writers_are_known(model.architecture()) {
        true => Ok(()),
        false => Err(Error::Architecture { found: model.architecture().into() }),
    }
}

/// Looks whether each half is there.
fn check_halves(model: &Model, halves: &[Half]) -> Result<()> {
    let last = model.tensors().filter_map(|t| t.info.block()).max().unwrap_or(0);
    if let Some(&Half { block, .. }) = halves.iter().find(|half| half.block > last) {
        return Err(Error::NoBlock { block, last });
    }
    let writers: Vec<Half> = model.tensors().filter_map(half_of).collect();
    // A block may have one half alone, and was then named as a whole: a state-space model's has no
    // MLP. A half that was named by itself must be there.
    let whole = |half: &Half| halves.iter().filter(|h| h.block == half.block).count() > 1;
    let writes = |half: &Half| match whole(half) {
        true => writers.iter().any(|w| w.block == half.block),
        false => writers.contains(half),
    };
    match halves.iter().find(|half| !writes(half)) {
        Some(half) => Err(Error::NoWriter { block: half.block }),
        None => Ok(()),
    }
}

/// The norm that may follow what is edited in a model of an unknown architecture: wherever such a
/// name is known it stands between an MLP and the residual stream. None in one that is known.
pub fn suspected_norm(model: &Model, halves: &[Half]) -> Option<String> {
    if writers_are_known(model.architecture()) {
        return None;
    }
    let names = halves.iter().map(|half| format!("blk.{}.post_ffw_norm.weight", half.block));
    names.into_iter().find(|name| model.tensor(name).is_some())
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
        let off = (edited.realised_alpha / edit.alpha - 1.0).abs();
        let exact = off <= tolerance(ty, edit.storage);
        // The last type there is, and one that was asked for, may be noisy; none may lose the edit.
        let last = i + 1 == fits.len();
        if exact && (last || !edited.is_noisy() || edit.storage != Storage::Auto) {
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
        _ => "--type auto stores the tensor in a finer type, in a new file",
    };
    Err(Error::Lost { name, ty, realised, asked, hint })
}

/// By which part of itself an alpha may be off.
fn tolerance(ty: GgmlType, storage: Storage) -> f64 {
    let layout = ty.layout();
    let bits = 8.0 * layout.block_bytes as f64 / layout.block_len as f64;
    if storage != Storage::Auto && bits < FEW_BITS { COARSE_TOLERANCE } else { ALPHA_TOLERANCE }
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
        worst_alpha: f64::NAN,
        noise: 0.0,
        own_noise: 0.0,
        bytes: Vec::new(),
    };
    if hides_nan(from) && first_non_finite(from, tensor.data(), n_cols)?.is_some() {
        return Err(Error::NotFinite { name: edited.name, ty: from });
    }
    let (mut realised, mut written) = (0.0, 0.0);
    for rows in matrices(tensor, along.len())? {
        let one: Strengthened = strengthen(tensor, rows, along, alpha, ty)?;
        edited.noise = edited.noise.max(one.noise);
        edited.own_noise = edited.own_noise.max(one.own_noise);
        // The noise is a sum over every number as ggml decodes it.
        let is_sound = one.noise.is_finite()
            && (!hides_nan(ty) || first_non_finite(ty, &one.bytes, n_cols)?.is_none());
        if !is_sound {
            return Err(Error::NotFinite { name: edited.name, ty });
        }
        // The one matrix that most tensors are is not copied.
        match edited.bytes.is_empty() {
            true => edited.bytes = one.bytes,
            false => edited.bytes.extend(one.bytes),
        }
        // An expert that writes nothing along r has no alpha.
        if one.written > 0.0 {
            realised += one.realised_alpha * one.written;
            written += one.written;
            let off = |x: f64| (x - alpha).abs();
            if edited.worst_alpha.is_nan() || off(one.realised_alpha) > off(edited.worst_alpha) {
                edited.worst_alpha = one.realised_alpha;
            }
        }
    }
    edited.realised_alpha = realised / written;
    match edited.realised_alpha.is_nan() {
        true => Err(Error::NothingThere { name: edited.name }),
        false => Ok(edited),
    }
}

/// True for types whose NaN ggml decodes to a number.
fn hides_nan(ty: GgmlType) -> bool {
    matches!(ty, GgmlType::MXFP4 | GgmlType::NVFP4)
}

/// `b + alpha r (r . b)`, for a matrix that has a bias.
fn edit_bias(model: &Model, matrix: Tensor<'_>, edit: Edit<'_>) -> Result<Option<Edited>> {
    let Some(stem) = matrix.info.name.strip_suffix(".weight") else { return Ok(None) };
    let Some(bias) = model.tensor(&format!("{stem}.bias")) else { return Ok(None) };
    let along = along(model, matrix, edit.unit)?;
    let values = decoded(bias, 0..bias.info.n_rows())?;
    let part = |b: &[f32]| -> f64 {
        b.iter().zip(&along).map(|(b, r)| f64::from(*b) * f64::from(*r)).sum()
    };
    let mut new = Vec::with_capacity(values.len());
    for values in values.chunks(along.len()) {
        let more = edit.alpha * part(values);
        let row = values.iter().zip(&along);
        new.extend(row.map(|(b, r)| (f64::from(*b) + more * f64::from(*r)) as f32));
    }
    let (name, from) = (bias.info.name.clone(), bias.info.ty);
    let to = if from.is_quantized() { GgmlType::F32 } else { from };
    let (mut bytes, n_cols) = (vec![0; to.bytes_for(new.len() as u64).unwrap_or(0) as usize], 1);
    encode_rows(to, &new, n_cols, None, &mut bytes)?;
    decode_rows(to, &bytes, n_cols, &mut new)?;
    let parts = |b: &[f32]| b.chunks(along.len()).map(|b| vec![part(b)]).collect::<Vec<_>>();
    let alpha = realised_alpha(&parts(&values), &parts(&new));
    if alpha.is_nan() {
        // It has nothing along r.
        return Ok(None);
    }
    let (noise, own_noise, realised_alpha, worst_alpha) = (0.0, 0.0, alpha, alpha);
    let edited = Edited { name, from, to, realised_alpha, worst_alpha, noise, own_noise, bytes };
    Ok(Some(edited))
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
