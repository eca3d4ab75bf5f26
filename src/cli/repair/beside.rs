//! `aird repair --reference ORIGINAL --lora ADAPTER`: what the matrices lack, as an adapter.

use std::path::Path;

use anyhow::{Result, bail};

use super::Repair;
use super::restore::Done;
use super::restored::Report;
use crate::adapter::begun;
use crate::cli::output::FileReport;
use crate::cli::ui::Ui;
use crate::gguf::{Builder, Model, Step, TensorInfo, write_file_if};
use crate::quant::is_block_matrix;
use crate::refit::Leaving;
use crate::verbs::parts::note_kept;

impl Repair {
    /// Writes the adapter, once llama.cpp was seen to do with it what was computed.
    pub(super) fn write_beside(
        &self,
        ui: &Ui,
        (model, original): (&Model, &Model),
        done: Done,
        lora: &Path,
    ) -> Result<()> {
        let parts = done.parts.models(done.restored.blocks.len());
        let n: u64 = parts.iter().flat_map(Model::tensors).map(|t| t.info.n_elements()).sum();
        if n == 0 {
            drop(parts);
            done.parts.remove();
            bail!("no matrix comes nearer to the original: there is no adapter to write");
        }
        let bytes = adapter(model, &parts, &done.step)?.encode();
        drop(parts);
        // What llama.cpp does not apply it will not apply the next time.
        let mut applies = true;
        let written = write_file_if(lora, &bytes, |temp| -> Result<()> {
            let found = self.leaving_with(ui, (model, original), &done, temp)?;
            applies = found.is_none();
            found.map_or(Ok(()), |said| bail!(said))
        });
        match &written {
            Err(_) if applies => note_kept(ui, &done.parts),
            _ => done.parts.remove(),
        }
        written?;
        ui.say(format_args!(
            "wrote {}: its factors, of rank {} at most, have {:.1} % of the matrices' elements",
            lora.display(),
            self.restore.rank(),
            100.0 * n as f64 / matrices(model).map(TensorInfo::n_elements).sum::<u64>() as f64
        ));
        let (path, bytes) = (lora.display().to_string(), bytes.len() as u64);
        let (files, restored) = (vec![FileReport { path, bytes }], done.restored);
        Report { files, in_history: Some(true), restored, ..Report::default() }.print(ui, self.json)
    }

    /// Runs the adapter under its temp name. What leaves the last block must be nearer to what was
    /// computed than to what the model does without it; else what is wrong comes back.
    fn leaving_with(
        &self,
        ui: &Ui,
        (model, original): (&Model, &Model),
        done: &Done,
        temp: &Path,
    ) -> Result<Option<String>> {
        let Some((before, after)) = done.restored.blocks.last().map(|block| block.residual) else {
            return Ok(None);
        };
        let engine = self.search.engine().1;
        let theirs = Leaving::read(&engine.load(ui, original)?, &done.samples)?;
        let adapted = engine.load_with(ui, model, Some(temp))?;
        let found = Leaving::read(&adapted, &done.samples)?.error(&theirs);
        let applies = (found - after).abs() <= (found - before).abs();
        Ok((!applies).then(|| {
            format!(
                "the adapter was not written, for llama.cpp does not apply all of it in this \
                 architecture: the last block is off by {found:.3} with it, by {before:.3} without \
                 it, and {after:.3} was computed\n\
                 hint: restore the file itself: -o OUT"
            )
        }))
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
        Some(name) => bail!(
            "the model has {name}: what llama.cpp makes of an adapter beside a matrix with a scale \
             depends on the matrix\n\
             hint: restore the file itself: -o OUT"
        ),
    }
}
