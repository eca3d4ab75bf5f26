//! Which type a compressed tensor gets.

use super::error::{Error, Result};
use crate::gguf::{GgmlType, TensorInfo};
use crate::llama::{is_encodable, needs_importance};

/// The type that rows of `info` can be written in: `wanted`, else what llama.cpp falls back to
/// (`tensor_type_fallback` of its `src/llama-quant.cpp`), in the end F16.
pub fn fitting(info: &TensorInfo, wanted: GgmlType) -> GgmlType {
    use GgmlType as T;
    if info.row_bytes_as(wanted).is_some() {
        return wanted;
    }
    let smaller_block = match wanted {
        T::IQ1_S
        | T::IQ1_M
        | T::IQ2_XXS
        | T::IQ2_XS
        | T::IQ2_S
        | T::IQ3_XXS
        | T::IQ3_S
        | T::IQ4_XS => T::IQ4_NL,
        T::Q2_K | T::Q3_K | T::TQ1_0 | T::TQ2_0 => T::Q4_0,
        T::Q4_K => T::Q5_0,
        T::Q5_K => T::Q5_1,
        T::Q6_K => T::Q8_0,
        _ => T::F16,
    };
    if info.row_bytes_as(smaller_block).is_some() { smaller_block } else { T::F16 }
}

/// Checks that ggml can write the type, with or without statistics.
///
/// # Errors
/// ggml cannot write it, or only with statistics.
pub(super) fn check_type(ty: GgmlType, has_importance: bool) -> Result<()> {
    if !is_encodable(ty) {
        return Err(Error::NotEncodable { ty });
    }
    match needs_importance(ty) && !has_importance {
        true => Err(Error::NeedsStats { ty }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_fall_back_as_in_llama_cpp() {
        let info = |n_cols: u64| TensorInfo {
            name: "blk.0.ffn_down.weight".into(),
            shape: vec![n_cols, 64],
            ty: GgmlType::F16,
            offset: 0,
        };
        assert_eq!(fitting(&info(512), GgmlType::Q4_K), GgmlType::Q4_K);
        assert_eq!(fitting(&info(576), GgmlType::Q4_K), GgmlType::Q5_0);
        assert_eq!(fitting(&info(576), GgmlType::Q6_K), GgmlType::Q8_0);
        assert_eq!(fitting(&info(576), GgmlType::IQ4_XS), GgmlType::IQ4_NL);
        assert_eq!(fitting(&info(40), GgmlType::Q4_K), GgmlType::F16);
        assert_eq!(fitting(&info(40), GgmlType::Q8_0), GgmlType::F16);
    }
}
