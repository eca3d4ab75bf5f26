//! Small files made from nothing: adapters, statistics, control vectors, test models.

use std::path::Path;

use super::error::{Error, Result};
use super::ggml_type::GgmlType;
use super::header::Header;
use super::history::Step;
use super::output;
use super::tensor::{MAX_NAME_BYTES, TensorInfo, shape_text};
use super::value::Value;

/// A file held in memory until it is written.
#[derive(Debug, Default)]
pub struct Builder {
    header: Header,
    data: Vec<Vec<u8>>,
}

impl Builder {
    /// An empty file of version 3.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Sets a key; a new one comes last.
    pub fn kv(&mut self, key: impl Into<String>, value: impl Into<Value>) -> &mut Builder {
        self.header.kv.insert(key.into(), value.into());
        self
    }

    /// Records what made the file in its history.
    ///
    /// # Errors
    /// The history is no list of texts.
    pub fn record(&mut self, step: &Step) -> Result<&mut Builder> {
        step.edits(0).iter().try_for_each(|edit| edit.apply(&mut self.header.kv))?;
        Ok(self)
    }

    /// Adds a tensor of `shape` (inputs first) with its encoded bytes.
    ///
    /// # Errors
    /// The name is taken or too long, or `bytes` are not what shape and type ask for.
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
        if info.row_bytes_as(ty).is_none() || info.n_bytes() != bytes.len() as u64 {
            let shape = format!("{} {ty} for {} bytes", shape_text(shape), bytes.len());
            return Err(Error::ShapeOverflow { name: name.into(), shape });
        }
        if self.header.tensors.insert(name.into(), info).is_some() {
            return Err(Error::DuplicateTensor { name: name.into(), offset: 0 });
        }
        self.data.push(bytes);
        Ok(self)
    }

    /// The whole file.
    pub fn encode(&self) -> Vec<u8> {
        let mut header = self.header.clone();
        header.lay_out();
        let alignment = header.alignment() as usize;
        let mut out = header.encode();
        for bytes in &self.data {
            out.extend(bytes);
            out.resize(out.len().next_multiple_of(alignment), 0);
        }
        out
    }

    /// Writes the file whole or not at all.
    ///
    /// # Errors
    /// See [`output::write_file`].
    pub fn write(&self, path: &Path) -> Result<()> {
        output::write_file(path, &self.encode())
    }
}
