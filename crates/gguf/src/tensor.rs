//! A tensor's entry in the header: its name, shape, type and place.

use std::fmt;

use super::cursor::Cursor;
use super::error::{Error, Result};
use super::ggml_type::GgmlType;

/// `GGML_MAX_NAME` - 1 of llama.cpp's `ggml.h`.
pub const MAX_NAME_BYTES: u64 = 63;
/// `GGML_MAX_DIMS` of llama.cpp's `ggml.h`.
pub const MAX_DIMS: u32 = 4;

/// Name, shape, type and offset of a tensor.
///
/// `shape[0]` is the contiguous dimension: the inputs of a linear layer. All further ones
/// multiply to the rows: `W` is `[n_out, n_in]` with `shape == [n_in, n_out]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Unique, at most 63 bytes.
    pub name: String,
    /// At most four; trailing ones are kept as they were written.
    pub shape: Vec<u64>,
    /// Element type.
    pub ty: GgmlType,
    /// Bytes from the beginning of the file's data section.
    pub offset: u64,
}

impl TensorInfo {
    /// Elements of a row: `shape[0]`.
    pub fn n_cols(&self) -> u64 {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Rows over all further dimensions; checked when the header was parsed.
    pub fn n_rows(&self) -> u64 {
        self.shape.iter().skip(1).product()
    }

    /// `n_cols * n_rows`.
    pub fn n_elements(&self) -> u64 {
        self.n_cols() * self.n_rows()
    }

    /// Bytes of a row.
    pub fn row_bytes(&self) -> u64 {
        self.row_bytes_as(self.ty).unwrap_or(0)
    }

    /// Bytes of a row if it were of type `ty`; None if a row is no whole number of blocks.
    pub fn row_bytes_as(&self, ty: GgmlType) -> Option<u64> {
        ty.bytes_for(self.n_cols())
    }

    /// Bytes of all rows, without padding.
    pub fn n_bytes(&self) -> u64 {
        self.row_bytes() * self.n_rows()
    }

    /// True for weights of two dimensions and more.
    pub fn is_matrix(&self) -> bool {
        self.shape.iter().filter(|&&n| n > 1).count() >= 2
    }

    /// The number N of `blk.N.`, for tensors that belong to a block.
    pub fn block(&self) -> Option<u32> {
        block_of(&self.name)
    }

    /// The shape as llama.cpp prints it, inputs first: `576 x 1536`.
    pub fn shape_text(&self) -> String {
        shape_text(&self.shape)
    }

    pub(super) fn decode(cursor: &mut Cursor<'_>, index: u64) -> Result<TensorInfo> {
        let offset = cursor.offset();
        let name = cursor.string()?;
        if name.len() as u64 > MAX_NAME_BYTES {
            return Err(Error::NameTooLong { index, len: name.len() as u64, offset });
        }
        let name = utf8(name, "tensor name", index, offset)?.to_owned();
        let at = cursor.offset();
        let n_dims = cursor.u32()?;
        if n_dims > MAX_DIMS {
            return Err(Error::TooManyDims { name, n_dims, offset: at });
        }
        let shape = (0..n_dims).map(|_| cursor.u64()).collect::<Result<Vec<_>>>()?;
        let at = cursor.offset();
        let id = cursor.u32()?;
        let offset = cursor.u64()?;
        let Some(ty) = GgmlType::from_id(id) else {
            return Err(Error::UnknownTensorType { name, id, offset: at });
        };
        let info = TensorInfo { name, shape, ty, offset };
        info.validate()?;
        Ok(info)
    }

    /// The size must be countable in an i64, as in ggml, and rows whole blocks.
    fn validate(&self) -> Result<()> {
        let overflow =
            || Error::ShapeOverflow { name: self.name.clone(), shape: self.shape_text() };
        // A dimension of 0 must not hide an overflow of the others.
        let limit = i64::MAX as u64;
        let n = self
            .shape
            .iter()
            .try_fold(1u64, |n, &d| n.checked_mul(d.max(1)).filter(|&n| n <= limit && d <= limit));
        let n = n.ok_or_else(overflow)?;
        let block_len = self.ty.layout().block_len;
        if self.row_bytes_as(self.ty).is_none() && self.n_cols().is_multiple_of(block_len) {
            return Err(overflow());
        }
        if !self.n_cols().is_multiple_of(block_len) {
            return Err(Error::PartialBlock {
                name: self.name.clone(),
                n_cols: self.n_cols(),
                ty: self.ty.name(),
                block_len,
            });
        }
        let blocks = n / block_len;
        match blocks.checked_mul(self.ty.layout().block_bytes) {
            Some(bytes) if bytes <= limit => Ok(()),
            _ => Err(overflow()),
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend((self.name.len() as u64).to_le_bytes());
        out.extend(self.name.as_bytes());
        out.extend((self.shape.len() as u32).to_le_bytes());
        for &n in &self.shape {
            out.extend(n.to_le_bytes());
        }
        out.extend(self.ty.id().to_le_bytes());
        out.extend(self.offset.to_le_bytes());
    }
}

impl fmt::Display for TensorInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} [{}]", self.name, self.ty, self.shape_text())
    }
}

/// The number N of a tensor's name `blk.N.`.
pub fn block_of(name: &str) -> Option<u32> {
    name.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}

/// What follows `blk.N.` in a tensor's name; None outside blocks.
pub fn within_block(name: &str) -> Option<&str> {
    Some(name.strip_prefix("blk.")?.split_once('.')?.1)
}

/// `576 x 1536`; a scalar is `1`.
pub fn shape_text(shape: &[u64]) -> String {
    if shape.is_empty() {
        return "1".into();
    }
    shape.iter().map(u64::to_string).collect::<Vec<_>>().join(" x ")
}

pub(super) fn utf8<'a>(
    bytes: &'a [u8],
    what: &'static str,
    index: u64,
    offset: u64,
) -> Result<&'a str> {
    std::str::from_utf8(bytes).map_err(|_| Error::NotUtf8 {
        what,
        index,
        offset,
        found: String::from_utf8_lossy(bytes).into_owned(),
    })
}
