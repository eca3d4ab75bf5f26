//! A patch that is kept for good. One rename decides it: `MODEL.aird-undo` of the first file
//! becomes `MODEL.aird-undo.kept`. From then on there is nothing to take back, however many shards
//! still have their journals; whoever comes next finishes what was cut off.
//!
//! A step that a file's header had no room for stood in the journal alone: it goes into
//! `MODEL.aird-history.json`, a list of steps as `aird.history` holds them.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::disk::{Disk, exists};
use super::error::{Result, io_error};
use super::journal::{Journal, beside, journal_path, part_path};
use super::output::write_file;

/// Where a journal goes that is not needed any more.
pub(super) fn kept_path(model: &Path) -> PathBuf {
    beside(model, ".aird-undo.kept")
}

/// Where the steps are that a file's own history lacks.
pub fn history_path(model: &Path) -> PathBuf {
    beside(model, ".aird-history.json")
}

/// Keeps what was patched in `files`, each of which has a journal, and which are whole and synced.
pub(super) fn keep(disk: &dyn Disk, files: &[PathBuf]) -> Result<()> {
    let Some(first) = files.first() else { return Ok(()) };
    let journal = journal_path(first);
    let renamed = disk.rename(&journal, &kept_path(first));
    renamed.map_err(io_error("cannot rename", &journal))?;
    disk.sync_folder(first).map_err(io_error("cannot write beside", first))?;
    finish(disk, files).map(drop)
}

/// True if a [`keep`] of `model` was cut off.
pub(super) fn is_kept(model: &Path) -> Result<bool> {
    exists(&kept_path(model))
}

/// Finishes a [`keep`] of `files` that was cut off; false if there was none.
pub(super) fn finish(disk: &dyn Disk, files: &[PathBuf]) -> Result<bool> {
    let mut kept = None;
    for file in files {
        if is_kept(file)? {
            kept = Some(file);
        }
    }
    let Some(kept) = kept else { return Ok(false) };
    tell(kept)?;
    for file in files {
        for path in [journal_path(file), part_path(file)] {
            remove(disk, &path)?;
        }
    }
    for file in files {
        disk.sync_folder(file).map_err(io_error("cannot write beside", file))?;
    }
    // Last: as long as it is there, no journal counts.
    remove(disk, &kept_path(kept))?;
    disk.sync_folder(kept).map_err(io_error("cannot write beside", kept))?;
    Ok(true)
}

fn remove(disk: &dyn Disk, path: &Path) -> Result<()> {
    match exists(path)? {
        true => disk.remove(path).map_err(io_error("cannot remove", path)),
        false => Ok(()),
    }
}

/// Writes the step down that the file's own history lacks.
fn tell(model: &Path) -> Result<()> {
    let index = Journal::open(kept_path(model))?.index;
    let in_history = index.stretches.iter().any(|stretch| stretch.tensor.is_none());
    let Some(step) = index.step.filter(|_| !in_history) else { return Ok(()) };
    let path = history_path(model);
    let bytes = match std::fs::read(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound => b"[]".to_vec(),
        read => read.map_err(io_error("cannot read", &path))?,
    };
    let no_list = |e: serde_json::Error| io::Error::new(ErrorKind::InvalidData, e);
    let steps = serde_json::from_slice::<Vec<Json>>(&bytes).map_err(no_list);
    let mut steps = steps.map_err(io_error("cannot add to", &path))?;
    // Cut off right behind this, it is told already.
    if steps.last() == Some(&step) {
        return Ok(());
    }
    steps.push(step);
    let text = serde_json::to_string_pretty(&steps).unwrap_or_default() + "\n";
    write_file(&path, text.as_bytes())
}
