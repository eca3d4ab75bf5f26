//! `general.file_type`: which type most matrices of a file have.

use crate::edit::KvEdit;
use crate::ggml_type::GgmlType;
use crate::value::Value;

const KEY: &str = "general.file_type";

/// The edit that sets `general.file_type` to "mostly `ty`" (`enum llama_ftype` of llama.cpp's
/// `include/llama.h`); None for types that have no number there, such as integers and Q8_K.
#[must_use]
pub fn file_type_edit(ty: GgmlType) -> Option<KvEdit> {
    use GgmlType as T;
    let ftype = match ty {
        T::F32 => 0,
        T::F16 => 1,
        T::Q4_0 => 2,
        T::Q4_1 => 3,
        T::Q8_0 => 7,
        T::Q5_0 => 8,
        T::Q5_1 => 9,
        T::Q2_K => 10,
        T::Q3_K => 12,
        T::Q4_K => 15,
        T::Q5_K => 17,
        T::Q6_K => 18,
        T::IQ2_XXS => 19,
        T::IQ2_XS => 20,
        T::IQ3_XXS => 23,
        T::IQ1_S => 24,
        T::IQ4_NL => 25,
        T::IQ3_S => 26,
        T::IQ2_S => 28,
        T::IQ4_XS => 30,
        T::IQ1_M => 31,
        T::BF16 => 32,
        T::TQ1_0 => 36,
        T::TQ2_0 => 37,
        _ => return None,
    };
    Some(KvEdit::Set(KEY.into(), Value::U32(ftype)))
}
