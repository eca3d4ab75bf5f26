//! Sets `AIRD_BUILD`, a digest of the sources: results that are kept from one run to the next are
//! not taken over by a program that would compute something else.

#[path = "build/digest.rs"]
mod digest;

use std::path::Path;

/// What decides about results. `crates` is a folder in the repository only: from a registry that
/// crate comes with the version that `Cargo.lock` names. Its tests and documents change no result.
const SOURCES: [&str; 7] = [
    "src",
    "crates/gguf/src",
    "crates/gguf/Cargo.toml",
    "Cargo.toml",
    "Cargo.lock",
    ".cargo/config.toml",
    "vendor/llama.cpp",
];

fn main() -> std::io::Result<()> {
    for source in SOURCES.iter().filter(|source| Path::new(source).exists()) {
        println!("cargo:rerun-if-changed={source}");
    }
    let root = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo:rustc-env=AIRD_BUILD={}", digest::of(Path::new(&root), &SOURCES)?);
    Ok(())
}
