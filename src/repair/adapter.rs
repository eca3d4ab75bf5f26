//! The same edit as a rank-1 LoRA adapter, which llama.cpp adds at run time with no rounding at
//! all: `A = u^T W`, `B = alpha v`.

use std::ops::Range;

use super::arrival::along;
use super::edit::{Edit, check, matrices, writers};
use super::error::{Error, Result};
use super::scale::Scale;
use crate::adapter::begun;
use crate::gguf::{Builder, GgmlType, Model, Tensor, Watch};
use crate::llama::graph::{Link, Writer};
use crate::numeric::dot;
use crate::quant::{Along, decoded, written_along};

/// A tensor that an adapter strengthens.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapted {
    /// Name of the tensor, e.g. `blk.0.ffn_down.weight`.
    pub name: String,
    /// Its type, which stays.
    pub ty: GgmlType,
    /// The alpha that the adapter's values amount to; of all experts together.
    pub alpha: f64,
}

/// An adapter that has the effect of [`super::edit()`] on `model`, except for biases, which an
/// adapter cannot change. Its scale is the strength: 1 is `edit.alpha`.
///
/// # Errors
/// As [`super::edit()`], except for rounding; a tensor that llama.cpp accepts no adapter for; an
/// interrupt.
pub fn adapter(model: &Model, edit: Edit<'_>, watch: &dyn Watch) -> Result<Builder> {
    check(model, edit)?;
    let mut file = begun(model, "AIRD", 1.0)?;
    watch.stage("reading", n_bytes(model, edit));
    for (tensor, writer) in writers(model, edit) {
        let writer = AdapterTarget::new(model, (tensor, writer), edit.unit)?;
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for (i, rows) in writer.matrices.iter().enumerate() {
            let g = written_along(tensor, rows.clone(), &writer.along.read, watch)?;
            a.extend(g.iter().flat_map(|x| (*x as f32).to_le_bytes()));
            let strength = edit.alpha * writer.scale.for_adapter(i);
            let scaled = writer.along.write.iter().map(|v| (strength * f64::from(*v)) as f32);
            b.extend(scaled.flat_map(|x| x.to_le_bytes()));
        }
        let (n_embd, n) = (writer.along.read.len() as u64, writer.matrices.len() as u64);
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

/// Reads the edit back from `file`, an adapter that was written for `model`: the alpha of each
/// tensor, from the file's values.
///
/// # Errors
/// A tensor is missing, a value is NaN or infinite, or an interrupt.
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
    watch.stage("reading back", n_bytes(model, edit));
    let of_tensor = |(tensor, writer): (Tensor<'_>, &Writer)| {
        let writer = AdapterTarget::new(model, (tensor, writer), edit.unit)?;
        let (name, ty) = (tensor.info.name.clone(), tensor.info.ty);
        let (a, b) = (factor(format!("{name}.lora_a"))?, factor(format!("{name}.lora_b"))?);
        let (n_cols, n_embd) = (tensor.info.n_cols() as usize, writer.along.read.len());
        let (mut along, mut square) = (0.0, 0.0);
        let parts = a.chunks_exact(n_cols.max(1)).zip(b.chunks_exact(n_embd));
        for (i, (rows, (a, b))) in writer.matrices.iter().zip(parts).enumerate() {
            let g = written_along(tensor, rows.clone(), &writer.along.read, watch)?;
            let part: f64 = a.iter().zip(&g).map(|(a, g)| f64::from(*a) * g).sum();
            along += dot(b, &writer.along.read) * part / writer.scale.for_adapter(i);
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

/// The biases that an adapter would have to strengthen, but cannot.
pub fn biases(model: &Model, edit: Edit<'_>) -> Vec<String> {
    let bias = |link: &Link| match link {
        Link::Bias(name) => Some(name.clone()),
        _ => None,
    };
    writers(model, edit).flat_map(|(_, writer)| writer.links.iter().filter_map(bias)).collect()
}

fn n_bytes(model: &Model, edit: Edit<'_>) -> u64 {
    writers(model, edit).map(|(tensor, _)| tensor.info.n_bytes()).sum()
}

/// A matrix to be strengthened.
struct AdapterTarget {
    along: Along,
    matrices: Vec<Range<u64>>,
    scale: Scale,
}

impl AdapterTarget {
    fn new(
        model: &Model,
        (tensor, writer): (Tensor<'_>, &Writer),
        unit: &[f32],
    ) -> Result<AdapterTarget> {
        let along = along(model, writer, unit)?;
        let matrices = matrices(tensor, along.read.len())?;
        let scale = Scale::of(model, writer)?;
        // build_ffn aborts the process: GGML_ASSERT(!down_s || .. != NVFP4 || !has_lora(down)).
        if tensor.info.ty == GgmlType::NVFP4 && scale.is_there() && scale.is_of_adapter() {
            return Err(Error::NoAdapter { name: tensor.info.name.clone() });
        }
        Ok(AdapterTarget { along, matrices, scale })
    }
}
