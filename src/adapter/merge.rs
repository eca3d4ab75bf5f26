//! Folds an adapter into a model's weights, tensor by tensor.

use super::error::{Error, Result};
use super::lora::{Adapter, Pair};
use crate::gguf::{
    Ask, BoxError, GgmlType, KvEdit, Model, Replacement, Rewrite, Tensor, file_type_edit,
};
use crate::quant::{decode_finite, encode_rows, first_non_finite, is_convertible, non_finite_at};

/// Which type the matrices of a merged model get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergedType {
    /// F16 for every matrix of a quantized model; a float model keeps its own.
    Auto,
    /// Every tensor keeps its type: touched ones are rounded back into it.
    Keep,
    /// This type for every matrix whose rows fit it.
    Named(GgmlType),
}

/// How one tensor comes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Name of the model's tensor.
    pub name: String,
    /// Type in the model's file.
    pub from: GgmlType,
    /// Type in the merged file.
    pub to: GgmlType,
    /// Whether the adapter changes its values.
    pub touched: bool,
}

/// What merging at `ty` does to each tensor that does not stay as it is.
pub fn outcomes(model: &Model, adapter: &Adapter, ty: MergedType) -> Vec<Outcome> {
    let quantized = model.tensors().any(|t| t.info.ty.is_quantized());
    let wanted = match ty {
        MergedType::Named(ty) => Some(ty),
        MergedType::Auto if quantized => Some(GgmlType::F16),
        MergedType::Auto | MergedType::Keep => None,
    };
    let outcome = |tensor: Tensor<'_>| {
        let info = tensor.info;
        let touched = adapter.pairs.contains_key(&info.name);
        let fits = |ty: &GgmlType| is_convertible(info) && info.row_bytes_as(*ty).is_some();
        // Rows that are not whole blocks of a quantized type: the finest type without blocks.
        let to = match wanted {
            Some(ty) if fits(&ty) => ty,
            Some(_) if is_convertible(info) => GgmlType::F16,
            _ => info.ty,
        };
        let outcome = Outcome { name: info.name.clone(), from: info.ty, to, touched };
        (touched || to != info.ty).then_some(outcome)
    };
    model.tensors().filter_map(outcome).collect()
}

/// Registers the merge in `rewrite`: new rows for every tensor in `outcomes`, and the keys that
/// name the file's type.
///
/// # Errors
/// A tensor's rows do not fit its type.
pub fn merge<'m>(
    rewrite: &mut Rewrite<'m>,
    model: &'m Model,
    adapter: &'m Adapter,
    outcomes: &[Outcome],
    scale: f64,
) -> Result<()> {
    for outcome in outcomes {
        let Some(tensor) = model.tensor(&outcome.name) else { continue };
        let pair = adapter.pairs.get(&outcome.name);
        let change = pair.map(|pair| (pair, adapter.strength(pair, scale)));
        rewrite.replace(&outcome.name, merged(tensor, change, outcome.to))?;
    }
    for edit in type_edits(outcomes) {
        rewrite.edit(edit);
    }
    Ok(())
}

fn merged<'m>(
    tensor: Tensor<'m>,
    change: Option<(&'m Pair, f64)>,
    ty: GgmlType,
) -> Replacement<'m> {
    let n_cols = tensor.info.n_cols() as usize;
    let mut values = Vec::new();
    let produce = move |rows: std::ops::Range<u64>, out: &mut [u8]| {
        values.resize((rows.end - rows.start) as usize * n_cols, 0.0);
        decode_finite(tensor, rows.clone(), &mut values)?;
        if let Some((pair, strength)) = change {
            pair.add(rows.clone(), strength, &mut values);
        }
        encode_rows(ty, &values, n_cols, None, out)?;
        // A value that is infinite before it is rounded may become finite in a quantized type.
        let index = match non_finite_at(&values) {
            Some(index) => Some(index as u64),
            None => first_non_finite(ty, out, n_cols)?,
        };
        match index {
            None => Ok(()),
            Some(index) => {
                let (name, index) = (tensor.info.name.clone(), rows.start * n_cols as u64 + index);
                Err(BoxError::from(Error::Overflow { name, ty, index }))
            }
        }
    };
    Replacement { ty, ask: Ask::Chunks, produce: Box::new(produce) }
}

/// `general.file_type` follows the matrices' type once most of them have a new one.
fn type_edits(outcomes: &[Outcome]) -> Vec<KvEdit> {
    let named = outcomes.iter().find(|o| o.from != o.to).map(|o| o.to);
    named.and_then(file_type_edit).into_iter().collect()
}
