//! The undo journal: what a patch will overwrite in one file, kept beside that file.
//!
//! ```text
//! "AIRDUNDO" | version: u32
//! old bytes of each stretch, one after another
//! index: JSON                       (Index)
//! bytes of the index: u64 | sha256 of everything but the old bytes: 32 bytes
//! ```
//! The index holds a sha256 of each stretch, so that the last sum covers every byte. Numbers are
//! little-endian.
//!
//! A journal is written as `MODEL.aird-undo.part`, synced, and renamed to `MODEL.aird-undo`; only
//! then is the model touched. So a `.part`, whole or torn, says that the model was not touched,
//! and a damaged journal under its own name was damaged later: it is refused, never removed.
//!
//! Of a name that leaves no room for these endings the beginning is kept, with a hash of all of it.

use std::iter::once;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use super::checksum::hex;
use super::disk::{Disk, Handle, exists};
use super::error::{Error, Result, io_error};

const MAGIC: &[u8; 8] = b"AIRDUNDO";
const VERSION: u32 = 1;
const PREAMBLE_BYTES: u64 = 8 + 4;
const SUM_BYTES: u64 = 32;
const TRAILER_BYTES: u64 = 8 + SUM_BYTES;
/// How much around each stretch tells one model from another.
const AROUND_BYTES: u64 = 4096;
/// `NAME_MAX` of Linux's file systems, and as much as those of macOS and Windows take.
const MAX_NAME_BYTES: usize = 255;
/// Bytes that are kept of a longer name: few enough that a temp file's name fits as well.
const CUT_NAME_BYTES: usize = 180;
/// Tells apart two long names that begin alike.
const HASH_CHARS: usize = 12;

/// How the name of a journal ends.
pub(super) const JOURNAL_SUFFIX: &str = ".aird-undo";

/// Where the journal of the file at `model` is: beside the file that its links lead to. A name that
/// would be too long for a file is cut.
pub fn journal_path(model: &Path) -> PathBuf {
    beside(model, JOURNAL_SUFFIX)
}

/// The journal until it is whole.
pub(super) fn part_path(model: &Path) -> PathBuf {
    beside(model, ".aird-undo.part")
}

/// The path of `model`, which all links lead to, with `suffix`; of a long name the beginning, and
/// a hash of all of it.
pub(super) fn beside(model: &Path, suffix: &str) -> PathBuf {
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

/// Bytes of a file that a patch changes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Stretch {
    /// None for the header.
    pub tensor: Option<String>,
    /// Offset in the file.
    pub start: u64,
    pub bytes: u64,
    /// Filled in as the journal is written.
    pub old_sha256: String,
    pub new_sha256: String,
}

impl Stretch {
    /// No overflow: of an index that was checked or made from a model.
    pub fn range(&self) -> Range<u64> {
        self.start..self.start + self.bytes
    }

    /// For messages.
    pub fn name(&self) -> &str {
        self.tensor.as_deref().unwrap_or("the header")
    }
}

/// What a journal says about its file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Index {
    /// Length of the file.
    pub file_bytes: u64,
    /// Length of its header.
    pub header_bytes: u64,
    /// See [`Index::identity_of`].
    pub identity_sha256: String,
    /// The step that is taken back.
    pub step: Option<Json>,
    /// By ascending offset; they do not overlap.
    pub stretches: Vec<Stretch>,
}

impl Index {
    /// sha256 of what the patch leaves alone: lengths, the header, and what lies around each
    /// stretch. It is the same before, after and in the middle of a patch, and another for another
    /// model, even one of the same shape; and it does not read the whole file.
    pub fn identity_of(&self, model: &Handle) -> Result<String> {
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
            for stretch in self.stretches.iter().map(Stretch::range) {
                let start = stretch.start.clamp(window.start, window.end) - window.start;
                let end = stretch.end.clamp(window.start, window.end) - window.start;
                bytes[start as usize..end as usize].fill(0);
            }
            digest.update(&bytes);
        }
        Ok(hex(&digest.finalize()))
    }

    /// Bytes of all stretches; None if they are not as the format asks.
    fn old_bytes(&self) -> Option<u64> {
        let (mut end, mut sum) = (0, 0u64);
        for stretch in &self.stretches {
            if stretch.start < end {
                return None;
            }
            end = stretch.start.checked_add(stretch.bytes)?;
            sum = sum.checked_add(stretch.bytes)?;
        }
        (end <= self.file_bytes && self.header_bytes <= self.file_bytes).then_some(sum)
    }

    /// The index's bytes with what stands behind them.
    fn encode(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        bytes.extend((bytes.len() as u64).to_le_bytes());
        bytes.extend(sum(&preamble(), &bytes));
        bytes
    }
}

fn preamble() -> Vec<u8> {
    [&MAGIC[..], &VERSION.to_le_bytes()].concat()
}

/// Over everything that no stretch's own sum covers.
fn sum(preamble: &[u8], index: &[u8]) -> [u8; SUM_BYTES as usize] {
    Sha256::new().chain_update(preamble).chain_update(index).finalize().into()
}

/// Writes the journal of `model` under its first name, and syncs it. The old bytes' sums are
/// filled in.
pub(super) fn write(disk: &dyn Disk, model: &Handle, index: &mut Index) -> Result<()> {
    let path = part_path(&model.path);
    let failed = || io_error("cannot write", &path);
    // Left by a patch that ended early, for nobody else is at work on this file.
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

/// A journal that is whole, but for the old bytes: they are looked at when they are needed.
#[derive(Debug)]
pub(super) struct Journal {
    pub handle: Handle,
    pub index: Index,
}

impl Journal {
    /// Opens the journal at `path`.
    ///
    /// # Errors
    /// It is damaged, or of a version that is not known.
    pub fn open(path: PathBuf) -> Result<Journal> {
        let handle = Handle::open(path)?;
        let damaged = |what| Error::DamagedJournal { path: handle.path.clone(), what };
        let bytes = handle.bytes()?;
        if bytes < PREAMBLE_BYTES + TRAILER_BYTES {
            return Err(damaged("it is cut off"));
        }
        let first = handle.read(0..PREAMBLE_BYTES)?;
        if first[..MAGIC.len()] != MAGIC[..] {
            return Err(damaged("it does not begin as one"));
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
    pub fn old(&self, i: usize) -> Range<u64> {
        let before = self.index.stretches[..i].iter().map(|s| s.bytes).sum::<u64>();
        let start = PREAMBLE_BYTES + before;
        start..start + self.index.stretches[i].bytes
    }
}
