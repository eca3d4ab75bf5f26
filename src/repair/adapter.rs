//! The same edit as a rank-1 LoRA adapter, which llama.cpp adds at run time with no rounding at
//! all: `A = u^T W`, `B = alpha u`.

use std::ops::Range;

use super::edit::{Edit, along, check, half_of, matrices};
use super::error::{Error, Result};
use super::scale::Scale;
use crate::gguf::{Builder, GgmlType, Model, Tensor, Watch};
use crate::quant::{decoded, written_along};

/// A tensor that an adapter strengthens.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapted {
    /// The tensor.
    pub name: String,
    /// Its type, which stays.
    pub ty: GgmlType,
    /// The alpha that the adapter's numbers come to; of all experts together.
    pub alpha: f64,
}

/// An adapter that does to `model` what [`super::edit()`] does; biases apart, which no adapter
/// reaches. Its scale is the strength: 1 is `edit.alpha`.
///
/// # Errors
/// As [`super::edit()`], rounding apart; a tensor that llama.cpp takes no adapter for; an
/// interrupt.
pub fn adapter(model: &Model, edit: Edit<'_>, watch: &dyn Watch) -> Result<Builder> {
    check(model, edit)?;
    let name = model.text("general.name")?.unwrap_or("model");
    let mut file = Builder::new();
    file.kv("general.type", "adapter")
        .kv("general.architecture", model.architecture())
        .kv("general.name", format!("{name} AIRD"))
        .kv("adapter.type", "lora")
        .kv("adapter.lora.alpha", 1.0f32);
    watch.stage("reading", writers(model, edit).map(|t| t.info.n_bytes()).sum());
    for tensor in writers(model, edit) {
        let writer = Writer::new(model, tensor, edit.unit)?;
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for (i, rows) in writer.matrices.iter().enumerate() {
            let g = written_along(tensor, rows.clone(), &writer.unit, watch)?;
            a.extend(g.iter().flat_map(|x| (*x as f32).to_le_bytes()));
            let strength = edit.alpha * writer.scale.for_adapter(i);
            let scaled = writer.unit.iter().map(|r| (strength * f64::from(*r)) as f32);
            b.extend(scaled.flat_map(|x| x.to_le_bytes()));
        }
        let (n_embd, n) = (writer.unit.len() as u64, writer.matrices.len() as u64);
        let stack = |shape: [u64; 2]| match n {
            1 => shape.to_vec(),
            n => vec![shape[0], shape[1], n],
        };
        let (name, ty, n_cols) = (&tensor.info.name, GgmlType::F32, tensor.info.n_cols());
        file.tensor(&format!("{name}.lora_a"), &stack([n_cols, 1]), ty, a)?;
        file.tensor(&format!("{name}.lora_b"), &stack([1, n_embd]), ty, b)?;
    }
    Ok(file)
}

/// Looks for the edit in `file`, an adapter that was written for `model`: the alpha of each tensor,
/// from the file's numbers.
///
/// # Errors
/// A tensor is missing, a number is none, or an interrupt.
pub fn adapted(
    model: &Model,
    edit: Edit<'_>,
    file: &Model,
    watch: &dyn Watch,
) -> Result<Vec<Adapted>> {
    let factor = |name: String| -> Result<Vec<f32>> {
        let missing = || crate::gguf::Error::NoTensor { name: name.clone() };
        let tensor = file.tensor(&name).ok_or_else(missing)?;
        Ok(decoded(tensor, 0..tensor.info.n_rows())?)
    };
    watch.stage("looking again", writers(model, edit).map(|t| t.info.n_bytes()).sum());
    let of_tensor = |tensor: Tensor<'_>| {
        let writer = Writer::new(model, tensor, edit.unit)?;
        let (name, ty) = (tensor.info.name.clone(), tensor.info.ty);
        let (a, b) = (factor(format!("{name}.lora_a"))?, factor(format!("{name}.lora_b"))?);
        let (n_cols, n_embd) = (tensor.info.n_cols() as usize, writer.unit.len());
        let (mut along, mut square) = (0.0, 0.0);
        let parts = a.chunks_exact(n_cols.max(1)).zip(b.chunks_exact(n_embd));
        for (i, (rows, (a, b))) in writer.matrices.iter().zip(parts).enumerate() {
            let g = written_along(tensor, rows.clone(), &writer.unit, watch)?;
            let part: f64 = a.iter().zip(&g).map(|(a, g)| f64::from(*a) * g).sum();
            let u_b = b.iter().zip(&writer.unit).map(|(b, u)| f64::from(*b) * f64::from(*u));
            along += u_b.sum::<f64>() * part / writer.scale.for_adapter(i);
            square += g.iter().map(|g| g * g).sum::<f64>();
        }
        let alpha = along / square;
        match alpha.is_nan() {
            true => Err(Error::NothingThere { name }),
            false => Ok(Adapted { name, ty, alpha }),
        }
    };
    writers(model, edit).map(of_tensor).collect()
}

/// The biases that an adapter would have to strengthen and cannot.
pub fn biases(model: &Model, edit: Edit<'_>) -> Vec<String> {
    let bias = |tensor: Tensor<'_>| {
        let name = format!("{}.bias", tensor.info.name.strip_suffix(".weight")?);
        model.tensor(&name).map(|_| name)
    };
    writers(model, edit).filter_map(bias).collect()
}

/// The matrices to be strengthened, in the file's order.
fn writers<'m>(model: &'m Model, edit: Edit<'m>) -> impl Iterator<Item = Tensor<'m>> {
    model.tensors().filter(move |t| half_of(*t).is_some_and(|half| edit.halves.contains(&half)))
}

/// One of them.
struct Writer {
    /// r, or u behind a norm, [n_embd].
    unit: Vec<f32>,
    matrices: Vec<Range<u64>>,
    scale: Scale,
}

impl Writer {
    fn new(model: &Model, tensor: Tensor<'_>, unit: &[f32]) -> Result<Writer> {
        let unit = along(model, tensor, unit)?;
        let matrices = matrices(tensor, unit.len())?;
        let scale = Scale::of(model, tensor)?;
        // build_ffn aborts the process: GGML_ASSERT(!down_s || .. != NVFP4 || !has_lora(down)).
        if tensor.info.ty == GgmlType::NVFP4 && scale.is_there() && scale.is_of_adapter() {
            return Err(Error::NoAdapter { name: tensor.info.name.clone() });
        }
        Ok(Writer { unit, matrices, scale })
    }
}
