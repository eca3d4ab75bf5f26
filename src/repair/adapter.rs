//! The same edit as a rank-1 LoRA adapter, which llama.cpp adds at run time with no rounding at
//! all: `A = u^T W`, `B = alpha u`.

use super::edit::{Edit, along, half_of, matrices};
use super::error::Result;
use crate::gguf::{Builder, GgmlType, Model};
use crate::quant::decoded;

/// An adapter that does to `model` what [`super::edit`] does; biases apart, which no adapter
/// reaches. Its scale is the strength: 1 is `edit.alpha`.
///
/// # Errors
/// A matrix's rows are no residual channels, or a norm is missing.
pub fn adapter(model: &Model, edit: Edit<'_>) -> Result<Builder> {
    let mut file = Builder::new();
    file.kv("general.type", "adapter")
        .kv("general.architecture", model.architecture())
        .kv("adapter.type", "lora")
        .kv("adapter.lora.alpha", 1.0f32);
    for tensor in model.tensors() {
        let info = tensor.info;
        if !half_of(tensor).is_some_and(|half| edit.halves.contains(&half)) {
            continue;
        }
        let unit = along(model, tensor, edit.unit)?;
        let matrices = matrices(tensor, unit.len())?;
        let n_cols = info.n_cols() as usize;
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for rows in &matrices {
            let weights = decoded(tensor, rows.clone())?;
            let mut g = vec![0f64; n_cols];
            for (row, r) in weights.chunks_exact(n_cols).zip(&unit) {
                g.iter_mut().zip(row).for_each(|(g, w)| *g += f64::from(*r) * f64::from(*w));
            }
            a.extend(g.iter().flat_map(|x| (*x as f32).to_le_bytes()));
            let scaled = unit.iter().map(|r| (edit.alpha * f64::from(*r)) as f32);
            b.extend(scaled.flat_map(|x| x.to_le_bytes()));
        }
        let (n_embd, n) = (unit.len() as u64, matrices.len() as u64);
        let stack = |shape: [u64; 2]| match n {
            1 => shape.to_vec(),
            n => vec![shape[0], shape[1], n],
        };
        let (name, ty) = (&info.name, GgmlType::F32);
        file.tensor(&format!("{name}.lora_a"), &stack([n_cols as u64, 1]), ty, a)?;
        file.tensor(&format!("{name}.lora_b"), &stack([1, n_embd]), ty, b)?;
    }
    Ok(file)
}
