//! A tensor's entry in the header: its name, shape, type and offset.
//!
//! ```text
//! entry = name: string | n_dims: u32 | n_dims x u64 | type: u32 | offset: u64
//! ```

use std::fmt;

use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::ggml_type::GgmlType;

/// The longest name of a tensor, in bytes: `GGML_MAX_NAME` - 1 of llama.cpp's `ggml.h`.
pub const MAX_NAME_BYTES: u64 = 63;
/// The most dimensions of a tensor: `GGML_MAX_DIMS` of llama.cpp's `ggml.h`.
pub const MAX_DIMS: u32 = 4;

/// Name, shape, type and offset of a tensor.
///
/// `shape[0]` is the contiguous dimension, the columns: the inputs of a linear layer. The product
/// of all further ones is the number of rows. A matrix `W` of `[n_out, n_in]`, as PyTorch prints
/// it, has the shape `[n_in, n_out]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Unique in the model, at most [`MAX_NAME_BYTES`].
    pub name: String,
    /// At most [`MAX_DIMS`] dimensions, as they were written: dimensions of 1 at the end are kept.
    pub shape: Vec<u64>,
    /// How the elements are encoded.
    pub ty: GgmlType,
    /// Bytes from the beginning of the tensors' data to this tensor's.
    pub offset: u64,
}

impl TensorInfo {
    /// Elements of a row: `shape[0]`, or 1 for a scalar.
    #[must_use]
    pub fn n_cols(&self) -> u64 {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Rows: the product of all dimensions after the first. It does not overflow in a header that
    /// was parsed.
    #[must_use]
    pub fn n_rows(&self) -> u64 {
        self.shape.iter().skip(1).product()
    }

    /// Elements of the tensor: `n_cols * n_rows`.
    #[must_use]
    pub fn n_elements(&self) -> u64 {
        self.n_cols() * self.n_rows()
    }

    /// Bytes of an encoded row; 0 if a row is no whole number of blocks, which no parsed header
    /// has.
    #[must_use]
    pub fn row_bytes(&self) -> u64 {
        self.row_bytes_as(self.ty).unwrap_or(0)
    }

    /// Bytes of a row encoded as `ty`; None if a row is no whole number of that type's blocks.
    #[must_use]
    pub fn row_bytes_as(&self, ty: GgmlType) -> Option<u64> {
        ty.bytes_for(self.n_cols())
    }

    /// Bytes of all rows, without padding.
    #[must_use]
    pub fn n_bytes(&self) -> u64 {
        self.row_bytes() * self.n_rows()
    }

    /// True if at least two dimensions are greater than 1: a weight matrix, not a bias or a norm.
    #[must_use]
    pub fn is_matrix(&self) -> bool {
        self.shape.iter().filter(|&&n| n > 1).count() >= 2
    }

    /// As [`block_of`] its name.
    #[must_use]
    pub fn block(&self) -> Option<u32> {
        block_of(&self.name)
    }

    /// As [`shape_text`] of its shape.
    #[must_use]
    pub fn shape_text(&self) -> String {
        shape_text(&self.shape)
    }

    /// Reads and checks the entry of tensor `index`.
    pub(crate) fn decode(cursor: &mut Cursor<'_>, index: u64) -> Result<TensorInfo> {
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

    /// Checks that rows are whole blocks, and that elements and bytes fit an i64, in which ggml
    /// counts them.
    pub(crate) fn validate(&self) -> Result<()> {
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

    /// Appends the entry's bytes.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
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

/// The number of the block that a tensor belongs to: N of a name `blk.N.REST`; None for others.
#[must_use]
pub fn block_of(name: &str) -> Option<u32> {
    name.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}

/// REST of a tensor's name `blk.N.REST`: its role in the block; None for others.
#[must_use]
pub fn within_block(name: &str) -> Option<&str> {
    Some(name.strip_prefix("blk.")?.split_once('.')?.1)
}

/// A shape as llama.cpp prints it, columns first: `576 x 1536`. A scalar is `1`.
#[must_use]
pub fn shape_text(shape: &[u64]) -> String {
    if shape.is_empty() {
        return "1".into();
    }
    shape.iter().map(u64::to_string).collect::<Vec<_>>().join(" x ")
}

/// The text of `bytes`, or the error that names what is not UTF-8, and where.
pub(crate) fn utf8<'a>(
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
