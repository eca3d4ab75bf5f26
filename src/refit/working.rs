//! The file of a whole model that changes while it is restored: a copy, made when a block first
//! has to be run in the whole model.

use std::borrow::Cow;
use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::block::Replaced;
use super::error::Result;
use super::parts::Parts;
use crate::gguf::{self, GgmlType, Layout, Model, Rewrite, TensorInfo, Unwatched};
use crate::quant::{decode_rows, encode_rows};

/// A model's file.
pub(super) struct Working {
    /// The file to run.
    path: PathBuf,
    /// Where a copy would lie; None: the model does not change.
    copy: Option<PathBuf>,
    /// How many blocks of the copy are restored; None: it is not made yet.
    n_restored: Option<u32>,
}

impl Working {
    /// A model that does not change.
    pub fn fixed(model: &Model) -> Working {
        Working { path: model.shards()[0].path.clone(), copy: None, n_restored: None }
    }

    /// One that is copied to `copy` when it is needed.
    pub fn changing(model: &Model, copy: PathBuf) -> Working {
        let path = model.shards()[0].path.clone();
        Working { path, copy: Some(copy), n_restored: None }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Brings the copy to where block `block` has the bytes of `replaced`, and those before it
    /// what their parts hold.
    pub fn put(
        &mut self,
        model: &Model,
        parts: &Parts,
        (block, replaced): (u32, &Replaced),
    ) -> Result<()> {
        let Some(copy) = &self.copy else { return Ok(()) };
        if self.n_restored.is_none() {
            Rewrite::new(model, Layout::Single).write(copy, true, &Unwatched)?;
            self.path.clone_from(copy);
        }
        for part in (self.n_restored.unwrap_or(0)..block).filter_map(|block| parts.model(block)) {
            patch(copy, part.tensors().map(|t| (t.info.name.as_str(), t.info.ty, t.data())))?;
        }
        self.n_restored = Some(block);
        let new = replaced.iter().map(|(name, (ty, bytes))| (name.as_str(), *ty, &bytes[..]));
        patch(copy, new)
    }
}

/// Puts tensors' new numbers into the file at `path`, in the types that it has.
fn patch<'a>(
    path: &Path,
    tensors: impl Iterator<Item = (&'a str, GgmlType, &'a [u8])>,
) -> Result<()> {
    let open = Model::open(path)?;
    let io = |source| gguf::Error::Io { action: "write", path: path.into(), source };
    let mut file = OpenOptions::new().write(true).open(path).map_err(io)?;
    for (name, ty, bytes) in tensors {
        if let Some(tensor) = open.tensor(name) {
            let info = tensor.info;
            let at = open.shards()[tensor.shard].range(info).start;
            let bytes = match ty == info.ty {
                true => Cow::Borrowed(bytes),
                false => Cow::Owned(as_type(bytes, ty, info)?),
            };
            let write = file.seek(SeekFrom::Start(at));
            write.and_then(|_| file.write_all(&bytes)).map_err(io)?;
        }
    }
    Ok(())
}

/// The same numbers in the type of `info`: the layout of the file stays.
fn as_type(bytes: &[u8], ty: GgmlType, info: &TensorInfo) -> Result<Vec<u8>> {
    let n_cols = info.n_cols() as usize;
    let mut values = vec![0.0; info.n_rows() as usize * n_cols];
    decode_rows(ty, bytes, n_cols, &mut values)?;
    let mut out = vec![0; (info.row_bytes() * info.n_rows()) as usize];
    encode_rows(info.ty, &values, n_cols, None, &mut out)?;
    Ok(out)
}

impl Drop for Working {
    fn drop(&mut self) {
        if let Some(copy) = self.copy.take().filter(|_| self.n_restored.is_some()) {
            let _ = std::fs::remove_file(copy);
        }
    }
}
