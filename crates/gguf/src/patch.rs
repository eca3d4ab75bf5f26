//! The patch: some tensors of a model get new bytes of the same type, in place. What it costs
//! depends on those tensors, not on the model: nothing else is read, hashed or copied.
//!
//! 1. All new bytes are produced into a file without a name; the model can still be read.
//! 2. The bytes that they will overwrite go into a journal beside each file, synced.
//! 3. The journals get their final names, and the folder is synced.
//! 4. The model is written, synced and read back.
//!
//! A crash before the end of 3 leaves the model as it was, one after it leaves whole journals. So
//! [`Pending::undo`] restores the model whenever it stopped.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::checksum::hex;
use crate::copy::write_at;
use crate::disk::{Disk, Handle, Real, exists, folder_of};
use crate::error::{Error, Result, io_error};
use crate::header::Header;
use crate::history::{HISTORY_KEY, Step};
use crate::journal::{self, Index, Stretch, journal_path, part_path};
use crate::keep;
use crate::links::{self, is_same};
use crate::model::{Model, Shard, Tensor};
use crate::rewrite::Replacement;
use crate::undo::{Found, Pending};
use crate::value::Value;
use crate::watch::Watch;

/// New bytes for some tensors of a model, to be written in place. Use a [`Rewrite`](crate::Rewrite)
/// to change types or keys, or to keep the original.
///
/// [`Patch::produce`], then [`Ready::apply`] write it; [`Pending`] undoes it or keeps it for good.
pub struct Patch<'m> {
    model: &'m Model,
    replacements: HashMap<String, Replacement<'m>>,
}

/// A patch whose bytes are all produced; the model is still as it was. If it is dropped, nothing
/// changes. It holds locks on the model's files, but no part of the [`Model`]: drop that before
/// [`Ready::apply`], since its memory map changes with the file.
#[derive(Debug)]
#[must_use = "the model changes only in `apply`"]
pub struct Ready {
    files: Vec<Changing>,
    spool: Spool,
}

/// A file of the model, locked, with the bytes that will change in it.
#[derive(Debug)]
struct Changing {
    model: Handle,
    header_bytes: u64,
    stretches: Vec<New>,
}

/// A stretch whose new bytes are produced.
#[derive(Debug)]
struct New {
    stretch: Stretch,
    /// The offset of the new bytes in the spool.
    spooled: u64,
}

/// What [`Ready::apply`] wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patched {
    /// The files that changed; empty if the new bytes are equal to the old ones.
    pub files: Vec<PathBuf>,
    /// The undo journal of each of `files`, in the same order.
    pub journals: Vec<PathBuf>,
    /// The tensors that changed, in the files' order.
    pub tensors: Vec<String>,
    /// Bytes that were written, those of the header included.
    pub bytes: u64,
    /// Whether the step is in the model's history. If the header had no room for it, it is only in
    /// the journal.
    pub in_history: bool,
}

/// Checks that `model` can be patched, before any work is done.
///
/// # Errors
/// A file or its folder cannot be written; another patch or undo is at work on it
/// ([`Error::Busy`]); it was replaced since it was opened; or the journal of an earlier patch is
/// still there, beside any of its names in its folder ([`Error::JournalExists`]).
pub fn check_patch(model: &Model) -> Result<()> {
    open_all(model).map(drop)
}

impl<'m> Patch<'m> {
    /// A patch that changes nothing yet.
    #[must_use]
    pub fn new(model: &'m Model) -> Patch<'m> {
        Patch { model, replacements: HashMap::new() }
    }

    /// Gives tensor `name` new bytes of the type that it has. A later call for the same tensor
    /// replaces an earlier one.
    ///
    /// # Errors
    /// [`Error::NoTensor`], or [`Error::TypeInPlace`]: the tensor is of another type.
    pub fn replace(&mut self, name: &str, new: Replacement<'m>) -> Result<()> {
        let tensor = self.model.tensor(name);
        let info = tensor.ok_or_else(|| Error::NoTensor { name: name.into() })?.info;
        if info.ty != new.ty {
            return Err(Error::TypeInPlace {
                name: name.into(),
                from: info.ty.name(),
                to: new.ty.name(),
            });
        }
        self.replacements.insert(name.into(), new);
        Ok(())
    }

    /// Calls all producers, and keeps the new bytes in a temporary file on the model's disk. The
    /// caller can then judge what the producers measured, and drop the patch.
    ///
    /// # Errors
    /// See [`check_patch`]; [`Error::Producer`]; [`Error::Interrupted`]; the disk is full or fails.
    pub fn produce(mut self, watch: &dyn Watch) -> Result<Ready> {
        let mut files = open_all(self.model)?;
        let mut spool = Spool::beside(&files[0].model.path)?;
        let new = |name: &String| self.model.tensor(name).map_or(0, |t| t.info.n_bytes());
        watch.stage("making", self.replacements.keys().map(new).sum());
        for tensor in self.model.tensors() {
            let Some(new) = self.replacements.get_mut(&tensor.info.name) else { continue };
            let start = self.model.shards()[tensor.shard].range(tensor.info).start;
            if let Some((spooled, new_sha256)) = spool.fill(tensor, new, watch)? {
                let stretch = Stretch {
                    tensor: Some(tensor.info.name.clone()),
                    start,
                    bytes: tensor.info.n_bytes(),
                    old_sha256: String::new(),
                    new_sha256,
                };
                files[tensor.shard].stretches.push(New { stretch, spooled });
            }
        }
        Ok(Ready { files, spool })
    }
}

/// Opens and locks every file of `model`, and checks that it can be patched.
fn open_all(model: &Model) -> Result<Vec<Changing>> {
    let open = |shard: &Shard| Handle::open_to_change(&shard.path);
    let handles = model.shards().iter().map(open).collect::<Result<Vec<Handle>>>()?;
    handles.iter().try_for_each(|handle| check_folder(&handle.path))?;
    // A patch that was kept for good must not block this one, even if the keeping was cut off.
    let home = |handle: &Handle| links::home(&handle.path);
    keep::finish(&Real, &handles.iter().map(home).collect::<Result<Vec<PathBuf>>>()?)?;
    let changing = handles.into_iter().zip(model.shards());
    changing.map(|(handle, shard)| Changing::new(handle, shard)).collect()
}

/// Checks that files can be made beside `model`: its journal, and the new bytes until they are
/// written.
fn check_folder(model: &Path) -> Result<()> {
    let folder = folder_of(model);
    let metadata = folder.metadata().map_err(io_error("cannot read", folder))?;
    // Its permissions decide, not an attempt: root could write what its owner protected. Outside
    // Unix they mean something else for folders.
    if cfg!(unix) && metadata.permissions().readonly() {
        return Err(Error::ReadOnlyFolder { path: folder.into() });
    }
    // An error if the journal's name is too long for this disk.
    exists(&part_path(model))?;
    Spool::beside(model).map(drop)
}

impl Changing {
    fn new(model: Handle, shard: &Shard) -> Result<Changing> {
        let journal = journal_path(&links::home(&model.path)?);
        if exists(&journal)? {
            return Err(Error::JournalExists { path: model.path, journal });
        }
        let opened = shard.file.metadata().map_err(io_error("cannot read", &shard.path))?;
        if !is_same(&opened, &model.metadata()?) {
            return Err(Error::Replaced { path: model.path });
        }
        Ok(Changing { model, header_bytes: shard.data_offset, stretches: Vec::new() })
    }

    /// The journal's index of what will change, with the sums of the old bytes still missing.
    fn index(&self, step: Option<&Step>) -> Result<Index> {
        let mut index = Index {
            file_bytes: self.model.bytes()?,
            header_bytes: self.header_bytes,
            identity_sha256: String::new(),
            step: step.and_then(|step| serde_json::to_value(step).ok()),
            stretches: self.stretches.iter().map(|new| new.stretch.clone()).collect(),
        };
        index.identity_sha256 = index.identity_of(&self.model)?;
        Ok(index)
    }

    /// Writes and syncs the new bytes. The journal must be on the disk already.
    fn write(&self, disk: &dyn Disk, spool: &Spool) -> Result<()> {
        for New { stretch, spooled } in &self.stretches {
            let range = *spooled..spooled + stretch.bytes;
            self.model.copy_from(disk, &spool.handle, range, stretch.start)?;
        }
        disk.sync(&self.model).map_err(io_error("cannot write", &self.model.path))
    }

    /// Checks that the file now holds the new bytes.
    fn read_back(&self) -> Result<()> {
        for New { stretch, .. } in &self.stretches {
            if self.model.sha256(stretch.range())? != stretch.new_sha256 {
                let path = self.model.path.clone();
                return Err(Error::WrittenWrong { path, what: stretch.name().into() });
            }
        }
        Ok(())
    }
}

impl Ready {
    /// How many names (hard links) the model's files have, the most of any file: 1 for most models.
    /// What changes under one name changes under all of them.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn n_links(&self) -> Result<u64> {
        let n_links = |file: &Changing| Ok(links::n_links(&file.model.metadata()?));
        let counts = self.files.iter().map(n_links).collect::<Result<Vec<u64>>>()?;
        Ok(counts.into_iter().max().unwrap_or(1))
    }

    /// Writes the journals, then the new bytes, and reads them back. Adds `step` to the history if
    /// the header has room for it. `watch` is asked only once, at the beginning: from then on the
    /// work cannot be interrupted, and takes as long as the disk needs for twice the bytes.
    ///
    /// # Errors
    /// Those of the disk. The model is then as it was; or, for [`Error::HalfPatched`] only, its
    /// journal is still there and [`Pending::undo`] restores it.
    pub fn apply(self, step: Option<Step>, watch: &dyn Watch) -> Result<Patched> {
        if watch.interrupted() {
            return Err(Error::Interrupted);
        }
        self.apply_on(&Real, step)
    }

    pub(crate) fn apply_on(mut self, disk: &dyn Disk, step: Option<Step>) -> Result<Patched> {
        let nothing = self.files.iter().all(|file| file.stretches.is_empty());
        let in_history = match &step {
            Some(step) if !nothing => self.record(step)?,
            _ => false,
        };
        self.files.retain(|file| !file.stretches.is_empty());
        if let Err(error) = self.write_journals(disk, step.as_ref()) {
            // No file of the model is written yet. A journal that cannot be removed now does no
            // harm: an undo finds nothing to do, and removes it.
            for model in self.files.iter().map(|file| &file.model.path) {
                let _ = disk.remove(&journal_path(model));
                let _ = disk.remove(&part_path(model));
            }
            return Err(error);
        }
        let patched = self.patched(in_history);
        let written = self.files.iter().try_for_each(|file| file.write(disk, &self.spool));
        let whole = written.and_then(|()| self.files.iter().try_for_each(Changing::read_back));
        match whole {
            Ok(()) => Ok(patched),
            Err(error) => Err(self.take_back(disk, error)),
        }
    }

    /// Adds the header with `step` in it to what will change; false if it has no room.
    fn record(&mut self, step: &Step) -> Result<bool> {
        let file = &mut self.files[0];
        let old = file.model.read(0..file.header_bytes)?;
        let Some(new) = with_step(&old, step).map_err(|e| e.in_file(&file.model.path))? else {
            return Ok(false);
        };
        // Only from the first byte that differs to the last: a header can have megabytes of tokens.
        let differs = |i: &usize| old[*i] != new[*i];
        let first = (0..old.len()).find(differs).unwrap_or(0);
        let end = (0..old.len()).rfind(differs).map_or(first, |last| last + 1);
        let stretch = Stretch {
            tensor: None,
            start: first as u64,
            bytes: (end - first) as u64,
            old_sha256: String::new(),
            new_sha256: hex(&Sha256::digest(&new[first..end])),
        };
        let spooled = self.spool.push(&new[first..end])?;
        file.stretches.insert(0, New { stretch, spooled });
        Ok(true)
    }

    /// Writes and syncs all journals, then gives them their final names, then syncs the folders.
    /// Names come after all bytes: a journal under its final name is always whole. Folders come
    /// before the model is written: until then a power loss may take the names back.
    fn write_journals(&self, disk: &dyn Disk, step: Option<&Step>) -> Result<()> {
        for file in &self.files {
            journal::write(disk, &file.model, &mut file.index(step)?)?;
        }
        for file in &self.files {
            let path = journal_path(&file.model.path);
            let renamed = disk.rename(&part_path(&file.model.path), &path);
            renamed.map_err(io_error("cannot write", &path))?;
            if links::n_links(&file.model.metadata()?) > 1 {
                links::note(&file.model.path);
            }
        }
        for file in &self.files {
            let path = &file.model.path;
            disk.sync_folder(path).map_err(io_error("cannot write beside", path))?;
        }
        Ok(())
    }

    /// Undoes a patch that failed with `error` while the model was written. Returns that error, or
    /// [`Error::HalfPatched`] if the undo failed too.
    fn take_back(self, disk: &dyn Disk, error: Error) -> Error {
        let path = self.files[0].model.path.clone();
        let found = self.files.into_iter().map(|Changing { model, .. }| {
            let home = model.path.clone();
            Found { model, home, orphan: None }
        });
        match Pending::of(found.collect()).and_then(|pending| pending.undo_on(disk)) {
            Ok(()) => error,
            Err(_) => Error::HalfPatched { path, source: Box::new(error) },
        }
    }

    /// What [`Ready::apply`] returns.
    fn patched(&self, in_history: bool) -> Patched {
        let stretches = || self.files.iter().flat_map(|f| &f.stretches).map(|new| &new.stretch);
        Patched {
            files: self.files.iter().map(|f| f.model.path.clone()).collect(),
            journals: self.files.iter().map(|f| journal_path(&f.model.path)).collect(),
            tensors: stretches().filter_map(|s| s.tensor.clone()).collect(),
            bytes: stretches().map(|s| s.bytes).sum(),
            in_history,
        }
    }
}

/// The header `old` with `step` in its history, of the same length; None if it has no room. Room is
/// in the spaces at the end of the history's lines, and in the header's padding.
fn with_step(old: &[u8], step: &Step) -> Result<Option<Vec<u8>>> {
    let (mut header, _) = Header::parse(old)?;
    if let Some(Value::Array(lines)) = header.kv.get(HISTORY_KEY) {
        let trimmed = lines.iter().map(|line| match line {
            Value::String(text) => Value::String(text.trim_ascii_end().to_vec()),
            other => other,
        });
        let trimmed = Value::array(lines.element(), trimmed);
        header.kv.insert(HISTORY_KEY.into(), trimmed);
    }
    let encode = |width| {
        let mut header = header.clone();
        step.edits(width).iter().try_for_each(|edit| edit.apply(&mut header.kv))?;
        Ok(header.encode())
    };
    let tight = encode(0)?;
    match old.len().checked_sub(tight.len()) {
        None => Ok(None),
        // Both lengths are multiples of the alignment, so a line that is longer by their difference
        // makes them equal.
        Some(room) => encode(step.width() + room as u64).map(Some),
    }
}

/// New bytes until they are written, in a file without a name, which disappears with the process.
/// It is on the model's disk, so that memory does not grow with the patch.
#[derive(Debug)]
struct Spool {
    handle: Handle,
    bytes: u64,
}

impl Spool {
    fn beside(model: &Path) -> Result<Spool> {
        let folder = folder_of(model);
        let file = tempfile::tempfile_in(folder).map_err(|e| match e.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                Error::ReadOnlyFolder { path: folder.into() }
            }
            _ => io_error("cannot write in", folder)(e),
        })?;
        Ok(Spool { handle: Handle { path: folder.to_owned(), file }, bytes: 0 })
    }

    /// Adds `bytes`; returns their offset.
    fn push(&mut self, bytes: &[u8]) -> Result<u64> {
        let at = self.bytes;
        let written = write_at(&self.handle.file, bytes, at);
        written.map_err(io_error("cannot write in", &self.handle.path))?;
        self.bytes += bytes.len() as u64;
        Ok(at)
    }

    /// Adds what `new` produces for `tensor`; returns its offset and its sha256. None if it is
    /// equal to what the tensor holds.
    fn fill(
        &mut self,
        tensor: Tensor<'_>,
        new: &mut Replacement<'_>,
        watch: &dyn Watch,
    ) -> Result<Option<(u64, String)>> {
        let row_bytes = tensor.info.row_bytes();
        let n_rows = tensor.info.n_rows();
        let chunk_rows = new.ask.rows_at_once(row_bytes, n_rows);
        let mut digest = Sha256::new();
        let mut buffer = Vec::new();
        let start = self.bytes;
        let mut first = 0;
        let mut changed = false;
        while first < n_rows {
            if watch.interrupted() {
                return Err(Error::Interrupted);
            }
            let rows = first..n_rows.min(first + chunk_rows);
            buffer.resize(((rows.end - rows.start) * row_bytes) as usize, 0);
            (new.produce)(rows.clone(), &mut buffer).map_err(|source| Error::Producer {
                name: tensor.info.name.clone(),
                first,
                source,
            })?;
            changed |= tensor.rows(rows.clone()) != buffer;
            digest.update(&buffer);
            self.push(&buffer)?;
            watch.advance(buffer.len() as u64);
            first = rows.end;
        }
        Ok(changed.then(|| (start, hex(&digest.finalize()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history;

    #[test]
    fn a_step_goes_where_spaces_were_and_the_header_keeps_its_length() {
        let step = Step::new("repair", "0.1.0").parameter("alpha", 1.5);
        let mut n_fit = 0;
        for n_spaces in 0..400 {
            let mut header = Header::new();
            let lines = ["{\"verb\":\"prune\"}".to_owned(), format!("{{}}{:n_spaces$}", "")];
            header.kv.insert(HISTORY_KEY.into(), Value::strings(lines));
            header.kv.insert("z".into(), Value::U32(7));
            let old = header.encode();
            let Some(new) = with_step(&old, &step).unwrap() else {
                assert_eq!(n_fit, 0, "{n_spaces} spaces are too few, and less were not");
                continue;
            };
            n_fit += 1;
            assert_eq!(new.len(), old.len());
            let (new, data_offset) = Header::parse(&new).unwrap();
            assert_eq!(data_offset, old.len() as u64);
            assert_eq!(new.kv["z"], Value::U32(7));
            let steps = history(&new.kv);
            assert_eq!(steps.len(), 3);
            assert_eq!(steps[0]["verb"], "prune");
            assert_eq!(steps[2], serde_json::to_value(&step).unwrap());
        }
        assert!(n_fit > 50 && n_fit < 350, "{n_fit}");
        let empty = Header::new().encode();
        assert_eq!(with_step(&empty, &step).unwrap(), None);
    }
}
