//! Names that ggml gives to nodes and to operations.

use std::ffi::CStr;

use llama_cpp_sys_2 as sys;

/// ggml's name of an operation, e.g. `MUL_MAT`.
pub(super) fn op_name(op: u32) -> String {
    // SAFETY: a static string for every operation that ggml has.
    unsafe { CStr::from_ptr(sys::ggml_op_name(op)) }.to_string_lossy().into_owned()
}

/// A node's name, as llama.cpp or ggml set it.
pub(in crate::llama) fn name_of(node: &sys::ggml_tensor) -> String {
    // SAFETY: ggml keeps names NUL-terminated in a fixed array.
    unsafe { CStr::from_ptr(node.name.as_ptr()) }.to_string_lossy().into_owned()
}

/// A node's own name: the scheduler names copies between devices e.g. `CUDA0#name#0`.
pub(in crate::llama) fn plain_name(name: &str) -> &str {
    match name.split('#').collect::<Vec<_>>()[..] {
        [_, name, _] => name,
        _ => name,
    }
}
