//! A little-endian reader over a header's bytes: every read is checked, none panics.

use super::error::{Error, Result};

/// `GGUF_MAX_STRING_LENGTH` of llama.cpp's `gguf.cpp`: 1 GiB.
pub const MAX_STRING_BYTES: u64 = 1 << 30;

/// Reads forward through `bytes`; offsets in errors count from the file's beginning.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, position: 0 }
    }

    pub fn position(&self) -> usize {
        self.position
    }

    /// The position as a file offset.
    pub fn offset(&self) -> u64 {
        self.position as u64
    }

    /// Everything read since `start`.
    pub fn since(&self, start: usize) -> &'a [u8] {
        &self.bytes[start..self.position]
    }

    pub fn take(&mut self, n: u64) -> Result<&'a [u8]> {
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

    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A length and as many bytes.
    pub fn string(&mut self) -> Result<&'a [u8]> {
        let offset = self.offset();
        let len = self.u64()?;
        if len > MAX_STRING_BYTES {
            return Err(Error::StringTooLong { len, offset });
        }
        self.take(len)
    }
}
