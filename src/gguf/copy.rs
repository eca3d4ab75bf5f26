//! Copies of untouched bytes, by the kernel where it can: `copy_file_range` moves them without
//! passing through this process, and shares them (reflink) on file systems that know how.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Range;

use super::watch::Watch;

/// Bytes between two looks at the watch.
const STEP: u64 = 64 << 20;

/// Copies `from` of `source` to offset `to` of `target`.
///
/// `mapped` is the same range of the source in memory, for kernels and file systems that cannot
/// copy by themselves.
///
/// # Errors
/// `Interrupted` if the watch says so; otherwise the write's own (disk full, file too large).
pub(super) fn copy_range(
    source: &File,
    mapped: &[u8],
    from: Range<u64>,
    target: &File,
    to: u64,
    watch: &dyn Watch,
) -> io::Result<()> {
    let len = from.end - from.start;
    let mut done = 0;
    let mut by_kernel = cfg!(any(target_os = "linux", target_os = "android"));
    while done < len {
        if watch.interrupted() {
            return Err(ErrorKind::Interrupted.into());
        }
        let step = STEP.min(len - done);
        let copied = match by_kernel {
            true => match kernel_copy(source, from.start + done, target, to + done, step) {
                Ok(n) if n > 0 => n,
                // Another file system, an old kernel, or a file that it cannot read so.
                Ok(_) => 0,
                Err(e) if is_final(&e) => return Err(e),
                Err(_) => 0,
            },
            false => 0,
        };
        let copied = if copied > 0 {
            copied
        } else {
            by_kernel = false;
            let bytes = &mapped[done as usize..(done + step) as usize];
            write_at(target, bytes, to + done)?;
            step
        };
        done += copied;
        watch.advance(copied);
    }
    Ok(())
}

/// True where trying again by hand would only meet the same end.
fn is_final(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::FileTooLarge | ErrorKind::QuotaExceeded
    )
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn kernel_copy(
    source: &File,
    mut from: u64,
    target: &File,
    mut to: u64,
    len: u64,
) -> io::Result<u64> {
    let n = rustix::fs::copy_file_range(
        source,
        Some(&mut from),
        target,
        Some(&mut to),
        usize::try_from(len).unwrap_or(usize::MAX),
    )?;
    Ok(n as u64)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn kernel_copy(_: &File, _: u64, _: &File, _: u64, _: u64) -> io::Result<u64> {
    Err(ErrorKind::Unsupported.into())
}

/// Writes all of `bytes` at `offset`.
#[cfg(unix)]
pub(super) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

/// Writes all of `bytes` at `offset`.
#[cfg(not(unix))]
pub(super) fn write_at(mut file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    use std::io::{Seek, SeekFrom, Write};
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(bytes)
}
