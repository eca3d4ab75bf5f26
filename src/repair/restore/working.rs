//! The file of a whole model that changes while it is restored: a copy, made when a block first
//! has to be run in the whole model.

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::block::Replaced;
use crate::gguf::{self, Layout, Model, Rewrite, Unwatched};
use crate::repair::error::Result;

/// A model's file.
pub(super) struct Working {
    /// The file to run.
    path: PathBuf,
    /// Where a copy would lie; None: the model does not change.
    copy: Option<PathBuf>,
    /// Restored tensors of earlier blocks, for the copy when it is made.
    pending: Replaced,
    copied: bool,
}

impl Working {
    /// A model that does not change.
    pub fn fixed(model: &Model) -> Working {
        Working::new(model, None)
    }

    /// One that is copied to `copy` when it is needed.
    pub fn changing(model: &Model, copy: PathBuf) -> Working {
        Working::new(model, Some(copy))
    }

    fn new(model: &Model, copy: Option<PathBuf>) -> Working {
        let path = model.shards()[0].path.clone();
        Working { path, copy, pending: Replaced::new(), copied: false }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps tensors of a finished block for a copy to come.
    pub fn keep(&mut self, model: &Model, replaced: Replaced) -> Result<()> {
        match self.copied {
            true => self.put(model, &replaced),
            false => {
                self.pending.extend(replaced);
                Ok(())
            }
        }
    }

    /// Puts tensors' new bytes, as long as their old ones, into the copy.
    pub fn put(&mut self, model: &Model, replaced: &Replaced) -> Result<()> {
        let Some(copy) = &self.copy else { return Ok(()) };
        if !self.copied {
            Rewrite::new(model, Layout::Single).write(copy, true, &Unwatched)?;
            self.path.clone_from(copy);
            self.copied = true;
        }
        let open = Model::open(copy)?;
        let io = |source| gguf::Error::Io { action: "write", path: copy.clone(), source };
        let mut file = OpenOptions::new().write(true).open(copy).map_err(io)?;
        for (name, bytes) in self.pending.drain().chain(replaced.clone()) {
            if let Some(tensor) = open.tensor(&name) {
                let at = open.shards()[tensor.shard].range(tensor.info).start;
                let write = file.seek(SeekFrom::Start(at));
                write.and_then(|_| file.write_all(&bytes)).map_err(io)?;
            }
        }
        Ok(())
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        if let Some(copy) = self.copy.take().filter(|_| self.copied) {
            let _ = std::fs::remove_file(copy);
        }
    }
}
