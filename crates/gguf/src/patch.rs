//! The patch: some tensors of a model get new bytes of the same type, in place. What it costs
//! depends on those tensors, not on the model: nothing else is read, hashed or copied.
//!
//! Order of events: all new bytes are made and kept in a file without a name; what they will
//! overwrite goes into a journal beside each file, synced; then the model is written, synced and
//! read back. So whatever happens, [`Pending::undo`] gives back what was there.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::checksum::hex;
use super::copy::write_at;
use super::disk::{Disk, Handle, Real, exists, folder_of};
use super::error::{Error, Result, io_error};
use super::header::Header;
use super::history::{HISTORY_KEY, Step};
use super::journal::{self, Index, Stretch, journal_path, part_path};
use super::keep;
use super::links::{self, is_same};
use super::model::{Model, Shard};
use super::rewrite::{Ask, Replacement};
use super::undo::Pending;
use super::value::Value;
use super::watch::Watch;

/// Bytes of rows asked of a producer at once, unless a row is longer.
const CHUNK_BYTES: u64 = 2 << 20;

/// A patch being put together.
pub struct Patch<'m> {
    model: &'m Model,
    replacements: HashMap<String, Replacement<'m>>,
}

/// A patch whose bytes are all made; the model is still as it was. Dropped, it leaves nothing
/// behind. It holds no part of the model that it was made from: let go of that before
/// [`Ready::apply`], since a memory map changes with its file.
#[derive(Debug)]
pub struct Ready {
    files: Vec<Changing>,
    spool: Spool,
}

/// A file of the model, locked, with what will change in it.
#[derive(Debug)]
struct Changing {
    model: Handle,
    header_bytes: u64,
    stretches: Vec<New>,
}

/// A stretch whose new bytes are made.
#[derive(Debug)]
struct New {
    stretch: Stretch,
    /// Where they are in the spool.
    spooled: u64,
}

/// What was patched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patched {
    /// The files that changed; none if the new bytes are the old ones.
    pub files: Vec<PathBuf>,
    /// Their journals.
    pub journals: Vec<PathBuf>,
    /// The tensors that changed.
    pub tensors: Vec<String>,
    /// Bytes that were written, the header's among them.
    pub bytes: u64,
    /// Whether the step is in the model's `aird.history`. If the header has no room for it, it is
    /// in the journal alone.
    pub in_history: bool,
}

/// Checks that `model` can be patched, before any work is done.
///
/// # Errors
/// A file or its folder is read-only; it is in use by another aird, replaced since it was opened,
/// or was patched before, by whichever name in its folder, and has its journal.
pub fn check_patch(model: &Model) -> Result<()> {
    open_all(model).map(drop)
}

impl<'m> Patch<'m> {
    /// Changes nothing, until told otherwise.
    pub fn new(model: &'m Model) -> Patch<'m> {
        Patch { model, replacements: HashMap::new() }
    }

    /// Gives tensor `name` new bytes of the type it has.
    ///
    /// # Errors
    /// No such tensor, or it has another type.
    pub fn replace(&mut self, name: &str, new: Replacement<'m>) -> Result<()> {
        let tensor = self.model.tensor(name);
        let info = tensor.ok_or_else(|| Error::NoTensor { name: name.into() })?.info;
        if info.ty != new.ty {
            let (from, to) = (info.ty.name(), new.ty.name());
            return Err(Error::TypeInPlace { name: name.into(), from, to });
        }
        self.replacements.insert(name.into(), new);
        Ok(())
    }

    /// Makes all new bytes. The producers are done then: what they measured can be judged, and
    /// the patch dropped.
    ///
    /// # Errors
    /// See [`check_patch`]; a producer's own; the disk's, for as many bytes are kept there.
    pub fn produce(mut self, watch: &dyn Watch) -> Result<Ready> {
        let mut files = open_all(self.model)?;
        let mut spool = Spool::beside(&files[0].model.path)?;
        let new = |name: &String| self.model.tensor(name).map_or(0, |t| t.info.n_bytes());
        watch.stage("making", self.replacements.keys().map(new).sum());
        for tensor in self.model.tensors() {
            let Some(new) = self.replacements.get_mut(&tensor.info.name) else { continue };
            let start = self.model.shards()[tensor.shard].range(tensor.info).start;
            if let Some((spooled, new_sha256)) = spool.fill(tensor, new, watch)? {
                let (name, bytes) = (tensor.info.name.clone(), tensor.info.n_bytes());
                let stretch = Stretch {
                    tensor: Some(name),
                    start,
                    bytes,
                    old_sha256: String::new(),
                    new_sha256,
                };
                files[tensor.shard].stretches.push(New { stretch, spooled });
            }
        }
        Ok(Ready { files, spool })
    }
}

fn open_all(model: &Model) -> Result<Vec<Changing>> {
    let open = |shard: &Shard| Handle::open_to_change(&shard.path);
    let handles = model.shards().iter().map(open).collect::<Result<Vec<Handle>>>()?;
    handles.iter().try_for_each(|handle| check_folder(&handle.path))?;
    // What was kept for good has no journal, even if that was cut off.
    let home = |handle: &Handle| links::home(&handle.path);
    keep::finish(&Real, &handles.iter().map(home).collect::<Result<Vec<PathBuf>>>()?)?;
    let changing = handles.into_iter().zip(model.shards());
    changing.map(|(handle, shard)| Changing::new(handle, shard)).collect()
}

/// Checks that files can be made beside `model`: the journal, and the new bytes until then.
fn check_folder(model: &Path) -> Result<()> {
    let folder = folder_of(model);
    let metadata = folder.metadata().map_err(io_error("cannot read", folder))?;
    // Asked for, not tried: root may write what its owner protects. Elsewhere it says nothing.
    if cfg!(unix) && metadata.permissions().readonly() {
        return Err(Error::ReadOnlyFolder { path: folder.into() });
    }
    // Names that are too long for this disk are seen as well.
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

    fn write(&self, disk: &dyn Disk, spool: &Spool) -> Result<()> {
        for New { stretch, spooled } in &self.stretches {
            let range = *spooled..spooled + stretch.bytes;
            self.model.copy_from(disk, &spool.handle, range, stretch.start)?;
        }
        disk.sync(&self.model).map_err(io_error("cannot write", &self.model.path))
    }

    fn read_back(&self) -> Result<()> {
        for New { stretch, .. } in &self.stretches {
            if self.model.sha256(stretch.range())? != stretch.new_sha256 {
                let (path, what) = (self.model.path.clone(), stretch.name().into());
                return Err(Error::WrittenWrong { path, what });
            }
        }
        Ok(())
    }
}

impl Ready {
    /// The most names that one of the files has: what changes under one, changes under all of
    /// them. One for most files.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn n_links(&self) -> Result<u64> {
        let n_links = |file: &Changing| Ok(links::n_links(&file.model.metadata()?));
        let counts = self.files.iter().map(n_links).collect::<Result<Vec<u64>>>()?;
        Ok(counts.into_iter().max().unwrap_or(1))
    }

    /// Writes the journals, then the new bytes; `step` goes into the history if the header has
    /// room for it. Nothing is asked of the user any more: it takes as long as a disk needs for
    /// twice the bytes.
    ///
    /// # Errors
    /// The disk's own: then everything is as it was, or, in [`Error::HalfPatched`], the journal is
    /// there to make it so.
    pub fn apply(self, step: Option<Step>, watch: &dyn Watch) -> Result<Patched> {
        if watch.interrupted() {
            return Err(Error::Interrupted);
        }
        self.apply_on(&Real, step)
    }

    pub(super) fn apply_on(mut self, disk: &dyn Disk, step: Option<Step>) -> Result<Patched> {
        let nothing = self.files.iter().all(|file| file.stretches.is_empty());
        let in_history = match &step {
            Some(step) if !nothing => self.record(step)?,
            _ => false,
        };
        self.files.retain(|file| !file.stretches.is_empty());
        if let Err(error) = self.write_journals(disk, step.as_ref()) {
            // No file is touched yet. What cannot be removed now does no harm.
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

    /// Adds what the header will become to what changes; false if it has no room.
    fn record(&mut self, step: &Step) -> Result<bool> {
        let file = &mut self.files[0];
        let old = file.model.read(0..file.header_bytes)?;
        let Some(new) = with_step(&old, step).map_err(|e| e.in_file(&file.model.path))? else {
            return Ok(false);
        };
        // From the first byte that differs to the last.
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

    /// After `error` in the middle of writing: as it was, or a hint how to get there.
    fn take_back(self, disk: &dyn Disk, error: Error) -> Error {
        let path = self.files[0].model.path.clone();
        let named = |file: Changing| (file.model.path.clone(), file.model);
        let files = self.files.into_iter().map(named);
        let found = files.map(|(home, model)| (model, home, None)).collect();
        match Pending::of(found).and_then(|pending| pending.undo_on(disk)) {
            Ok(()) => error,
            Err(_) => Error::HalfPatched { path, source: Box::new(error) },
        }
    }

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

/// The header `old` with `step` in its history and of the same length; None if it has no room.
/// There is room where aird filled lines of the history up with spaces, and in the padding.
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
        // Both lengths are multiples of the alignment: the line takes up what is between them.
        Some(room) => encode(step.width() + room as u64).map(Some),
    }
}

/// New bytes until they are written: in a file that has no name and goes with the process, on the
/// model's disk, so that memory does not grow with what is patched.
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

    /// Adds `bytes`; returns where they are.
    fn push(&mut self, bytes: &[u8]) -> Result<u64> {
        let at = self.bytes;
        let written = write_at(&self.handle.file, bytes, at);
        written.map_err(io_error("cannot write in", &self.handle.path))?;
        self.bytes += bytes.len() as u64;
        Ok(at)
    }

    /// Adds what `new` makes of `tensor`; returns where that is, and its sha256. None if it is
    /// what the tensor holds.
    fn fill(
        &mut self,
        tensor: super::Tensor<'_>,
        new: &mut Replacement<'_>,
        watch: &dyn Watch,
    ) -> Result<Option<(u64, String)>> {
        let (row_bytes, n_rows) = (tensor.info.row_bytes(), tensor.info.n_rows());
        let chunk_rows = match new.ask {
            Ask::Whole => n_rows,
            Ask::Chunks => (CHUNK_BYTES / row_bytes.max(1)).max(1),
        };
        let (mut digest, mut buffer) = (Sha256::new(), Vec::new());
        let (start, mut first, mut changed) = (self.bytes, 0, false);
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
    use super::super::history;
    use super::*;

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
