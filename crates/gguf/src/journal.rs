//! The undo journal: what a patch will overwrite in one file, kept beside that file.
//!
//! ```text
//! "AIRDUNDO" | version: u32
//! old bytes of each stretch, one after another
//! index: JSON                       (Index)
//! bytes of the index: u64 | sha256 of everything but the old bytes: 32 bytes
//! ```
//! The index holds a sha256 of each stretch's old bytes, so that the last sum covers every byte of
//! the journal. It is at the end because those sums are known only then. Numbers are little-endian.
//!
//! A journal is written as `MODEL.aird-undo.part`, synced, and renamed to `MODEL.aird-undo`; only
//! then is the model written. So a `.part`, complete or not, means that the model was not written,
//! and a damaged journal under its final name was damaged later: it is refused, never removed.
//!
//! A model's name that leaves no room for these endings is cut, and a hash of all of it is added.

use std::iter::once;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use crate::checksum::hex;
use crate::disk::{Disk, Handle, exists};
use crate::error::{Error, Result, io_error};

const MAGIC: &[u8; 8] = b"AIRDUNDO";
const VERSION: u32 = 1;
const PREAMBLE_BYTES: u64 = 8 + 4;
const SUM_BYTES: u64 = 32;
const TRAILER_BYTES: u64 = 8 + SUM_BYTES;
/// Bytes on each side of a stretch that identify the model: see [`Index::identity_of`].
const AROUND_BYTES: u64 = 4096;
/// `NAME_MAX` of Linux's file systems; macOS and Windows allow 255 as well.
const MAX_NAME_BYTES: usize = 255;
/// Bytes that are kept of a longer name: few enough that the name of a temp file beside it fits.
const CUT_NAME_BYTES: usize = 180;
/// Digits of the hash that keeps two long names apart whose beginnings are equal.
const HASH_CHARS: usize = 12;

/// The ending of a journal's name, after the model's whole name.
pub(crate) const JOURNAL_SUFFIX: &str = ".aird-undo";

/// Where the undo journal of the file at `model` is or would be: `MODEL.aird-undo`, beside the file
/// that its symbolic links lead to. A name that would be too long is cut.
#[must_use]
pub fn journal_path(model: &Path) -> PathBuf {
    beside(model, JOURNAL_SUFFIX)
}

/// Where a journal is while it is written.
pub(crate) fn part_path(model: &Path) -> PathBuf {
    beside(model, ".aird-undo.part")
}

/// The path that all symbolic links of `model` lead to, with `suffix` added; a name that would be
/// too long is cut, and a hash of all of it added.
pub(crate) fn beside(model: &Path, suffix: &str) -> PathBuf {
    let model = model.canonicalize().unwrap_or_else(|_| model.to_owned());
    let name = model.file_name().unwrap_or_default();
    if name.len() + suffix.len() <= MAX_NAME_BYTES {
        let mut path = model.into_os_string();
        path.push(suffix);
        return path.into();
    }
    let hash = &hex(&Sha256::digest(name.as_encoded_bytes()))[..HASH_CHARS];
    let mut stem = name.to_string_lossy().into_owned();
    while stem.len() > CUT_NAME_BYTES {
        stem.pop();
    }
    model.with_file_name(format!("{stem}-{hash}{suffix}"))
}

/// Adjacent bytes of a file that a patch changes: a tensor, or a part of the header.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Stretch {
    /// The tensor's name; None for the header.
    pub(crate) tensor: Option<String>,
    /// Offset in the file.
    pub(crate) start: u64,
    /// How many bytes there are.
    pub(crate) bytes: u64,
    /// Of the bytes before the patch; empty until [`write`] has copied them.
    pub(crate) old_sha256: String,
    /// Of the bytes after the patch.
    pub(crate) new_sha256: String,
}

impl Stretch {
    /// Where the bytes are in the file. No overflow: an index is either made from a model or
    /// checked by [`Index::old_bytes`].
    pub(crate) fn range(&self) -> Range<u64> {
        self.start..self.start + self.bytes
    }

    /// The tensor's name, or "the header", for messages.
    pub(crate) fn name(&self) -> &str {
        self.tensor.as_deref().unwrap_or("the header")
    }
}

/// The journal's table of contents, and what identifies its file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Index {
    /// Length of the file; a patch does not change it.
    pub(crate) file_bytes: u64,
    /// Length of its header with padding; a patch does not change it.
    pub(crate) header_bytes: u64,
    /// See [`Index::identity_of`].
    pub(crate) identity_sha256: String,
    /// The patch as a step of the history, as JSON, whether the header had room for it or not.
    pub(crate) step: Option<Json>,
    /// By ascending offset; they do not overlap.
    pub(crate) stretches: Vec<Stretch>,
}

impl Index {
    /// sha256 of bytes that the patch does not change: the lengths, the header, and
    /// [`AROUND_BYTES`] on each side of each stretch. It is equal before, during and after a patch,
    /// and differs for another model, even one of the same shape. It does not read the whole file.
    pub(crate) fn identity_of(&self, model: &Handle) -> Result<String> {
        let mut digest = Sha256::new();
        digest.update(self.file_bytes.to_le_bytes());
        digest.update(self.header_bytes.to_le_bytes());
        let around = self.stretches.iter().flat_map(|stretch| {
            let Range { start, end } = stretch.range();
            let after = end.saturating_add(AROUND_BYTES).min(self.file_bytes);
            [start.saturating_sub(AROUND_BYTES)..start, end..after]
        });
        for window in once(0..self.header_bytes).chain(around) {
            let mut bytes = model.read(window.clone())?;
            // A window may reach into another stretch: those bytes change, so they count as zeros.
            for stretch in self.stretches.iter().map(Stretch::range) {
                let start = stretch.start.clamp(window.start, window.end) - window.start;
                let end = stretch.end.clamp(window.start, window.end) - window.start;
                bytes[start as usize..end as usize].fill(0);
            }
            digest.update(&bytes);
        }
        Ok(hex(&digest.finalize()))
    }

    /// Bytes of all stretches; None if these overlap, are not in order, or lie outside the file.
    fn old_bytes(&self) -> Option<u64> {
        let mut end = 0;
        let mut sum = 0u64;
        for stretch in &self.stretches {
            if stretch.start < end {
                return None;
            }
            end = stretch.start.checked_add(stretch.bytes)?;
            sum = sum.checked_add(stretch.bytes)?;
        }
        (end <= self.file_bytes && self.header_bytes <= self.file_bytes).then_some(sum)
    }

    /// The index's bytes with its length and the sum after them.
    fn encode(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        bytes.extend((bytes.len() as u64).to_le_bytes());
        bytes.extend(sum(&preamble(), &bytes));
        bytes
    }
}

/// The first bytes of a journal: magic and version.
fn preamble() -> Vec<u8> {
    [&MAGIC[..], &VERSION.to_le_bytes()].concat()
}

/// sha256 of everything in a journal but the old bytes, whose sums are in the index.
fn sum(preamble: &[u8], index: &[u8]) -> [u8; SUM_BYTES as usize] {
    Sha256::new().chain_update(preamble).chain_update(index).finalize().into()
}

/// Writes the journal of `model` as [`part_path`] and syncs it; fills in the sums of the old bytes.
/// The caller renames it, once the journals of all shards are written.
pub(crate) fn write(disk: &dyn Disk, model: &Handle, index: &mut Index) -> Result<()> {
    let path = part_path(&model.path);
    let failed = || io_error("cannot write", &path);
    // Left by a patch that was cut off: the lock on the model excludes a second one at work.
    if exists(&path)? {
        disk.remove(&path).map_err(failed())?;
    }
    let journal = disk.create(&path, &model.metadata()?).map_err(failed())?;
    disk.write_at(&journal, &preamble(), 0).map_err(failed())?;
    let mut at = PREAMBLE_BYTES;
    for stretch in &mut index.stretches {
        let mut digest = Sha256::new();
        model.each_chunk(stretch.range(), |_, bytes| {
            digest.update(bytes);
            disk.write_at(&journal, bytes, at).map_err(failed())?;
            at += bytes.len() as u64;
            Ok(())
        })?;
        stretch.old_sha256 = hex(&digest.finalize());
    }
    disk.write_at(&journal, &index.encode(), at).map_err(failed())?;
    disk.sync(&journal).map_err(failed())
}

/// An open journal whose index is checked. Its old bytes are checked when they are needed, since
/// that reads all of them.
#[derive(Debug)]
pub(crate) struct Journal {
    pub(crate) handle: Handle,
    pub(crate) index: Index,
}

impl Journal {
    /// Opens the journal at `path`.
    ///
    /// # Errors
    /// It cannot be read, is damaged, or is of an unknown version.
    pub(crate) fn open(path: PathBuf) -> Result<Journal> {
        let handle = Handle::open(path)?;
        let damaged = |what| Error::DamagedJournal { path: handle.path.clone(), what };
        let bytes = handle.bytes()?;
        if bytes < PREAMBLE_BYTES + TRAILER_BYTES {
            return Err(damaged("it is cut off"));
        }
        let first = handle.read(0..PREAMBLE_BYTES)?;
        if first[..MAGIC.len()] != MAGIC[..] {
            return Err(damaged("it does not begin with AIRDUNDO"));
        }
        if first != preamble() {
            return Err(Error::JournalVersion { path: handle.path.clone() });
        }
        let trailer = handle.read(bytes - TRAILER_BYTES..bytes)?;
        let (index_bytes, expected) = trailer.split_at(8);
        let index_bytes = u64::from_le_bytes(index_bytes.try_into().unwrap_or_default());
        let end = bytes - SUM_BYTES;
        let start = (end - 8).checked_sub(index_bytes).filter(|&start| start >= PREAMBLE_BYTES);
        let text = handle.read(start.ok_or_else(|| damaged("it is cut off"))?..end)?;
        if sum(&first, &text)[..] != *expected {
            return Err(damaged("its index does not have its sha256"));
        }
        let parsed = serde_json::from_slice(&text[..text.len() - 8]).ok();
        let index: Index = parsed.ok_or_else(|| damaged("its index cannot be read"))?;
        if index.old_bytes().and_then(|n| n.checked_add(PREAMBLE_BYTES)) != start {
            return Err(damaged("its length is not what its index says"));
        }
        Ok(Journal { handle, index })
    }

    /// Where the old bytes of stretch `i` are in the journal.
    pub(crate) fn old(&self, i: usize) -> Range<u64> {
        let before = self.index.stretches[..i].iter().map(|s| s.bytes).sum::<u64>();
        let start = PREAMBLE_BYTES + before;
        start..start + self.index.stretches[i].bytes
    }
}
