//! What llama.cpp's kernels use of this CPU: results differ by it in their last digits.

use std::ffi::CStr;

use llama_cpp_sys_2 as sys;

/// The features, as llama.cpp prints them: `CPU : SSE3 = 1 | AVX2 = 1 | ...`. Devices that a build
/// has besides are in it as well.
pub fn cpu_features() -> String {
    // SAFETY: the function takes nothing and returns a string that lives as long as the program.
    let text = unsafe {
        let text = sys::llama_print_system_info();
        if text.is_null() { c"" } else { CStr::from_ptr(text) }
    };
    text.to_string_lossy().trim().trim_end_matches('|').trim().to_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_features_of_a_cpu_do_not_change() {
        let features = super::cpu_features();
        assert!(features.contains('='), "{features}");
        assert_eq!(features, super::cpu_features());
    }
}
