//! The build for newer CPUs that may lie beside this program, and does the work where the CPU can.
//!
//! A build that runs on any x86-64 CPU reads prompts several times slower than one with AVX2 (see
//! BENCHMARKS.md). llama.cpp's own answer is a library for each kind of CPU (`GGML_BACKEND_DL`).
//! aird would be a folder of libraries then, and could not call ggml's codecs directly. So releases
//! hold two programs, and the one that runs anywhere becomes the other where it can.

use std::path::{Path, PathBuf};

/// The file beside `aird`. It names the version, so that one of an older release is not taken.
const NAME: &str = concat!("aird-", env!("CARGO_PKG_VERSION"), "-v3");
/// Set to anything, it keeps this program: to compare the two.
const KEEP: &str = "AIRD_BASELINE";
/// A build with AVX2 is the faster one itself.
const IS_BASELINE: bool = cfg!(all(target_arch = "x86_64", not(target_feature = "avx2")));

/// True if this CPU has all that x86-64-v3 names.
#[cfg(target_arch = "x86_64")]
fn is_v3() -> bool {
    use std::arch::is_x86_feature_detected as has;
    let has_vectors = has!("avx") && has!("avx2") && has!("fma") && has!("f16c");
    has_vectors && has!("bmi1") && has!("bmi2") && has!("lzcnt") && has!("movbe")
}

#[cfg(not(target_arch = "x86_64"))]
fn is_v3() -> bool {
    false
}

/// The faster build beside `program`, if there is one and it is not `program` itself.
fn beside(program: &Path) -> Option<PathBuf> {
    let path = program.with_file_name(NAME);
    (path != program && path.is_file()).then_some(path)
}

#[cfg(unix)]
fn become_program(path: &Path) {
    use std::os::unix::process::CommandExt;
    let (mut arguments, mut command) = (std::env::args_os(), std::process::Command::new(path));
    // Help texts go on to call it aird.
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    // It returns only if that program could not be started: this one does the work then.
    let _ = command.args(arguments).exec();
}

#[cfg(not(unix))]
fn become_program(_: &Path) {}

/// Becomes the faster build beside this program, if there is one and this CPU can run it.
pub(super) fn take_over() {
    if !IS_BASELINE || !is_v3() || std::env::var_os(KEEP).is_some() {
        return;
    }
    if let Some(path) = std::env::current_exe().ok().and_then(|program| beside(&program)) {
        become_program(&path);
    }
}

#[cfg(test)]
mod tests {
    use super::{NAME, beside};

    #[test]
    fn only_another_build_of_this_version_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("aird");
        let write = |name: &str| std::fs::write(folder.path().join(name), "").unwrap();
        write("aird");
        write("aird-0.0.1-v3");
        assert_eq!(beside(&program), None);
        write(NAME);
        assert_eq!(beside(&program), Some(folder.path().join(NAME)));
        assert_eq!(beside(&folder.path().join(NAME)), None, "it would start itself for ever");
    }
}
