//! A digest of files, by their names and bytes: the same on every machine.

use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Letters of the digest that are kept.
const LETTERS: usize = 16;

/// The digest of `sources`, files and folders in `root`; those that are not there are left out.
pub(crate) fn of(root: &Path, sources: &[&str]) -> io::Result<String> {
    let mut files = Vec::new();
    for source in sources {
        collect(&root.join(source), &mut files)?;
    }
    let mut named: Vec<(String, PathBuf)> = files
        .into_iter()
        .map(|file| {
            let name = file.strip_prefix(root).unwrap_or(&file).to_string_lossy();
            (name.replace('\\', "/"), file)
        })
        .collect();
    named.sort();
    let mut digest = Sha256::new();
    for (name, file) in named {
        // With `core.autocrlf` git checks lines out with \r\n.
        let bytes: Vec<u8> = std::fs::read(file)?.into_iter().filter(|b| *b != b'\r').collect();
        digest.update((name.len() as u64).to_le_bytes());
        digest.update(name);
        digest.update((bytes.len() as u64).to_le_bytes());
        digest.update(bytes);
    }
    let hex: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(hex[..LETTERS].to_owned())
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if path.is_dir() {
        for entry in std::fs::read_dir(path)? {
            collect(&entry?.path(), files)?;
        }
    } else if path.is_file() {
        files.push(path.to_owned());
    }
    Ok(())
}
