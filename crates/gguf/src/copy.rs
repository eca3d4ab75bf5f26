//! Reads, writes and copies at an offset in a file.
//!
//! Untouched bytes are copied by the kernel (`copy_file_range`) where source and target have the
//! same offset within a page: file systems with reflinks (Btrfs, XFS) then share the blocks, the
//! others move whole pages. Elsewhere bytes pass through a buffer.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Range;

use crate::watch::Watch;

/// Bytes copied by the kernel between two calls of the watch.
const STEP: u64 = 64 << 20;
/// Small enough for the L2 cache of common CPUs: the copy is read while it is still there.
const BUFFER_BYTES: u64 = 256 << 10;
/// Granularity of reflinks and of the page cache.
pub(crate) const PAGE_BYTES: u64 = 4096;

/// Copies the bytes `from` of `source` to offset `to` of `target`.
///
/// # Errors
/// `ErrorKind::Interrupted` if the watch was interrupted; otherwise the error of the read or the
/// write (disk full, file too large).
pub(crate) fn copy_range(
    source: &File,
    from: Range<u64>,
    target: &File,
    to: u64,
    watch: &dyn Watch,
) -> io::Result<()> {
    let copy = Copy { source, target, shift: to.wrapping_sub(from.start), watch };
    let first_page = from.start.next_multiple_of(PAGE_BYTES);
    let last_page = from.end / PAGE_BYTES * PAGE_BYTES;
    if !copy.shift.is_multiple_of(PAGE_BYTES) || first_page >= last_page {
        return copy.through_buffer(from);
    }
    // Only whole pages can be shared: what sticks out at both ends passes through the buffer.
    copy.through_buffer(from.start..first_page)?;
    let done = copy.by_kernel(first_page..last_page)?;
    copy.through_buffer(done..last_page)?;
    copy.through_buffer(last_page..from.end)
}

/// A copy from one file into another.
struct Copy<'a> {
    source: &'a File,
    target: &'a File,
    /// Target offset minus source offset, modulo 2^64: it may be negative.
    shift: u64,
    watch: &'a dyn Watch,
}

impl Copy<'_> {
    /// Copies `range` of the source as far as the kernel does it; returns the source offset where
    /// it stopped.
    fn by_kernel(&self, range: Range<u64>) -> io::Result<u64> {
        let mut at = range.start;
        while at < range.end {
            self.check_interrupt()?;
            let to = at.wrapping_add(self.shift);
            match kernel_copy(self.source, at, self.target, to, STEP.min(range.end - at)) {
                Ok(n) if n > 0 => {
                    at += n;
                    self.watch.advance(n);
                }
                Err(e) if is_final(&e) => return Err(e),
                // Another file system, an old kernel, or a kind of file that it does not copy: the
                // buffer does it, and meets any other error again.
                _ => break,
            }
        }
        Ok(at)
    }

    /// Copies `range` of the source by reading and writing.
    fn through_buffer(&self, range: Range<u64>) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER_BYTES.min(range.end - range.start) as usize];
        let mut at = range.start;
        while at < range.end {
            self.check_interrupt()?;
            let n = BUFFER_BYTES.min(range.end - at);
            let buffer = &mut buffer[..n as usize];
            read_at(self.source, buffer, at)?;
            write_at(self.target, buffer, at.wrapping_add(self.shift))?;
            at += n;
            self.watch.advance(n);
        }
        Ok(())
    }

    fn check_interrupt(&self) -> io::Result<()> {
        if self.watch.interrupted() { Err(ErrorKind::Interrupted.into()) } else { Ok(()) }
    }
}

/// True for errors that copying through a buffer would only meet again.
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

/// Fills `bytes` from `offset` on; the end of the file before that is an `UnexpectedEof`. Safe to
/// call from several threads on one file.
#[cfg(unix)]
pub(crate) fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

/// Fills `bytes` from `offset` on; the end of the file before that is an `UnexpectedEof`. Safe to
/// call from several threads on one file.
#[cfg(windows)]
pub(crate) fn read_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let n = std::os::windows::fs::FileExt::seek_read(file, bytes, offset)?;
        if n == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        bytes = &mut bytes[n..];
        offset += n as u64;
    }
    Ok(())
}

/// Writes all of `bytes` at `offset`. Safe to call from several threads on one file.
#[cfg(unix)]
pub(crate) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

/// Writes all of `bytes` at `offset`. Safe to call from several threads on one file.
#[cfg(windows)]
pub(crate) fn write_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let n = std::os::windows::fs::FileExt::seek_write(file, bytes, offset)?;
        if n == 0 {
            return Err(ErrorKind::WriteZero.into());
        }
        bytes = &bytes[n..];
        offset += n as u64;
    }
    Ok(())
}
