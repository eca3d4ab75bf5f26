//! A file of any format, mapped for reading: the source of a conversion.

use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::checksum::{digest, hex};
use crate::error::{Result, io_error};
use crate::model::{check_regular, map};
use crate::watch::Watch;

/// A file of any format, mapped into memory: what is not read costs none.
#[derive(Debug)]
pub struct MappedFile {
    /// The path that it was opened by.
    pub path: PathBuf,
    pub(crate) file: File,
    map: Mmap,
}

impl MappedFile {
    /// Opens and maps a regular file. A symbolic link is followed.
    ///
    /// # Errors
    /// It cannot be read, or is no regular file.
    pub fn open(path: &Path) -> Result<MappedFile> {
        check_regular(path)?;
        let file = File::open(path).map_err(io_error("cannot open", path))?;
        let map = map(&file).map_err(io_error("cannot map", path))?;
        Ok(MappedFile { path: path.to_owned(), file, map })
    }

    /// The bytes of the whole file.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// sha256 of the file, in lower-case hexadecimal. Reports its bytes to `watch`.
    ///
    /// # Errors
    /// Only [`Error::Interrupted`](crate::Error::Interrupted).
    pub fn sha256(&self, watch: &dyn Watch) -> Result<String> {
        Ok(hex(&digest(self.bytes(), watch)?))
    }
}
