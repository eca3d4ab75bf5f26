//! The header: everything before the tensors' bytes, parsed without loss.
//!
//! ```text
//! "GGUF" | version: u32 | n_tensors: u64 | n_kv: u64
//! n_kv     x key-value             (value.rs)
//! n_tensors x tensor info          (tensor.rs)
//! zeros up to a multiple of general.alignment
//! tensors' bytes, each padded to the alignment, in the order of the infos
//! ```
//! The rules are those of llama.cpp's reader, `ggml/src/gguf.cpp`: what it refuses is refused
//! here, with the place.

use indexmap::IndexMap;

use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::tensor::{TensorInfo, utf8};
use crate::value::Value;

/// Bytes that tensors are aligned to where [`ALIGNMENT_KEY`] is absent: `GGUF_DEFAULT_ALIGNMENT` of
/// llama.cpp's `gguf.h`.
pub const DEFAULT_ALIGNMENT: u64 = 32;
/// The key of another alignment: a u32, a power of two.
pub const ALIGNMENT_KEY: &str = "general.alignment";

const MAGIC: &[u8; 4] = b"GGUF";
/// Version 1 had 32-bit counts. Versions 2 and 3 differ only in that 3 may be big-endian.
const VERSIONS: std::ops::RangeInclusive<u32> = 2..=3;
/// Bytes of the smallest key-value: length and letter of its key, type, a value of one byte.
const MIN_KV_BYTES: u64 = 8 + 1 + 4 + 1;
/// Bytes of the smallest tensor info: length of an empty name, no dimensions, type, offset.
const MIN_TENSOR_BYTES: u64 = 8 + 4 + 4 + 8;

/// Key-values by key, in the file's order.
pub type KvMap = IndexMap<String, Value>;
/// Tensor infos by name, in the file's order.
pub type TensorMap = IndexMap<String, TensorInfo>;

/// Everything before the tensors' bytes. What [`Header::parse`] read, [`Header::encode`] writes
/// back to the byte.
///
/// `==` compares keys and tensors whatever their order is; to compare the order as well, compare
/// [`Header::encode`].
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// The format's version, 2 or 3.
    pub version: u32,
    /// The keys, in the file's order.
    pub kv: KvMap,
    /// The tensors' entries, in the file's order, which is also that of their bytes.
    pub tensors: TensorMap,
}

impl Header {
    /// A header of version 3 without keys and tensors.
    #[must_use]
    pub fn new() -> Header {
        Header { version: 3, kv: KvMap::new(), tensors: TensorMap::new() }
    }

    /// Parses the header at the beginning of `bytes`, which may go on with the data. Returns it and
    /// the offset where the tensors' bytes begin.
    ///
    /// # Errors
    /// Whatever llama.cpp's reader refuses, and keys or names that are not UTF-8. Whether the
    /// tensors' bytes are there is not checked: see [`Header::check_data`].
    pub fn parse(bytes: &[u8]) -> Result<(Header, u64)> {
        let mut cursor = Cursor::new(bytes);
        let version = parse_preamble(&mut cursor)?;
        let n_tensors = parse_count(&mut cursor, "tensors", MIN_TENSOR_BYTES, bytes)?;
        let n_kv = parse_count(&mut cursor, "keys", MIN_KV_BYTES, bytes)?;
        let kv = parse_kv(&mut cursor, n_kv)?;
        let alignment = alignment_of(&kv)?;
        let tensors = parse_tensors(&mut cursor, n_tensors, alignment)?;
        let data_offset = cursor.offset().next_multiple_of(alignment);
        Ok((Header { version, kv, tensors }, data_offset))
    }

    /// Checks that every tensor ends within a file of `file_bytes`, whose data begins at
    /// `data_offset`.
    ///
    /// # Errors
    /// [`Error::TensorPastEnd`] names the first that does not.
    pub fn check_data(&self, data_offset: u64, file_bytes: u64) -> Result<()> {
        for tensor in self.tensors.values() {
            // No overflow: parse_tensors added up the same numbers.
            let end = data_offset.saturating_add(tensor.offset + tensor.n_bytes());
            if end > file_bytes {
                return Err(Error::TensorPastEnd { name: tensor.name.clone(), end, file_bytes });
            }
        }
        Ok(())
    }

    /// The header's bytes, padded with zeros to the alignment: the tensors' bytes follow.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(MAGIC);
        out.extend(self.version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.kv.len() as u64).to_le_bytes());
        for (key, value) in &self.kv {
            out.extend((key.len() as u64).to_le_bytes());
            out.extend(key.as_bytes());
            value.encode(&mut out);
        }
        for tensor in self.tensors.values() {
            tensor.encode(&mut out);
        }
        let padded = (out.len() as u64).next_multiple_of(self.alignment());
        out.resize(padded as usize, 0);
        out
    }

    /// The bytes that the offset of every tensor is a multiple of: [`ALIGNMENT_KEY`], or
    /// [`DEFAULT_ALIGNMENT`] if it is absent or no power of two.
    #[must_use]
    pub fn alignment(&self) -> u64 {
        alignment_of(&self.kv).unwrap_or(DEFAULT_ALIGNMENT)
    }

    /// Sets each tensor's offset to the padded sizes of all tensors before it: the only layout that
    /// llama.cpp takes. Call it after any change of a tensor's shape, type or place.
    pub fn lay_out(&mut self) {
        let alignment = self.alignment();
        let mut offset = 0;
        for tensor in self.tensors.values_mut() {
            tensor.offset = offset;
            offset += tensor.n_bytes().next_multiple_of(alignment);
        }
    }
}

impl Default for Header {
    fn default() -> Header {
        Header::new()
    }
}

/// Reads magic and version; returns the version.
fn parse_preamble(cursor: &mut Cursor<'_>) -> Result<u32> {
    let magic = cursor.take(MAGIC.len() as u64)?;
    if magic != MAGIC {
        return Err(Error::BadMagic { found: String::from_utf8_lossy(magic).into_owned() });
    }
    let version = cursor.u32()?;
    if VERSIONS.contains(&version.swap_bytes()) {
        return Err(Error::BigEndian { version });
    }
    if !VERSIONS.contains(&version) {
        return Err(Error::Version { version });
    }
    Ok(version)
}

/// A count. It is refused if the file could not hold as many, so that no loop and no allocation is
/// larger than the file explains.
fn parse_count(
    cursor: &mut Cursor<'_>,
    what: &'static str,
    min_bytes: u64,
    file: &[u8],
) -> Result<u64> {
    let count = cursor.u64()?;
    let file_bytes = file.len() as u64;
    if count > file_bytes / min_bytes {
        return Err(Error::CountTooLarge { what, count, file_bytes });
    }
    Ok(count)
}

fn parse_kv(cursor: &mut Cursor<'_>, n_kv: u64) -> Result<KvMap> {
    let mut kv = KvMap::new();
    for index in 0..n_kv {
        let offset = cursor.offset();
        let key = utf8(cursor.string()?, "key", index, offset)?.to_owned();
        if key.is_empty() {
            return Err(Error::EmptyKey { index, offset });
        }
        if kv.contains_key(&key) {
            return Err(Error::DuplicateKey { key, offset });
        }
        let value = Value::decode(cursor, &key)?;
        kv.insert(key, value);
    }
    Ok(kv)
}

fn parse_tensors(cursor: &mut Cursor<'_>, n_tensors: u64, alignment: u64) -> Result<TensorMap> {
    let mut tensors = TensorMap::new();
    let mut expected = 0u64;
    for index in 0..n_tensors {
        let at = cursor.offset();
        let info = TensorInfo::decode(cursor, index)?;
        if info.offset != expected {
            return Err(Error::WrongOffset { name: info.name, found: info.offset, expected });
        }
        // ggml counts sizes in an i64: so does this, and no sum below can overflow a u64.
        let padded = info.n_bytes().checked_next_multiple_of(alignment);
        let end = padded.and_then(|n| n.checked_add(expected)).filter(|&n| n <= i64::MAX as u64);
        let Some(end) = end else {
            let shape = info.shape_text();
            return Err(Error::ShapeOverflow { name: info.name, shape });
        };
        expected = end;
        if tensors.contains_key(&info.name) {
            return Err(Error::DuplicateTensor { name: info.name, offset: at });
        }
        tensors.insert(info.name.clone(), info);
    }
    Ok(tensors)
}

fn alignment_of(kv: &KvMap) -> Result<u64> {
    match kv.get(ALIGNMENT_KEY) {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(&Value::U32(n)) if n.is_power_of_two() => Ok(n.into()),
        Some(other) => Err(Error::WrongValue {
            key: ALIGNMENT_KEY.into(),
            found: other.brief(),
            expected: "a u32 that is a power of two",
        }),
    }
}
