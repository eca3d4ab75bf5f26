//! The disk as a patch and its undo see it: a trait of single operations, so that tests can stop
//! the work after each of them and inspect what is left.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::checksum::hex;
use crate::copy::{read_at, write_at};
use crate::error::{Error, Result, io_error};

/// Bytes of a file in memory at once.
const CHUNK_BYTES: u64 = 4 << 20;

/// The operations that change something. A crash or a power loss may come after any of them.
pub(crate) trait Disk {
    /// Makes a new file with the permissions of `like`; it is an error if one is there.
    fn create(&self, path: &Path, like: &Metadata) -> io::Result<Handle>;
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, handle: &Handle, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Waits until a file's bytes are on the disk.
    fn sync(&self, handle: &Handle) -> io::Result<()>;
    /// Gives a file another name in its folder.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file's name.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// As [`sync_folder`].
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
}

/// The file system, with nothing in between.
pub(crate) struct Real;

impl Disk for Real {
    fn create(&self, path: &Path, like: &Metadata) -> io::Result<Handle> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        // The journal holds weights: who may not read the model must not read them there either.
        #[cfg(unix)]
        {
            use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
            options.mode(like.mode() & 0o666);
        }
        #[cfg(not(unix))]
        let _ = like;
        Ok(Handle { path: path.to_owned(), file: options.open(path)? })
    }

    fn write_at(&self, handle: &Handle, bytes: &[u8], offset: u64) -> io::Result<()> {
        write_at(&handle.file, bytes, offset)
    }

    fn sync(&self, handle: &Handle) -> io::Result<()> {
        handle.file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        sync_folder(path)
    }
}

/// Waits until the names in the folder of `path` are on the disk: a rename, a new file or a removed
/// one can otherwise be lost in a power loss, even if the file's bytes were synced.
///
/// # Errors
/// Only what a failing or full disk reports. A folder that cannot be opened as a file (Windows; no
/// read permission) or a file system that syncs no folders is no error: nothing can be done there,
/// and the files are whole under their old or their new names.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    let Ok(folder) = File::open(folder_of(path)) else { return Ok(()) };
    match folder.sync_all() {
        Err(e) if !matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Err(e),
        _ => Ok(()),
    }
}

/// The folder that `path` lies in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// True if there is anything of that name, even a link that leads nowhere.
pub(crate) fn exists(path: &Path) -> Result<bool> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(io_error("cannot read", path)(e)),
    }
}

/// An open file with its path, for messages and for the journal beside it.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
}

impl Handle {
    /// Opens a model's file to change it in place: the file that all links lead to. It is locked,
    /// so that one process changes it at a time.
    pub(crate) fn open_to_change(path: &Path) -> Result<Handle> {
        let path = path.canonicalize().map_err(io_error("cannot open", path))?;
        let metadata = path.metadata().map_err(io_error("cannot read", &path))?;
        // Its permissions decide, not an attempt: root could write what its owner protected.
        if metadata.permissions().readonly() {
            return Err(Error::ReadOnly { path });
        }
        let opened = OpenOptions::new().read(true).write(true).open(&path);
        let file = opened.map_err(|e| match e.kind() {
            ErrorKind::PermissionDenied => Error::NotYours { path: path.clone() },
            ErrorKind::ReadOnlyFilesystem => Error::ReadOnlyDisk { path: path.clone() },
            _ => io_error("cannot open", &path)(e),
        })?;
        // The system releases the lock when the process ends, however it ends. File systems without
        // locks return another error: there the user must see to it.
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Err(Error::Busy { path }),
            Ok(()) | Err(TryLockError::Error(_)) => Ok(Handle { path, file }),
        }
    }

    /// Opens a file for reading only.
    pub(crate) fn open(path: PathBuf) -> Result<Handle> {
        let file = File::open(&path).map_err(io_error("cannot open", &path))?;
        Ok(Handle { path, file })
    }

    /// Length of the file.
    pub(crate) fn bytes(&self) -> Result<u64> {
        Ok(self.metadata()?.len())
    }

    pub(crate) fn metadata(&self) -> Result<Metadata> {
        self.file.metadata().map_err(io_error("cannot read", &self.path))
    }

    /// All bytes of `range`, in memory at once: for headers and indices.
    pub(crate) fn read(&self, range: Range<u64>) -> Result<Vec<u8>> {
        let mut bytes = vec![0; range.end.saturating_sub(range.start) as usize];
        read_at(&self.file, &mut bytes, range.start)
            .map_err(io_error("cannot read", &self.path))?;
        Ok(bytes)
    }

    /// Calls `act` with each chunk of `range` and its offset in the file, by ascending offset.
    pub(crate) fn each_chunk(
        &self,
        range: Range<u64>,
        mut act: impl FnMut(u64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut buffer = vec![0; CHUNK_BYTES.min(range.end.saturating_sub(range.start)) as usize];
        let mut at = range.start;
        while at < range.end {
            let chunk = &mut buffer[..CHUNK_BYTES.min(range.end - at) as usize];
            read_at(&self.file, chunk, at).map_err(io_error("cannot read", &self.path))?;
            act(at, chunk)?;
            at += chunk.len() as u64;
        }
        Ok(())
    }

    /// sha256 of the bytes of `range`, in hexadecimal.
    pub(crate) fn sha256(&self, range: Range<u64>) -> Result<String> {
        let mut digest = Sha256::new();
        self.each_chunk(range, |_, bytes| {
            digest.update(bytes);
            Ok(())
        })?;
        Ok(hex(&digest.finalize()))
    }

    /// Copies `range` of the file `from` to offset `at` of this one.
    pub(crate) fn copy_from(
        &self,
        disk: &dyn Disk,
        from: &Handle,
        range: Range<u64>,
        at: u64,
    ) -> Result<()> {
        let start = range.start;
        from.each_chunk(range, |offset, bytes| {
            let written = disk.write_at(self, bytes, at + (offset - start));
            written.map_err(io_error("cannot write", &self.path))
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    //! Disks that end early, and one whose power fails.

    use std::cell::{Cell, RefCell};
    use std::collections::BTreeMap;

    use super::*;

    /// The files of a folder: names and bytes.
    pub(crate) type Files = BTreeMap<String, Vec<u8>>;

    /// A disk that skips the waits for syncs, and records what was done.
    #[derive(Default)]
    pub(crate) struct Recorder {
        pub(crate) ops: RefCell<Vec<Op>>,
    }

    #[derive(Debug, Clone)]
    pub(crate) enum Op {
        Create(String),
        Write(String, u64, Vec<u8>),
        Sync(String),
        Rename(String, String),
        Remove(String),
        SyncFolder,
    }

    fn name(path: &Path) -> String {
        path.file_name().unwrap().to_str().unwrap().to_owned()
    }

    impl Recorder {
        fn log(&self, op: Op) {
            self.ops.borrow_mut().push(op);
        }
    }

    impl Disk for Recorder {
        fn create(&self, path: &Path, like: &Metadata) -> io::Result<Handle> {
            self.log(Op::Create(name(path)));
            Real.create(path, like)
        }

        fn write_at(&self, handle: &Handle, bytes: &[u8], offset: u64) -> io::Result<()> {
            self.log(Op::Write(name(&handle.path), offset, bytes.to_vec()));
            Real.write_at(handle, bytes, offset)
        }

        fn sync(&self, handle: &Handle) -> io::Result<()> {
            self.log(Op::Sync(name(&handle.path)));
            Ok(())
        }

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.log(Op::Rename(name(from), name(to)));
            Real.rename(from, to)
        }

        fn remove(&self, path: &Path) -> io::Result<()> {
            Real.remove(path)?;
            self.log(Op::Remove(name(path)));
            Ok(())
        }

        fn sync_folder(&self, _: &Path) -> io::Result<()> {
            self.log(Op::SyncFolder);
            Ok(())
        }
    }

    /// Bytes that cost as much as an operation.
    const UNIT: usize = 48;

    /// A disk that fails once it has done so much: each operation costs one, and a write one more
    /// for each few bytes; of the write that fails a part is done.
    pub(crate) struct Stopping {
        left: Cell<usize>,
        /// Whether it fails ever after, as for a process that was killed, or just once.
        for_good: bool,
        pub(crate) failed: Cell<bool>,
    }

    impl Stopping {
        pub(crate) fn after(cost: usize, for_good: bool) -> Stopping {
            Stopping { left: Cell::new(cost), for_good, failed: Cell::new(false) }
        }

        /// What of `cost` is left to spend; an error if that is not all of it.
        fn spend(&self, cost: usize) -> std::result::Result<(), usize> {
            if self.failed.get() {
                return if self.for_good { Err(0) } else { Ok(()) };
            }
            let left = self.left.get();
            self.left.set(left.saturating_sub(cost));
            self.failed.set(left < cost);
            if left < cost { Err(left) } else { Ok(()) }
        }

        fn act<T>(&self, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
            self.spend(1).map_err(|_| io::Error::other("the disk is gone"))?;
            act()
        }
    }

    impl Disk for Stopping {
        fn create(&self, path: &Path, like: &Metadata) -> io::Result<Handle> {
            self.act(|| Real.create(path, like))
        }

        fn write_at(&self, handle: &Handle, bytes: &[u8], offset: u64) -> io::Result<()> {
            self.spend(1 + bytes.len().div_ceil(UNIT)).map_err(|left| {
                let part = bytes.len().min(left.saturating_sub(1) * UNIT);
                Real.write_at(handle, &bytes[..part], offset).unwrap();
                io::Error::other("the disk is gone")
            })?;
            Real.write_at(handle, bytes, offset)
        }

        fn sync(&self, _: &Handle) -> io::Result<()> {
            self.act(|| Ok(()))
        }

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.act(|| Real.rename(from, to))
        }

        fn remove(&self, path: &Path) -> io::Result<()> {
            self.act(|| Real.remove(path))
        }

        fn sync_folder(&self, _: &Path) -> io::Result<()> {
            self.act(|| Ok(()))
        }
    }

    /// What the disk writes at once.
    const SECTOR: usize = 512;

    /// A file's bytes on the disk, and those on their way there.
    #[derive(Default)]
    struct Inode {
        durable: Vec<u8>,
        pending: Vec<(usize, Vec<u8>)>,
    }

    impl Inode {
        fn put(&mut self, at: usize, bytes: &[u8]) {
            self.durable.resize(self.durable.len().max(at + bytes.len()), 0);
            self.durable[at..at + bytes.len()].copy_from_slice(bytes);
        }

        fn sync(&mut self) {
            for (at, bytes) in std::mem::take(&mut self.pending) {
                self.put(at, &bytes);
            }
        }

        /// Of what is on its way each sector arrives or does not.
        fn lose(&mut self, random: &mut dyn FnMut() -> u64) {
            let in_four = random() % 5;
            for (at, bytes) in std::mem::take(&mut self.pending) {
                for (i, sector) in bytes.chunks(SECTOR).enumerate() {
                    if random() % 4 < in_four {
                        self.put(at + i * SECTOR, sector);
                    }
                }
            }
        }
    }

    type Names = BTreeMap<String, usize>;
    /// A name that begins or ends to stand for an inode; both at once in a rename.
    type Renaming = (Option<String>, Option<(String, usize)>);

    fn rename(names: &mut Names, (old, new): &Renaming) {
        names.retain(|name, _| Some(name) != old.as_ref());
        names.extend(new.clone());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_folder_that_cannot_be_opened_or_synced_is_no_error() {
        for path in ["/proc/x", "/missing/x", "x"] {
            sync_folder(Path::new(path)).unwrap();
        }
    }

    /// What the disk may hold if the power fails after `ops`: everything that was synced, and of
    /// the rest any sectors, and any first part of the changes of names.
    pub(crate) fn after_power_loss(
        before: &Files,
        ops: &[Op],
        random: &mut dyn FnMut() -> u64,
    ) -> Files {
        let inode = |bytes: &Vec<u8>| Inode { durable: bytes.clone(), pending: Vec::new() };
        let mut inodes: Vec<Inode> = before.values().map(inode).collect();
        let mut seen: Names = before.keys().cloned().zip(0..).collect();
        let mut durable = seen.clone();
        let mut pending: Vec<Renaming> = Vec::new();
        for op in ops {
            let renaming = match op {
                Op::Create(name) => {
                    inodes.push(Inode::default());
                    (None, Some((name.clone(), inodes.len() - 1)))
                }
                Op::Rename(from, to) => (Some(from.clone()), Some((to.clone(), seen[from]))),
                Op::Remove(name) => (Some(name.clone()), None),
                Op::Write(name, at, bytes) => {
                    inodes[seen[name]].pending.push((*at as usize, bytes.clone()));
                    continue;
                }
                Op::Sync(name) => {
                    inodes[seen[name]].sync();
                    continue;
                }
                Op::SyncFolder => {
                    pending.drain(..).for_each(|renaming| self::rename(&mut durable, &renaming));
                    continue;
                }
            };
            rename(&mut seen, &renaming);
            pending.push(renaming);
        }
        pending.truncate(random() as usize % (pending.len() + 1));
        pending.iter().for_each(|renaming| rename(&mut durable, renaming));
        inodes.iter_mut().for_each(|inode| inode.lose(random));
        durable.into_iter().map(|(name, i)| (name, inodes[i].durable.clone())).collect()
    }
}
