//! Finished blocks, beside the output: what an interrupted run goes on from.

use std::path::{Path, PathBuf};

use super::block::Replaced;
use super::error::Result;
use super::report::BlockReport;
use crate::gguf::{self, Builder, Model};

/// What a part was made of, as the caller put it.
const MADE_OF: &str = "aird.restore.made_of";
/// The block's report, as JSON.
const REPORT: &str = "aird.restore.report";

/// A folder of finished blocks, a GGUF file each.
#[derive(Debug)]
pub struct Parts {
    folder: PathBuf,
    made_of: String,
}

impl Parts {
    /// Those in `folder`, which is made if it is not there. `made_of` names everything that they
    /// depend on: parts of anything else are not used.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open(folder: &Path, made_of: String) -> Result<Parts> {
        let io = |source| gguf::Error::Io { action: "create", path: folder.into(), source };
        std::fs::create_dir_all(folder).map_err(io)?;
        Ok(Parts { folder: folder.into(), made_of })
    }

    /// Where they are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn path(&self, block: u32) -> PathBuf {
        self.folder.join(format!("block-{block:05}.gguf"))
    }

    /// The part of a block, opened; None if it is missing or was made of something else.
    pub fn model(&self, block: u32) -> Option<Model> {
        let part = Model::open(&self.path(block)).ok()?;
        let same = part.text(MADE_OF).ok()? == Some(self.made_of.as_str());
        same.then_some(part)
    }

    /// The parts of the first `n_block` blocks that are there.
    pub fn models(&self, n_block: usize) -> Vec<Model> {
        (0..n_block as u32).filter_map(|block| self.model(block)).collect()
    }

    pub(super) fn read(&self, block: u32) -> Result<Option<(Replaced, BlockReport)>> {
        let Some(part) = self.model(block) else { return Ok(None) };
        let Some(report) = part.text(REPORT)?.and_then(|text| serde_json::from_str(text).ok())
        else {
            return Ok(None);
        };
        let bytes = part.tensors().map(|t| (t.info.name.clone(), (t.info.ty, t.data().to_vec())));
        Ok(Some((bytes.collect(), report)))
    }

    pub(super) fn write(
        &self,
        block: u32,
        model: &Model,
        replaced: &Replaced,
        report: &BlockReport,
    ) -> Result<()> {
        let mut file = Builder::new();
        file.kv(MADE_OF, self.made_of.as_str());
        file.kv(REPORT, serde_json::to_string(report).unwrap_or_default());
        let of_block = model.tensors().map(|tensor| tensor.info);
        for info in of_block.filter(|info| replaced.contains_key(&info.name)) {
            let (ty, bytes) = &replaced[&info.name];
            file.tensor(&info.name, &info.shape, *ty, bytes.as_slice().into())?;
        }
        Ok(file.write(&self.path(block))?)
    }

    /// True if a block is there; else the folder is removed.
    pub fn has_any(&self) -> bool {
        // A folder with something in it is not removed by this.
        std::fs::remove_dir(&self.folder).is_err() && self.folder.exists()
    }

    /// Removes the folder.
    pub fn remove(self) {
        let _ = std::fs::remove_dir_all(self.folder);
    }
}
