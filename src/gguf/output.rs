//! A file that appears whole or not at all: written beside its place, synced, then renamed.

use std::fs::File;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tempfile::{Builder, NamedTempFile};

use super::disk::folder_of;
use super::error::{Error, Result, io_error};

/// Between two flushes of a file under way.
const FLUSH_PAUSE: Duration = Duration::from_millis(20);

/// An output under way. Dropped before [`Output::commit`], it leaves nothing behind.
#[derive(Debug)]
pub struct Output {
    temp: NamedTempFile,
    path: PathBuf,
}

/// Checks that `path` may be written, before any work is done.
///
/// # Errors
/// It exists and `force` is not set, is one of `inputs`, or is something else than a file; or its
/// folder does not exist.
pub fn check_output(path: &Path, force: bool, inputs: &[&Path]) -> Result<()> {
    let Ok(metadata) = path.metadata() else {
        return match folder_of(path).is_dir() {
            true => Ok(()),
            false => Err(Error::NoFolder { path: path.into() }),
        };
    };
    let real = path.canonicalize().map_err(io_error("cannot resolve", path))?;
    if inputs.iter().any(|input| input.canonicalize().is_ok_and(|input| input == real)) {
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

impl Output {
    /// Opens a temp file in the folder of `path`; nothing is at `path` yet.
    ///
    /// # Errors
    /// The folder is missing or may not be written.
    pub fn create(path: &Path) -> Result<Output> {
        // Through a link the file it points to is replaced, not the link.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let folder = folder_of(&path);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let mut builder = Builder::new();
        let prefix = format!(".{name}.");
        builder.prefix(&prefix).suffix(".part");
        // What any new file gets, the umask taken off: model files are shared.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let temp = builder.tempfile_in(folder).map_err(io_error("cannot write in", folder))?;
        Ok(Output { temp, path })
    }

    /// The file to write into.
    pub fn file(&self) -> &File {
        self.temp.as_file()
    }

    /// Where the bytes are until [`Output::commit`].
    pub fn temp_path(&self) -> &Path {
        self.temp.path()
    }

    /// Where the file will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `write` while what it has written is already on its way to the disk, so that the
    /// sync at the end has little left to wait for.
    ///
    /// # Errors
    /// `write`'s own, or the disk's.
    pub(super) fn flushing<T>(&self, write: impl FnOnce() -> Result<T>) -> Result<T> {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let flusher = scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    // The kernel reports an error to one sync alone: it must not be lost here.
                    self.file().sync_data()?;
                    std::thread::park_timeout(FLUSH_PAUSE);
                }
                Ok(())
            });
            let written = write();
            done.store(true, Ordering::Relaxed);
            flusher.thread().unpark();
            let flushed = flusher.join().unwrap_or_else(|panic| resume_unwind(panic));
            let written = written?;
            flushed.map_err(io_error("cannot write", &self.path))?;
            Ok(written)
        })
    }

    /// Forces the bytes to the disk.
    ///
    /// # Errors
    /// The disk's own.
    pub fn sync(&self) -> Result<()> {
        self.file().sync_all().map_err(io_error("cannot write", &self.path))
    }

    /// Gives the synced file its name. A file that had it is replaced in the same instant.
    ///
    /// # Errors
    /// The rename fails: whatever was at the path is still there.
    pub fn commit(self) -> Result<()> {
        let path = self.path;
        self.temp.persist(&path).map_err(|e| io_error("cannot write", &path)(e.error))?;
        sync_folder(&path);
        Ok(())
    }
}

/// The rename itself reaches the disk with the folder. Not every file system can sync one, and
/// the file is whole either way: an error here is none.
fn sync_folder(path: &Path) {
    if let Ok(folder) = File::open(folder_of(path)) {
        let _ = folder.sync_all();
    }
}

/// Writes a small file whole or not at all.
///
/// # Errors
/// See [`Output::create`] and [`Output::commit`].
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write;
    let output = Output::create(path)?;
    output.file().write_all(bytes).map_err(io_error("cannot write", path))?;
    output.sync()?;
    output.commit()
}
