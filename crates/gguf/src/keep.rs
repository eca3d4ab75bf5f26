//! Keeps a patch for good. One rename decides it: `MODEL.aird-undo` of the first file becomes
//! `MODEL.aird-undo.kept`. From then on there is nothing to undo, however many shards still have
//! their journals: a run that finds a `.kept` finishes what was cut off.
//!
//! A step that a file's header had no room for was recorded only in the journal: it goes into
//! `MODEL.aird-history.json`, a list of steps as `aird.history` holds them.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use crate::disk::{Disk, exists};
use crate::error::{Result, io_error};
use crate::journal::{Journal, beside, journal_path, part_path};
use crate::output::write_file;

/// Where the journal of the first file goes once the patch is kept.
pub(crate) fn kept_path(model: &Path) -> PathBuf {
    beside(model, ".aird-undo.kept")
}

/// Where [`Pending::forget`](crate::Pending::forget) records a step that the file's own history had
/// no room for: `MODEL.aird-history.json`, a JSON list, beside the file that symbolic links lead
/// to.
#[must_use]
pub fn history_path(model: &Path) -> PathBuf {
    beside(model, ".aird-history.json")
}

/// Keeps the patch of `files`. Each must have its journal and hold the whole patch, synced: from
/// here on it cannot be undone.
pub(crate) fn keep(disk: &dyn Disk, files: &[PathBuf]) -> Result<()> {
    let Some(first) = files.first() else { return Ok(()) };
    let journal = journal_path(first);
    let renamed = disk.rename(&journal, &kept_path(first));
    renamed.map_err(io_error("cannot rename", &journal))?;
    disk.sync_folder(first).map_err(io_error("cannot write beside", first))?;
    finish(disk, files).map(drop)
}

/// True if a [`keep`] of `model` was cut off.
pub(crate) fn is_kept(model: &Path) -> Result<bool> {
    exists(&kept_path(model))
}

/// Finishes a [`keep`] of `files` that was cut off; false if there was none.
pub(crate) fn finish(disk: &dyn Disk, files: &[PathBuf]) -> Result<bool> {
    let mut kept = None;
    for file in files {
        if is_kept(file)? {
            kept = Some(file);
        }
    }
    let Some(kept) = kept else { return Ok(false) };
    record_step(kept)?;
    for file in files {
        for path in [journal_path(file), part_path(file)] {
            remove(disk, &path)?;
        }
    }
    for file in files {
        disk.sync_folder(file).map_err(io_error("cannot write beside", file))?;
    }
    // Last, and after the other removals are on the disk: as long as it is there no journal counts,
    // and a power loss that brought one back would let an undo run.
    remove(disk, &kept_path(kept))?;
    disk.sync_folder(kept).map_err(io_error("cannot write beside", kept))?;
    Ok(true)
}

/// Removes a file if it is there.
fn remove(disk: &dyn Disk, path: &Path) -> Result<()> {
    if exists(path)? {
        disk.remove(path).map_err(io_error("cannot remove", path))?;
    }
    Ok(())
}

/// Adds the step to [`history_path`], unless the file's own history has it.
fn record_step(model: &Path) -> Result<()> {
    let index = Journal::open(kept_path(model))?.index;
    let in_history = index.stretches.iter().any(|stretch| stretch.tensor.is_none());
    let Some(step) = index.step.filter(|_| !in_history) else { return Ok(()) };
    let path = history_path(model);
    let bytes = match std::fs::read(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound => b"[]".to_vec(),
        read => read.map_err(io_error("cannot read", &path))?,
    };
    let mut steps = serde_json::from_slice::<Vec<Json>>(&bytes)
        .map_err(|e| io::Error::new(ErrorKind::InvalidData, e))
        .map_err(io_error("cannot add to", &path))?;
    // A run that was cut off after this write recorded it already.
    if steps.last() == Some(&step) {
        return Ok(());
    }
    steps.push(step);
    let text = serde_json::to_string_pretty(&steps).unwrap_or_default() + "\n";
    write_file(&path, text.as_bytes())
}
