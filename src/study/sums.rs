//! sha256 of files, remembered while a file's size and time stay the same: models are large.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::{Result, disk};
use crate::gguf::{self, ShardName, hex, write_file};

/// Bytes read at once.
const CHUNK_BYTES: usize = 4 << 20;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Known {
    bytes: u64,
    /// Time of the last change, nanoseconds since 1970.
    changed: u64,
    sha256: String,
}

/// sha256 of files, kept in a separate file between runs.
#[derive(Debug, Default)]
pub struct Sums {
    memory: Option<PathBuf>,
    known: BTreeMap<String, Known>,
    interrupt: Arc<AtomicBool>,
}

/// A file's size and sum.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sum {
    pub bytes: u64,
    pub sha256: String,
}

impl Sums {
    /// The sums in the file `memory`; a file that is not one of aird's holds none. `interrupt` ends
    /// a long read.
    pub fn remembered(memory: &Path, interrupt: Arc<AtomicBool>) -> Sums {
        let text = std::fs::read_to_string(memory).unwrap_or_default();
        let known = serde_json::from_str(&text).unwrap_or_default();
        Sums { memory: Some(memory.into()), known, interrupt }
    }

    /// Starts without remembered sums.
    pub fn fresh(interrupt: Arc<AtomicBool>) -> Sums {
        Sums { interrupt, ..Sums::default() }
    }

    /// Writes the known sums to the file.
    ///
    /// # Errors
    /// The disk's.
    pub fn remember(&self) -> Result<()> {
        if let Some(memory) = &self.memory {
            let json = serde_json::to_string(&self.known).unwrap_or_default();
            write_file(memory, json.as_bytes())?;
        }
        Ok(())
    }

    /// sha256 of a file, of all shards of a split model, or of all files in a folder; None if it
    /// does not exist.
    ///
    /// # Errors
    /// It cannot be read, or an interrupt.
    pub fn input(&mut self, path: &Path) -> Result<Option<String>> {
        if path.is_dir() {
            let mut digest = Sha256::new();
            for file in files_in(path)? {
                let name = file.strip_prefix(path).unwrap_or(&file).to_string_lossy().into_owned();
                let sum = self.file(&file)?.map(|sum| sum.sha256).unwrap_or_default();
                digest.update(format!("{sum}  {name}\n"));
            }
            return Ok(Some(hex(&digest.finalize())));
        }
        if let Some(shard) = ShardName::parse(path) {
            let mut digest = Sha256::new();
            for i in 0..shard.count {
                let Some(sum) = self.file(&shard.path(i))? else { return Ok(None) };
                digest.update(sum.sha256);
            }
            return Ok(Some(hex(&digest.finalize())));
        }
        Ok(self.file(path)?.map(|sum| sum.sha256))
    }

    /// The size and sum of a file; None if it does not exist.
    ///
    /// # Errors
    /// It cannot be read, or an interrupt.
    pub(super) fn file(&mut self, path: &Path) -> Result<Option<Sum>> {
        let Some(metadata) = path.metadata().ok().filter(Metadata::is_file) else {
            return Ok(None);
        };
        let (bytes, changed) = (metadata.len(), changed(&metadata));
        let name = std::path::absolute(path).unwrap_or_else(|_| path.into());
        let name = name.to_string_lossy().into_owned();
        if let Some(known) = self.known.get(&name)
            && (known.bytes, known.changed) == (bytes, changed)
        {
            return Ok(Some(Sum { bytes, sha256: known.sha256.clone() }));
        }
        let sha256 = self.read(path)?;
        self.known.insert(name, Known { bytes, changed, sha256: sha256.clone() });
        Ok(Some(Sum { bytes, sha256 }))
    }

    fn read(&self, path: &Path) -> Result<String> {
        let mut file = File::open(path).map_err(disk(path, "open"))?;
        let (mut digest, mut chunk) = (Sha256::new(), vec![0; CHUNK_BYTES]);
        loop {
            if self.interrupt.load(Ordering::Relaxed) {
                return Err(gguf::Error::Interrupted.into());
            }
            match file.read(&mut chunk).map_err(disk(path, "read"))? {
                0 => return Ok(hex(&digest.finalize())),
                n => digest.update(&chunk[..n]),
            }
        }
    }
}

fn changed(metadata: &Metadata) -> u64 {
    let since = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |time| time.as_nanos() as u64)
}

/// All files below `folder`, in the order of their names.
fn files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let entries = std::fs::read_dir(folder).map_err(disk(folder, "read"))?;
    for entry in entries {
        let path = entry.map_err(disk(folder, "read"))?.path();
        match path.is_dir() {
            true => files.extend(files_in(&path)?),
            false => files.push(path),
        }
    }
    files.sort();
    Ok(files)
}
