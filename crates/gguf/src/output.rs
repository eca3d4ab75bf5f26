//! Files that appear whole or not at all.
//!
//! An output is written under a hidden name in the folder where it will be, synced, and renamed;
//! then the folder is synced. The order matters: a rename that reached the disk before the bytes
//! would leave an empty file after a power loss. It is the same folder because a rename does not
//! cross file systems.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use tempfile::{Builder, NamedTempFile, TempDir};

use crate::copy::write_at;
use crate::disk::{folder_of, sync_folder};
use crate::error::{Error, Result, io_error};
use crate::journal::JOURNAL_SUFFIX;
use crate::temp::TempPath;

/// Starts a thread in `scope`. Unlike `scope.spawn`, which panics, it returns an error if the
/// system has no thread left.
pub(crate) fn spawn_in<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>> {
    std::thread::Builder::new().spawn_scoped(scope, work).map_err(Error::NoThread)
}

/// Bytes of an output's name that a temp name keeps: the 255 that common file systems take, less
/// what the temp name adds.
const MAX_STEM_BYTES: usize = 255 - 32;
/// Between two flushes of a file that is being written.
const FLUSH_PAUSE: Duration = Duration::from_millis(20);

/// An output that is being written. If it is dropped before [`Output::commit`], its temp file is
/// removed.
#[derive(Debug)]
pub(crate) struct Output {
    temp: NamedTempFile,
    /// The path of `temp`, relative if the output's is: tempfile makes it absolute, and folders
    /// above may have names that other programs, which a check may start, do not take.
    temp_path: PathBuf,
    path: PathBuf,
    _remembered: TempPath,
}

/// Checks that `path` may be written, before any work is done. `force` allows to replace an
/// existing file.
///
/// # Errors
/// [`Error::OutputExists`] unless `force`; it is one of `inputs`, by whatever name; it is something
/// else than a file, or has the name of an undo journal; its folder does not exist.
pub fn check_output(path: &Path, force: bool, inputs: &[&Path]) -> Result<()> {
    let text = path.as_os_str().to_string_lossy();
    if text.ends_with(['/', std::path::MAIN_SEPARATOR]) || text.ends_with("/.") || text.is_empty() {
        return Err(Error::OutputNotAFile { path: path.into() });
    }
    if text.ends_with(JOURNAL_SUFFIX) {
        return Err(Error::OutputIsJournal { path: path.into() });
    }
    let metadata = match path.metadata() {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            if folder_of(path).is_dir() {
                return Ok(());
            }
            return Err(Error::NoFolder { path: path.into() });
        }
        // A name too long, a folder that is a file, a loop of links.
        Err(e) => return Err(io_error("cannot write", path)(e)),
    };
    if inputs.iter().any(|input| same_file(input, path)) {
        return Err(Error::OutputIsInput { path: path.into() });
    }
    if !metadata.is_file() {
        return Err(Error::OutputNotAFile { path: path.into() });
    }
    if !force {
        return Err(Error::OutputExists { path: path.into() });
    }
    Ok(())
}

/// True if both paths lead to one file that exists: through symbolic or hard links, or by another
/// spelling.
#[must_use]
pub fn same_file(a: &Path, b: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let id = |path: &Path| path.metadata().ok().map(|m| (m.dev(), m.ino()));
        id(a).is_some() && id(a) == id(b)
    }
    #[cfg(not(unix))]
    {
        let real = |path: &Path| path.canonicalize().ok();
        real(a).is_some() && real(a) == real(b)
    }
}

/// Checks that a file of `bytes` can be made at `path`: makes a temp file beside it, reserves the
/// blocks where the system can (Linux), and removes it again. Another process may take the room
/// later.
///
/// # Errors
/// The folder cannot be written, or [`Error::NoRoom`].
pub fn check_room(path: &Path, bytes: u64) -> Result<()> {
    let output = Output::create(path)?;
    let reserved = reserve(output.file(), bytes);
    reserved.map_err(|source| match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            Error::NoRoom { path: path.into(), bytes, source }
        }
        _ => io_error("cannot write", path)(source),
    })
}

/// Reserves blocks as writing would. A file system that cannot reserve gets one page written, which
/// finds a full disk at least.
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::io::Errno;
        match fallocate(file, FallocateFlags::empty(), 0, bytes.max(1)) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
            done => return Ok(done?),
        }
    }
    let _ = bytes;
    write_at(file, &[0; 4096], 0)
}

/// How the hidden name of a temp file or folder begins, before its random letters: `.NAME.`. A long
/// name is cut, so that the temp name is not too long where the name itself is not.
fn temp_prefix(name: &OsStr) -> OsString {
    let mut prefix = OsString::from(".");
    match name.to_str() {
        Some(name) => {
            let ends = name.char_indices().map(|(at, c)| at + c.len_utf8());
            prefix.push(&name[..ends.take_while(|end| *end <= MAX_STEM_BYTES).last().unwrap_or(0)]);
        }
        // A name in an unknown encoding might be cut inside a letter.
        None => prefix.push("aird"),
    }
    prefix.push(".");
    prefix
}

/// The file that a symbolic link leads to, so that this file is replaced and not the link. Other
/// paths stay as they were given.
fn behind_link(path: &Path) -> PathBuf {
    if !path.is_symlink() {
        return path.to_owned();
    }
    // The target of a link need not exist yet.
    let target = || Some(folder_of(path).join(path.read_link().ok()?));
    path.canonicalize().ok().or_else(target).unwrap_or_else(|| path.to_owned())
}

/// The system's error without the temp name that tempfile adds, which is not the user's name.
fn without_temp_name(error: io::Error) -> io::Error {
    let inner = error.get_ref().and_then(|wrapper| wrapper.source());
    let code = inner.and_then(|e| e.downcast_ref::<io::Error>()).and_then(io::Error::raw_os_error);
    code.map_or(error, io::Error::from_raw_os_error)
}

/// Gives a temp file the permissions of any new file, less the umask: tempfile makes it readable
/// for its owner only, and model files are shared.
fn as_new_files<'a, 'b>(builder: &'a mut Builder<'b, 'b>) -> &'a mut Builder<'b, 'b> {
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder
}

/// A hidden folder beside an output, for shards: they find each other by their final names, so
/// these cannot change until all are checked. It is removed with whatever is left in it.
pub(crate) fn temp_folder(beside: &Path) -> Result<TempDir> {
    let folder = folder_of(beside);
    let prefix = temp_prefix(beside.file_name().unwrap_or_default());
    let made = Builder::new().prefix(&prefix).suffix(".part").tempdir_in(folder);
    made.map_err(|e| io_error("cannot write in", folder)(without_temp_name(e)))
}

impl Output {
    /// Opens a temp file in the folder of `path`. What is at `path` stays until [`Output::commit`].
    ///
    /// # Errors
    /// The folder is missing or cannot be written.
    pub(crate) fn create(path: &Path) -> Result<Output> {
        let path = behind_link(path);
        let folder = folder_of(&path);
        let prefix = temp_prefix(path.file_name().unwrap_or_default());
        let mut builder = Builder::new();
        builder.prefix(&prefix).suffix(".part");
        let temp = as_new_files(&mut builder).tempfile_in(folder);
        let temp = temp.map_err(|e| io_error("cannot write in", folder)(without_temp_name(e)))?;
        let temp_path = folder.join(temp.path().file_name().unwrap_or_default());
        let _remembered = TempPath::remember(temp.path());
        Ok(Output { temp, temp_path, path, _remembered })
    }

    /// As [`Output::create`], but the temp file has the final name, in the temp folder `folder`.
    ///
    /// # Errors
    /// As [`Output::create`].
    pub(crate) fn create_in(folder: &TempDir, path: &Path) -> Result<Output> {
        let path = behind_link(path);
        let mut builder = Builder::new();
        builder.prefix(path.file_name().unwrap_or_default()).rand_bytes(0);
        let temp = as_new_files(&mut builder).tempfile_in(folder.path());
        let temp = temp.map_err(io_error("cannot write in", folder.path()))?;
        let below = folder.path().file_name().unwrap_or_default();
        let temp_path = folder_of(&path).join(below).join(path.file_name().unwrap_or_default());
        let _remembered = TempPath::remember(temp.path());
        Ok(Output { temp, temp_path, path, _remembered })
    }

    /// The temp file, open for reading and writing.
    pub(crate) fn file(&self) -> &File {
        self.temp.as_file()
    }

    /// Where the bytes are until [`Output::commit`].
    pub(crate) fn temp_path(&self) -> &Path {
        &self.temp_path
    }

    /// Where the file will be.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `write` while another thread syncs what is written, so that the sync at the end has
    /// little left to wait for.
    ///
    /// # Errors
    /// Those of `write`, or of the disk.
    pub(crate) fn flushing<T>(&self, write: impl FnOnce() -> Result<T>) -> Result<T> {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let flusher = spawn_in(scope, || {
                while !done.load(Ordering::Relaxed) {
                    // The kernel reports a write error to one sync only: it must not be lost here.
                    self.file().sync_data()?;
                    std::thread::park_timeout(FLUSH_PAUSE);
                }
                Ok(())
            })?;
            let written = write();
            done.store(true, Ordering::Relaxed);
            flusher.thread().unpark();
            let flushed = flusher.join().unwrap_or_else(|panic| resume_unwind(panic));
            let written = written?;
            flushed.map_err(io_error("cannot write", &self.path))?;
            Ok(written)
        })
    }

    /// Waits until the bytes are on the disk.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file().sync_all().map_err(io_error("cannot write", &self.path))
    }

    /// Gives the synced file its name, and waits until that is on the disk too. A file that had the
    /// name is replaced in the same instant.
    ///
    /// # Errors
    /// The rename fails: whatever was at the path is still there. Or the disk fails after it, see
    /// [`sync_folder`]: the new file is there, but after a power loss the old one may be.
    pub(crate) fn commit(self) -> Result<()> {
        let path = self.path;
        self.temp.persist(&path).map_err(|e| io_error("cannot write", &path)(e.error))?;
        sync_folder(&path).map_err(io_error("cannot write beside", &path))
    }
}

/// Writes `bytes` to a file whole or not at all: under a temp name in the same folder, synced,
/// renamed. A file that is there is replaced; a symbolic link stays, and the file it leads to is
/// replaced.
///
/// # Errors
/// The folder is missing or cannot be written, or the disk is full or fails. What was at `path` is
/// then still there, unless the disk failed after the rename.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    write_file_if(path, bytes, |_| Ok(()))
}

/// As [`write_file`], with a check before the rename: `check` gets the path of the temp file, whose
/// bytes are synced.
///
/// # Errors
/// As [`write_file`], and those of `check`: what is at `path` then stays.
pub fn write_file_if<E: From<Error>>(
    path: &Path,
    bytes: &[u8],
    check: impl FnOnce(&Path) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    use std::io::Write;
    let output = Output::create(path)?;
    output.file().write_all(bytes).map_err(io_error("cannot write", path))?;
    output.sync()?;
    check(output.temp_path())?;
    Ok(output.commit()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_in(folder: &Path) -> Vec<OsString> {
        folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn names_as_long_as_the_file_system_takes_are_written() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a".repeat(255), "\u{e9}".repeat(127) + "a", "x".into()] {
            let path = folder.path().join(&name);
            check_output(&path, false, &[]).unwrap();
            check_room(&path, 4096).unwrap();
            write_file(&path, b"here").unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), b"here");
        }
        assert_eq!(names_in(folder.path()).len(), 3);
        let too_long = folder.path().join("a".repeat(256));
        let said = check_output(&too_long, false, &[]).unwrap_err().to_string();
        assert!(said.contains("cannot write"), "{said}");
    }

    #[test]
    fn a_file_that_fails_its_check_leaves_the_old_one_and_no_temp_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, "old").unwrap();
        let failed = write_file_if(&path, b"new", |temp| {
            assert_eq!(std::fs::read(temp).unwrap(), b"new");
            Err(Error::Interrupted)
        });
        assert!(failed.is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(names_in(folder.path()), ["x"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_is_the_same_by_any_of_its_names() {
        let folder = tempfile::tempdir().unwrap();
        let [a, hard, soft, other] =
            ["a", "hard", "soft", "b"].map(|name| folder.path().join(name));
        std::fs::write(&a, "x").unwrap();
        std::fs::write(&other, "x").unwrap();
        std::fs::hard_link(&a, &hard).unwrap();
        std::os::unix::fs::symlink(&a, &soft).unwrap();
        for name in [&a, &hard, &soft] {
            assert!(same_file(&a, name), "{}", name.display());
            let refused = check_output(name, true, &[&a]);
            assert!(matches!(refused, Err(Error::OutputIsInput { .. })), "{}", name.display());
        }
        assert!(!same_file(&a, &other) && !same_file(&a, Path::new("/missing")));
    }

    #[test]
    fn more_bytes_than_any_disk_has_are_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let refused = check_room(&path, 1 << 55);
        // Where the system cannot reserve, one block is all that is tried.
        if cfg!(target_os = "linux") {
            assert!(refused.is_err());
        }
        assert!(names_in(folder.path()).is_empty());
    }
}
