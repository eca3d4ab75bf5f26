//! The file of a whole model that changes while it is restored: a copy, made when a block first has
//! to be run in the whole model.

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::block::{NewTensor, NewTensors};
use super::error::Result;
use super::job::{Jobs, job_of};
use super::parts::Parts;
use crate::gguf::{
    self, Ask, BoxError, GgmlType, Layout, Model, Replacement, Rewrite, Tensor, Unwatched,
};
use crate::quant::{decoded, encode_rows};

/// A model's file, or the copy of it that changes.
pub(super) struct WorkingFile<'a> {
    /// The file to run.
    path: PathBuf,
    /// What its matrices become.
    job: Option<Jobs<'a>>,
    /// Where a copy will be; None: the model does not change.
    copy: Option<PathBuf>,
    /// How many blocks of the copy are restored; None: there is no copy yet.
    n_restored: Option<u32>,
}

impl<'a> WorkingFile<'a> {
    /// A file that does not change.
    pub(super) fn fixed(model: &Model) -> WorkingFile<'a> {
        let path = model.shards()[0].path.clone();
        WorkingFile { path, job: None, copy: None, n_restored: None }
    }

    /// A file that is copied to `copy` when it is needed.
    pub(super) fn changing(model: &Model, copy: PathBuf, job: Jobs<'a>) -> WorkingFile<'a> {
        let path = model.shards()[0].path.clone();
        WorkingFile { path, job: Some(job), copy: Some(copy), n_restored: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Updates the copy: block `block` gets the bytes of `replaced`, and blocks before it those of
    /// their parts.
    pub(super) fn put(
        &mut self,
        model: &Model,
        parts: &Parts,
        (block, replaced): (u32, &NewTensors),
    ) -> Result<()> {
        let Some(copy) = &self.copy else { return Ok(()) };
        if self.n_restored.is_none() {
            self.copied(model, copy)?;
            self.path.clone_from(copy);
        }
        for done in self.n_restored.unwrap_or(0)..block {
            if let Some((replaced, _)) = parts.read(done, model)? {
                patch(copy, &replaced)?;
            }
        }
        self.n_restored = Some(block);
        patch(copy, replaced)
    }

    /// Writes the copy, with room for what matrices become: a type has one size.
    fn copied(&self, model: &Model, copy: &Path) -> Result<()> {
        let mut rewrite = Rewrite::new(model, Layout::Single);
        for tensor in model.tensors() {
            let job = self.job.and_then(|job| job_of(tensor.info, job).ok());
            if let Some(job) = job.filter(|job| job.ty() != tensor.info.ty) {
                rewrite.replace(&tensor.info.name, as_type(tensor, job.ty()))?;
            }
        }
        Ok(rewrite.write(copy, true, &Unwatched).map(drop)?)
    }
}

/// Writes tensors' new values into the file at `path`, in its types.
fn patch(path: &Path, replaced: &NewTensors) -> Result<()> {
    let open = Model::open(path)?;
    let io = |source| gguf::Error::Io { action: "write", path: path.into(), source };
    let mut file = OpenOptions::new().write(true).open(path).map_err(io)?;
    for (name, NewTensor { ty, bytes, .. }) in replaced {
        if let Some(tensor) = open.tensor(name) {
            let info = tensor.info;
            let at = open.shards()[tensor.shard].range(info).start;
            debug_assert_eq!(*ty, info.ty, "{name}");
            let write = file.seek(SeekFrom::Start(at));
            write.and_then(|_| file.write_all(bytes)).map_err(io)?;
        }
    }
    Ok(())
}

/// `tensor`'s values in another type.
fn as_type(tensor: Tensor<'_>, ty: GgmlType) -> Replacement<'_> {
    let produce = move |rows: Range<u64>, out: &mut [u8]| -> std::result::Result<(), BoxError> {
        let values = decoded(tensor, rows)?;
        Ok(encode_rows(ty, &values, tensor.info.n_cols() as usize, None, out)?)
    };
    Replacement { ty, ask: Ask::Chunks, produce: Box::new(produce) }
}

impl Drop for WorkingFile<'_> {
    fn drop(&mut self) {
        if let Some(copy) = self.copy.take().filter(|_| self.n_restored.is_some()) {
            let _ = std::fs::remove_file(copy);
        }
    }
}
