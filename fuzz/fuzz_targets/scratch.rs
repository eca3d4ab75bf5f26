//! Files for readers that take a path: made for one input, gone after it. Set TMPDIR to a folder in
//! memory.

use std::path::{Path, PathBuf};

// An overflow is a finding only where it panics.
const _: () = assert!(cfg!(debug_assertions), "fuzz with debug assertions, as cargo fuzz does");

/// A file that is gone when this is dropped.
pub struct Scratch(PathBuf);

impl Scratch {
    /// A file that ends in `name`, and is not there yet.
    pub fn new(name: &str) -> Scratch {
        Scratch(std::env::temp_dir().join(format!("aird-fuzz-{}-{name}", std::process::id())))
    }

    /// A file of `bytes`.
    pub fn holding(name: &str, bytes: &[u8]) -> Scratch {
        let scratch = Scratch::new(name);
        std::fs::write(&scratch.0, bytes).expect("TMPDIR can be written");
        scratch
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
