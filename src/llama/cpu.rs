//! The CPU features that llama.cpp's kernels use: the last digits of results depend on them.

use std::ffi::CStr;

use llama_cpp_sys_2 as sys;

/// The features in llama.cpp's format: `CPU : SSE3 = 1 | AVX2 = 1 | ...`. Other devices of the
/// build are included.
pub fn cpu_features() -> String {
    // SAFETY: the function takes nothing and returns a string that lives as long as the program.
    let text = unsafe {
        let text = sys::llama_print_system_info();
        if text.is_null() { c"" } else { CStr::from_ptr(text) }
    };
    text.to_string_lossy().trim().trim_end_matches('|').trim().to_owned()
}

/// True if this CPU has AVX2 and the build does not use it: another build would be faster here.
pub fn is_built_for_less() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx2") && !cpu_features().contains("AVX2 = 1");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
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
