//! Which tensors quantizing leaves as they are, and why.

use std::fmt;

use super::quantize::{Assignment, Quantizing, wanted};
use crate::gguf::{GgmlType, Model, TensorInfo};
use crate::quant::is_convertible;

/// A tensor that keeps its type and bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stayed {
    /// Name of the tensor, e.g. `blk.0.attn_norm.weight`.
    pub name: String,
    /// Type that it keeps.
    pub ty: GgmlType,
    /// Why it stays.
    pub why: WhyStayed,
}

/// Why a tensor stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WhyStayed {
    /// It has one dimension: a norm, a bias.
    Vector,
    /// It holds integers.
    Integers,
    /// Its name does not end in `weight`.
    NoWeight,
    /// llama.cpp wants it as it is: routers and the like.
    Kept,
    /// It is not a linear layer, and the method is only for those.
    NotLinear,
    /// It is of the type that it would get.
    HasType,
    /// Its rows do not fit this type, and the type that it falls back to is its own.
    DoesNotFit(GgmlType),
}

impl WhyStayed {
    /// True where somebody may have expected the tensor to change.
    pub fn is_unexpected(self) -> bool {
        matches!(self, WhyStayed::Integers | WhyStayed::DoesNotFit(_))
    }
}

impl fmt::Display for WhyStayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WhyStayed::Vector => f.write_str("one dimension"),
            WhyStayed::Integers => f.write_str("holds integers"),
            WhyStayed::NoWeight => f.write_str("not named as a weight"),
            WhyStayed::Kept => f.write_str("llama.cpp keeps its type"),
            WhyStayed::NotLinear => f.write_str("not a linear layer of a block"),
            WhyStayed::HasType => f.write_str("has the type already"),
            WhyStayed::DoesNotFit(ty) => write!(f, "{ty} does not fit its rows"),
        }
    }
}

/// Every tensor of `model` that is not in `assignments`, which were made of `asked`.
pub fn stayed(model: &Model, asked: &Quantizing<'_>, assignments: &[Assignment]) -> Vec<Stayed> {
    let assigned: std::collections::HashSet<&str> =
        assignments.iter().map(|a| a.name.as_str()).collect();
    let others = model.tensors().map(|t| t.info).filter(|i| !assigned.contains(i.name.as_str()));
    let stayed = |info: &TensorInfo| Stayed {
        name: info.name.clone(),
        ty: info.ty,
        why: why(model, info, asked),
    };
    others.map(stayed).collect()
}

fn why(model: &Model, info: &TensorInfo, asked: &Quantizing<'_>) -> WhyStayed {
    if !info.is_matrix() || info.shape.len() < 2 {
        return WhyStayed::Vector;
    }
    if info.ty.is_integer() {
        return WhyStayed::Integers;
    }
    if !info.name.ends_with("weight") {
        return WhyStayed::NoWeight;
    }
    if !is_convertible(info) {
        return WhyStayed::Kept;
    }
    match wanted(model, info, asked) {
        None => WhyStayed::NotLinear,
        Some((wanted, _)) if info.row_bytes_as(wanted).is_none() => WhyStayed::DoesNotFit(wanted),
        Some(_) => WhyStayed::HasType,
    }
}
