//! Finished blocks, beside the output: an interrupted run continues from them.

use std::path::{Path, PathBuf};

use super::block::{NewTensor, NewTensors};
use super::error::Result;
use super::factors::{self, Factors};
use super::fit::with_factors;
use super::report::BlockReport;
use crate::gguf::{self, Builder, Model, TensorInfo};

/// Key of what a part was made of, in the caller's words.
const MADE_OF: &str = "aird.restore.made_of";
/// Key of the block's report, as JSON.
const REPORT: &str = "aird.restore.report";

/// Suffix of the names of factors, as in llama.cpp's adapters.
const A: &str = ".lora_a";
/// See [`A`].
const B: &str = ".lora_b";

/// A folder of finished blocks, a GGUF file each.
#[derive(Debug)]
pub struct Parts {
    folder: PathBuf,
    made_of: String,
}

impl Parts {
    /// The parts in `folder`, which is created if it does not exist. `made_of` names everything
    /// that they depend on: other parts are not used.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open(folder: &Path, made_of: String) -> Result<Parts> {
        let io = |source| gguf::Error::Io { action: "create", path: folder.into(), source };
        std::fs::create_dir_all(folder).map_err(io)?;
        Ok(Parts { folder: folder.into(), made_of })
    }

    /// The folder of the parts.
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

    /// The existing parts of the first `n_block` blocks.
    pub fn models(&self, n_block: usize) -> Vec<Model> {
        (0..n_block as u32).filter_map(|block| self.model(block)).collect()
    }

    /// The tensors of `model` in a part, and its report.
    pub(super) fn read(
        &self,
        block: u32,
        model: &Model,
    ) -> Result<Option<(NewTensors, BlockReport)>> {
        let Some(part) = self.model(block) else { return Ok(None) };
        let Some(report) = part.text(REPORT)?.and_then(|text| serde_json::from_str(text).ok())
        else {
            return Ok(None);
        };
        let mut replaced = NewTensors::new();
        for of_part in part.tensors() {
            let name = &of_part.info.name;
            if let Some(base) = name.strip_suffix(A) {
                let both = (model.tensor(base), part.tensor(&format!("{base}{B}")));
                let (Some(tensor), Some(b)) = both else { return Ok(None) };
                let rank = of_part.info.shape.get(1).map_or(0, |n| *n as usize);
                let (a, b) = (of_part.data().to_vec(), b.data().to_vec());
                replaced.insert(base.into(), with_factors(tensor, Factors { rank, a, b })?);
            } else if !name.ends_with(B) {
                let (ty, bytes) = (of_part.info.ty, of_part.data().to_vec());
                replaced.insert(name.clone(), NewTensor { ty, bytes, factors: None });
            }
        }
        Ok(Some((replaced, report)))
    }

    pub(super) fn write(
        &self,
        block: u32,
        model: &Model,
        replaced: &NewTensors,
        report: &BlockReport,
    ) -> Result<()> {
        let mut file = Builder::new();
        file.kv(MADE_OF, self.made_of.as_str());
        file.kv(REPORT, serde_json::to_string(report).unwrap_or_default());
        let of_block = model.tensors().map(|tensor| tensor.info);
        for info in of_block.filter(|info| replaced.contains_key(&info.name)) {
            let new = &replaced[&info.name];
            match &new.factors {
                Some(factors) => add_factors(&mut file, info, factors)?,
                None => {
                    file.tensor(&info.name, &info.shape, new.ty, new.bytes.as_slice().into())?;
                }
            }
        }
        Ok(file.write(&self.path(block))?)
    }

    /// True if any block exists; else the folder is removed.
    pub fn has_any(&self) -> bool {
        // This does not remove a folder that is not empty.
        std::fs::remove_dir(&self.folder).is_err() && self.folder.exists()
    }

    /// Removes the folder.
    pub fn remove(self) {
        let _ = std::fs::remove_dir_all(self.folder);
    }
}

/// Adds the factors beside a tensor, in the form of llama.cpp's adapters.
fn add_factors(file: &mut Builder, info: &TensorInfo, factors: &Factors) -> Result<()> {
    let (rank, ty) = (factors.rank as u64, factors::TYPE);
    let n_out = info.shape.get(1).copied().unwrap_or(1);
    let shape = |width, n| [&[width, n][..], info.shape.get(2..).unwrap_or_default()].concat();
    let (a, b) = (shape(info.n_cols(), rank), shape(rank, n_out));
    file.tensor(&format!("{}{A}", info.name), &a, ty, factors.a.as_slice().into())?;
    file.tensor(&format!("{}{B}", info.name), &b, ty, factors.b.as_slice().into())?;
    Ok(())
}
