//! Small files made from nothing: adapters, statistics, control vectors, test models.

use std::path::Path;

use crate::error::{Error, Result};
use crate::ggml_type::GgmlType;
use crate::header::Header;
use crate::history::Step;
use crate::output;
use crate::tensor::{MAX_DIMS, MAX_NAME_BYTES, TensorInfo};
use crate::value::Value;

/// A new GGUF file of version 3, put together in memory and written in one go.
///
/// All bytes are in memory at once. A change of a large file is a [`Rewrite`](crate::Rewrite),
/// which streams.
#[derive(Debug, Default)]
pub struct Builder {
    header: Header,
    /// The bytes of each tensor, in the header's order.
    data: Vec<Vec<u8>>,
}

impl Builder {
    /// A file without keys and tensors.
    #[must_use]
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Sets a key. A new key comes last, a known one keeps its place.
    pub fn kv(&mut self, key: impl Into<String>, value: impl Into<Value>) -> &mut Builder {
        self.header.kv.insert(key.into(), value.into());
        self
    }

    /// Appends `step` to the file's history: see [`crate::history`].
    ///
    /// # Errors
    /// [`Error::WrongValue`]: the key of the history was set to something else than a list of
    /// texts.
    pub fn record(&mut self, step: &Step) -> Result<&mut Builder> {
        step.edits(0).iter().try_for_each(|edit| edit.apply(&mut self.header.kv))?;
        Ok(self)
    }

    /// Adds a tensor after those that are there. `shape` has the columns first (see
    /// [`TensorInfo`]), `bytes` are already encoded as `ty`.
    ///
    /// # Errors
    /// The name is taken or longer than [`MAX_NAME_BYTES`], the shape has more than [`MAX_DIMS`]
    /// dimensions or is no whole number of blocks, or `bytes` has another length than shape and
    /// type ask for.
    pub fn tensor(
        &mut self,
        name: &str,
        shape: &[u64],
        ty: GgmlType,
        bytes: Vec<u8>,
    ) -> Result<&mut Builder> {
        let info = TensorInfo { name: name.into(), shape: shape.to_vec(), ty, offset: 0 };
        if name.len() as u64 > MAX_NAME_BYTES {
            let index = self.data.len() as u64;
            return Err(Error::NameTooLong { index, len: name.len() as u64, offset: 0 });
        }
        if shape.len() > MAX_DIMS as usize {
            let n_dims = shape.len() as u32;
            return Err(Error::TooManyDims { name: name.into(), n_dims, offset: 0 });
        }
        info.validate()?;
        if info.n_bytes() != bytes.len() as u64 {
            return Err(Error::WrongSize {
                name: name.into(),
                found: bytes.len() as u64,
                expected: info.n_bytes(),
                shape: info.shape_text(),
                ty: ty.name(),
            });
        }
        if self.header.tensors.contains_key(name) {
            return Err(Error::DuplicateTensor { name: name.into(), offset: 0 });
        }
        self.header.tensors.insert(name.into(), info);
        self.data.push(bytes);
        Ok(self)
    }

    /// The whole file. Whether its keys can be read again is checked by [`Builder::write`] only.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut header = self.header.clone();
        header.lay_out();
        let alignment = header.alignment() as usize;
        let mut out = header.encode();
        for bytes in &self.data {
            out.extend(bytes);
            // The last tensor too: llama.cpp does not ask for that padding, but its writer adds it.
            out.resize(out.len().next_multiple_of(alignment), 0);
        }
        out
    }

    /// Writes the file whole or not at all, as [`write_file`](crate::write_file) does.
    ///
    /// # Errors
    /// A key would make the file unreadable, e.g. an empty one or an alignment of 3; or the folder
    /// cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let bytes = self.encode();
        Header::parse(&bytes).map_err(|e| e.in_file(path))?;
        output::write_file(path, &bytes)
    }
}
