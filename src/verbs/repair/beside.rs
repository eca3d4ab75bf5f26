//! What the matrices lack, as an adapter beside them.

use std::path::Path;

use super::folder::place;
use super::refitted::{Pair, RefittedParts};
use super::report::RestoreReport;
use super::request::{AdapterFormat, Repair};
use crate::adapter::begun;
use crate::gguf::{Builder, Model, Step, TensorInfo};
use crate::quant::is_block_matrix;
use crate::refit::Leaving;
use crate::verbs::error::{Error, Result};
use crate::verbs::model::{load, load_with_adapter};
use crate::verbs::parts::note_kept;

impl Repair<'_> {
    /// Writes the adapter, once llama.cpp was seen to do with it what was computed.
    pub(super) fn write_beside(
        &self,
        pair: Pair<'_>,
        made: RefittedParts,
        path: &Path,
        rank: usize,
        format: AdapterFormat,
    ) -> Result<RestoreReport> {
        let parts = made.parts.models(made.refitted.blocks.len());
        let n: u64 = parts.iter().flat_map(Model::tensors).map(|t| t.info.n_elements()).sum();
        if n == 0 {
            drop(parts);
            made.parts.remove();
            return Err(Error::sentence(
                "no matrix comes nearer to the original: there is no adapter to write",
            ));
        }
        let bytes = adapter(pair.model, &parts, &made.step)?.encode();
        drop(parts);
        let check = |temp: &Path| self.check_beside(pair, &made, temp);
        let written = place(pair.model, path, format, &bytes, check);
        match &written {
            // What llama.cpp does not apply it will not apply the next time.
            Ok(_) | Err(Error::NotAsAdapter(_)) => made.parts.remove(),
            Err(_) => note_kept(self.host, &made.parts),
        }
        let files = written?;
        let n_elements: u64 = matrices(pair.model).map(TensorInfo::n_elements).sum();
        self.host.say(format_args!(
            "wrote {}: its factors, of rank {rank} at most, have {:.1} % of the matrices' elements",
            path.display(),
            100.0 * n as f64 / n_elements as f64
        ));
        let report = RestoreReport { files, in_history: Some(true), ..RestoreReport::default() };
        Ok(report.with(made.refitted))
    }

    /// Runs the adapter under its temp name. What leaves the last block must be nearer to what was
    /// computed than to what the model does without it.
    fn check_beside(&self, pair: Pair<'_>, made: &RefittedParts, temp: &Path) -> Result<()> {
        let Some((before, after)) = made.refitted.blocks.last().map(|block| block.residual) else {
            return Ok(());
        };
        let options = self.request.engine;
        let theirs = Leaving::read(&load(self.host, pair.original, options)?, &made.samples)?;
        let adapted = load_with_adapter(self.host, pair.model, options, Some(temp))?;
        let found = Leaving::read(&adapted, &made.samples)?.error(&theirs);
        match (found - after).abs() <= (found - before).abs() {
            true => Ok(()),
            false => Err(Error::NotAsAdapter(format!(
                "the adapter was not written, for llama.cpp does not apply all of it in this \
                 architecture: the last block is off by {found:.3} with it, by {before:.3} without \
                 it, and {after:.3} was computed"
            ))),
        }
    }
}

/// The factors of all parts in one file, as llama.cpp reads them.
fn adapter(model: &Model, parts: &[Model], step: &Step) -> Result<Builder> {
    // Without an alpha B A is added as it is, whatever the rank.
    let mut file = begun(model, "restored", 0.0)?;
    for factor in parts.iter().flat_map(Model::tensors) {
        let info = factor.info;
        file.tensor(&info.name, &info.shape, info.ty, factor.data().into())?;
    }
    file.record(step)?;
    Ok(file)
}

fn matrices(model: &Model) -> impl Iterator<Item = &TensorInfo> {
    model.tensors().map(|t| t.info).filter(|info| is_block_matrix(info))
}

/// Bytes of an adapter of that rank for all matrices of the blocks.
pub(super) fn adapter_bytes(model: &Model, rank: usize) -> u64 {
    let of = |info: &TensorInfo| {
        let (n_in, n_out) = (info.n_cols(), info.shape.get(1).copied().unwrap_or(1));
        let n = info.n_rows() / n_out.max(1);
        2 * n * (n_in + n_out) * (rank as u64).min(n_in).min(n_out)
    };
    matrices(model).map(of).sum()
}

/// llama.cpp multiplies some adapters by the scale that stands beside a matrix, and others not
/// (`build_lora_mm` and `build_ffn` of its `src/llama-graph.cpp`).
pub(super) fn check_scales(model: &Model) -> Result<()> {
    let scale = |info: &TensorInfo| format!("{}.scale", info.name.trim_end_matches(".weight"));
    match matrices(model).map(scale).find(|name| model.tensor(name).is_some()) {
        None => Ok(()),
        Some(name) => Err(Error::NotAsAdapter(format!(
            "the model has {name}: what llama.cpp makes of an adapter beside a matrix with a scale \
             depends on the matrix"
        ))),
    }
}
