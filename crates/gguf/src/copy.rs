//! Copies of untouched bytes. Where source and target lie alike in their pages the kernel copies
//! (`copy_file_range`), which shares the blocks on file systems that can (reflink) and moves whole
//! pages on the others; elsewhere bytes pass through a buffer.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Range;

use super::watch::Watch;

/// Bytes between two looks at the watch.
const STEP: u64 = 64 << 20;
/// What fits the caches of any CPU.
const BUFFER_BYTES: u64 = 256 << 10;
/// Granularity of reflinks and of the page cache.
pub(super) const PAGE_BYTES: u64 = 4096;

/// Copies `from` of `source` to offset `to` of `target`.
///
/// # Errors
/// `Interrupted` if the watch says so; otherwise the read's or write's own (disk full, file too
/// large).
pub(super) fn copy_range(
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
    copy.through_buffer(from.start..first_page)?;
    let done = copy.by_kernel(first_page..last_page)?;
    copy.through_buffer(done..last_page)?;
    copy.through_buffer(last_page..from.end)
}

/// A copy whose offsets differ by `shift`, modulo 2^64.
struct Copy<'a> {
    source: &'a File,
    target: &'a File,
    shift: u64,
    watch: &'a dyn Watch,
}

impl Copy<'_> {
    /// Copies as much of `range` as the kernel does; returns where it stopped.
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
                // Another file system, an old kernel, or a file that it cannot read so.
                _ => break,
            }
        }
        Ok(at)
    }

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

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(not(unix))]
fn read_at(mut file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(bytes)
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
