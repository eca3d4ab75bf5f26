//! A little-endian reader over a header's bytes: every read is checked, and no bytes make it panic.

use crate::error::{Error, Result};

/// `GGUF_MAX_STRING_LENGTH` of llama.cpp's `gguf.cpp`: 1 GiB.
pub(crate) const MAX_STRING_BYTES: u64 = 1 << 30;

/// Reads forward through `bytes`, which begin where the file does: a position is a file offset.
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, position: 0 }
    }

    pub(crate) fn position(&self) -> usize {
        self.position
    }

    /// The position, as errors give it.
    pub(crate) fn offset(&self) -> u64 {
        self.position as u64
    }

    /// Everything read since the position `start`.
    pub(crate) fn since(&self, start: usize) -> &'a [u8] {
        &self.bytes[start..self.position]
    }

    /// The next `n` bytes; an error if there are fewer.
    pub(crate) fn take(&mut self, n: u64) -> Result<&'a [u8]> {
        let left = self.bytes.len() - self.position;
        match usize::try_from(n) {
            Ok(n) if n <= left => {
                let taken = &self.bytes[self.position..self.position + n];
                self.position += n;
                Ok(taken)
            }
            _ => Err(Error::Truncated { offset: self.offset(), needed: n, left: left as u64 }),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N as u64)?);
        Ok(out)
    }

    pub(crate) fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A u64 length, then as many bytes.
    pub(crate) fn string(&mut self) -> Result<&'a [u8]> {
        let offset = self.offset();
        let len = self.u64()?;
        if len > MAX_STRING_BYTES {
            return Err(Error::StringTooLong { len, offset });
        }
        self.take(len)
    }
}
