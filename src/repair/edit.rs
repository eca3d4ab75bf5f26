//! The edit of a model's matrices: which ones, along which vectors, in which type.
//!
//! `W' = W + alpha v u^T W` and `b' = b + alpha v (u . b)`; u and v are both r where only constants
//! stand between the matrix and the residual stream (`arrival`).

use std::ops::Range;

use super::arrival::{along, biases};
use super::error::{Error, Result};
use super::half::Half;
use crate::gguf::{
    Ask, BoxError, Error as GgufError, GgmlType, Model, Replacement, Rewrite, Tensor, Watch,
};
use crate::llama::graph::{Structure, Writer};
use crate::numeric::dot;
use crate::quant::{
    Along, Strengthened, Zeros, decode_rows, decoded, encode_rows, first_non_finite,
    realised_alpha, strengthen,
};

/// An alpha that is off by more than this part of itself is not what was asked for.
const ALPHA_TOLERANCE: f64 = 0.03;
/// The same in a type of less than [`FEW_BITS`], where the file's own type was to be kept.
const COARSE_TOLERANCE: f64 = 0.10;
const FEW_BITS: f64 = 4.0;
/// Greatest noise that [`Storage::Auto`] accepts, as a multiple of the type's own rounding noise.
const NOISE_LIMIT: f64 = 1.35;

/// What to edit, along which direction, how strongly.
#[derive(Debug, Clone, Copy)]
pub struct Edit<'a> {
    /// r, `[n_embd]`, of length 1.
    pub unit: &'a [f32],
    /// The strength, above 0.
    pub alpha: f64,
    /// Halves of blocks whose writers are edited.
    pub halves: &'a [Half],
    /// Types of what comes out.
    pub storage: Storage,
    /// What becomes of the zeros of pruned matrices.
    pub zeros: Zeros,
    /// The structure of the model that is edited.
    pub structure: &'a Structure,
}

/// Which type an edited matrix gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// Its own, if alpha comes out within 3 %, or 10 % in types of less than 4 bits.
    Keep,
    /// Its own, if alpha comes out within 3 % and with at most 1.35 times the noise of the type's
    /// own rounding; else the next finer one where it does.
    Auto,
    /// This type, whatever it costs in noise.
    Named(GgmlType),
}

/// One edited tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Edited {
    /// Name of the tensor, e.g. `blk.0.ffn_down.weight`.
    pub name: String,
    /// Type in the input file.
    pub from: GgmlType,
    /// Type in the output file.
    pub to: GgmlType,
    /// The alpha that the rounded tensor really holds; of all experts together.
    pub realised_alpha: f64,
    /// The same of the expert that is furthest off, among those that write anything along r.
    pub worst_alpha: f64,
    /// What rounding added, relative to the matrix; of experts the largest.
    pub noise: f64,
    /// The same of the type's own rounding.
    pub own_noise: f64,
    /// True for a vector that is added to what a matrix writes.
    pub is_bias: bool,
    /// What the edit is read along: r, or u before gains, `[n_embd]`.
    pub read: Vec<f32>,
    /// All rows of the tensor, encoded in `to`.
    pub bytes: Vec<u8>,
}

/// Edits `model`'s matrices and biases in memory.
///
/// # Errors
/// An alpha that is not above 0, a direction of another width, a block that is not there, an
/// block whose writers could not be found, an edit that would be lost in the type, or an interrupt.
pub fn edit(model: &Model, edit: Edit<'_>, watch: &dyn Watch) -> Result<Vec<Edited>> {
    check(model, edit)?;
    let mut edited: Vec<Edited> = Vec::new();
    for (tensor, writer) in writers(model, edit) {
        if watch.interrupted() {
            return Err(GgufError::Interrupted.into());
        }
        edited.push(edit_matrix(model, (tensor, writer), edit)?);
        for (name, along) in biases(model, writer, edit.unit)? {
            // Two matrices of one sum may share a bias.
            if !edited.iter().any(|known| known.name == name) {
                edited.extend(edit_bias(model, &name, &along, edit.alpha)?);
            }
        }
    }
    Ok(edited)
}

impl Edited {
    /// True if rounding added far more noise than the type's own rounding does: [`Storage::Auto`]
    /// does not accept that.
    pub fn is_noisy(&self) -> bool {
        self.noise > NOISE_LIMIT * self.own_noise
    }
}

/// The matrices to be edited, each with its path to the residual stream, in the file's order.
pub(super) fn writers<'m>(
    model: &'m Model,
    edit: Edit<'m>,
) -> impl Iterator<Item = (Tensor<'m>, &'m Writer)> {
    model.tensors().filter_map(move |tensor| {
        let writer = edit.structure.writer(&tensor.info.name)?;
        edit.halves.contains(&Half::of(writer)).then_some((tensor, writer))
    })
}

/// Registers the edited tensors in `rewrite`, which will write them.
///
/// # Errors
/// Rows do not fit a type.
pub fn apply<'m>(rewrite: &mut Rewrite<'m>, edited: &'m [Edited]) -> Result<()> {
    for edit in edited {
        rewrite.replace(&edit.name, replacement(edit))?;
    }
    Ok(())
}

/// The bytes of one tensor, in the form that file writers take.
pub fn replacement(edited: &Edited) -> Replacement<'_> {
    let produce = |rows: Range<u64>, out: &mut [u8]| -> std::result::Result<(), BoxError> {
        let row_bytes = out.len() as u64 / (rows.end - rows.start).max(1);
        let range = (rows.start * row_bytes) as usize..(rows.end * row_bytes) as usize;
        out.copy_from_slice(&edited.bytes[range]);
        Ok(())
    };
    Replacement { ty: edited.to, ask: Ask::Chunks, produce: Box::new(produce) }
}

/// Checks what can be checked without editing: what [`edit()`] would refuse at once.
///
/// # Errors
/// As [`edit()`].
pub fn check(model: &Model, edit: Edit<'_>) -> Result<()> {
    let Edit { alpha, halves, structure, .. } = edit;
    check_asked(Asked { alpha, halves, structure })?;
    let expected = model.needed_hparam("embedding_length")?;
    if edit.unit.len() as u64 != expected {
        return Err(Error::Width { found: edit.unit.len(), expected });
    }
    Ok(())
}

/// What is known of an edit before its direction.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// See [`Edit::alpha`].
    pub alpha: f64,
    /// See [`Edit::halves`].
    pub halves: &'a [Half],
    /// See [`Edit::structure`].
    pub structure: &'a Structure,
}

/// As [`check`], before there is a direction.
///
/// # Errors
/// As [`edit()`].
pub fn check_asked(asked: Asked<'_>) -> Result<()> {
    if !(asked.alpha > 0.0 && asked.alpha.is_finite()) {
        return Err(Error::Alpha { alpha: asked.alpha });
    }
    asked.structure.check_stream()?;
    check_halves(asked)
}

/// Checks that each half exists.
fn check_halves(Asked { halves, structure, .. }: Asked<'_>) -> Result<()> {
    let last = structure.groups.iter().map(|group| group.block).max().unwrap_or(0);
    if let Some(&Half { block, .. }) = halves.iter().find(|half| half.block > last) {
        return Err(Error::NoBlock { block, last });
    }
    let known: Vec<Half> = structure.writers().map(Half::of).collect();
    // A block may have only one half, and was then named as a whole: a state-space model's has no
    // MLP. A half that was named by itself must be there.
    let whole = |half: &Half| halves.iter().filter(|h| h.block == half.block).count() > 1;
    for half in halves.iter().filter(|half| !known.contains(half)) {
        let block = half.block;
        if let Some(obstacle) = structure.obstacle(block) {
            let (node, op) = (obstacle.node.clone(), obstacle.op.clone());
            return Err(Error::NotLinear { block, node, op });
        }
        if !whole(half) || !known.iter().any(|known| known.block == block) {
            return Err(Error::NoWriter { block });
        }
    }
    Ok(())
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

fn edit_matrix(
    model: &Model,
    (tensor, writer): (Tensor<'_>, &Writer),
    edit: Edit<'_>,
) -> Result<Edited> {
    let along = along(model, writer, edit.unit)?;
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
        let edited = strengthened(tensor, &along, edit, ty)?;
        let off = (edited.realised_alpha / edit.alpha - 1.0).abs();
        let exact = off <= tolerance(ty, edit.storage);
        // The last type of the list, and one that was asked for, may be noisy; none may lose the
        // edit.
        let last = i + 1 == fits.len();
        if exact && (last || !edited.is_noisy() || edit.storage != Storage::Auto) {
            return Ok(edited);
        }
        lost = Some(edited);
    }
    let (name, asked) = (info.name.clone(), edit.alpha);
    let (ty, realised) = lost.map_or((info.ty, f64::NAN), |e| (e.to, e.realised_alpha));
    let tried_finer = edit.storage == Storage::Auto;
    Err(Error::Lost { name, ty, realised, asked, tried_finer })
}

/// The part of itself that an alpha may be off by.
fn tolerance(ty: GgmlType, storage: Storage) -> f64 {
    let layout = ty.layout();
    let bits = 8.0 * layout.block_bytes as f64 / layout.block_len as f64;
    if storage != Storage::Auto && bits < FEW_BITS { COARSE_TOLERANCE } else { ALPHA_TOLERANCE }
}

fn strengthened(
    tensor: Tensor<'_>,
    along: &Along,
    Edit { alpha, zeros, .. }: Edit<'_>,
    ty: GgmlType,
) -> Result<Edited> {
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
        is_bias: false,
        read: along.read.clone(),
        bytes: Vec::new(),
    };
    if hides_nan(from) && first_non_finite(from, tensor.data(), n_cols)?.is_some() {
        return Err(Error::NotFinite { name: edited.name, ty: from });
    }
    let (mut realised, mut written) = (0.0, 0.0);
    for rows in matrices(tensor, along.read.len())? {
        let one: Strengthened = strengthen(tensor, rows, along, alpha, (ty, zeros))?;
        edited.noise = edited.noise.max(one.noise);
        edited.own_noise = edited.own_noise.max(one.own_noise);
        // The noise is a sum over every value as ggml decodes it.
        let is_sound = one.noise.is_finite()
            && (!hides_nan(ty) || first_non_finite(ty, &one.bytes, n_cols)?.is_none());
        if !is_sound {
            return Err(Error::NotFinite { name: edited.name, ty });
        }
        // Most tensors are a single matrix, which is moved, not copied.
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

/// `b + alpha v (u . b)`; None where b has nothing along u.
fn edit_bias(model: &Model, name: &str, along: &Along, alpha: f64) -> Result<Option<Edited>> {
    let Some(bias) = model.tensor(name) else { return Ok(None) };
    let values = decoded(bias, 0..bias.info.n_rows())?;
    let n_embd = along.read.len();
    let part = |b: &[f32]| dot(b, &along.read);
    let mut new = Vec::with_capacity(values.len());
    for values in values.chunks(n_embd) {
        let more = alpha * part(values);
        let row = values.iter().zip(&along.write);
        new.extend(row.map(|(b, v)| (f64::from(*b) + more * f64::from(*v)) as f32));
    }
    let (name, from) = (bias.info.name.clone(), bias.info.ty);
    let to = if from.is_quantized() { GgmlType::F32 } else { from };
    let (mut bytes, n_cols) = (vec![0; to.bytes_for(new.len() as u64).unwrap_or(0) as usize], 1);
    encode_rows(to, &new, n_cols, None, &mut bytes)?;
    decode_rows(to, &bytes, n_cols, &mut new)?;
    let parts = |b: &[f32]| b.chunks(n_embd).map(|b| vec![part(b)]).collect::<Vec<_>>();
    let alpha = realised_alpha(&parts(&values), &parts(&new));
    let edited = Edited {
        name,
        from,
        to,
        realised_alpha: alpha,
        worst_alpha: alpha,
        noise: 0.0,
        own_noise: 0.0,
        is_bias: true,
        read: along.read.clone(),
        bytes,
    };
    Ok((!alpha.is_nan()).then_some(edited))
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
