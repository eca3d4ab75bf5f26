//! `aird repair --reference ORIGINAL --lora ADAPTER`: what the matrices lack, as an adapter.

use std::path::Path;

use anyhow::{Result, bail};

use super::Repair;
use super::restore::Done;
use super::restored::Report;
use crate::adapter::Adapter;
use crate::cli::output::FileReport;
use crate::cli::sweeping::kept;
use crate::cli::ui::Ui;
use crate::cli::verify::Through;
use crate::gguf::{Builder, Model, Step, TensorInfo, write_file_if};
use crate::quant::is_block_matrix;
use crate::refit::leaving;

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
        let file = self.adapter_of(model, &parts, done.step.clone())?;
        let bytes = file.encode();
        let added = self.multiplied(model, &parts);
        drop(parts);
        write_file_if(lora, &bytes, |temp| self.check_beside(ui, (model, original), &done, temp))
            .inspect_err(|_| kept(ui, &done.parts))?;
        let Done { restored, parts, .. } = done;
        parts.remove();
        ui.say(format_args!(
            "wrote {}: rank {}, {:.1} % more to multiply for each token",
            lora.display(),
            self.restore.rank(),
            100.0 * added
        ));
        let files =
            vec![FileReport { path: lora.display().to_string(), bytes: bytes.len() as u64 }];
        Report { files, in_history: Some(true), restored, ..Report::default() }.print(ui, self.json)
    }

    /// The factors of all parts in one file, as llama.cpp reads them.
    fn adapter_of(&self, model: &Model, parts: &[Model], step: Step) -> Result<Builder> {
        let name = model.text("general.name")?.unwrap_or("model");
        let mut file = Builder::new();
        file.kv("general.type", "adapter")
            .kv("general.architecture", model.architecture())
            .kv("general.name", format!("{name} restored"))
            .kv("adapter.type", "lora")
            // Without an alpha B A is added as it is, whatever the rank.
            .kv("adapter.lora.alpha", 0.0f32);
        let mut n = 0;
        for factor in parts.iter().flat_map(Model::tensors) {
            let info = factor.info;
            file.tensor(&info.name, &info.shape, info.ty, factor.data().into())?;
            n += 1;
        }
        if n == 0 {
            bail!("no matrix comes nearer to the original: there is no adapter to write");
        }
        file.record(&step)?;
        Ok(file)
    }

    /// How much the factors add to what a token is multiplied with.
    fn multiplied(&self, model: &Model, parts: &[Model]) -> f64 {
        let factors = parts.iter().flat_map(Model::tensors).map(|t| t.info.n_elements());
        let matrices = model.tensors().map(|t| t.info).filter(|info| is_block_matrix(info));
        let all: u64 = matrices.map(TensorInfo::n_elements).sum();
        factors.sum::<u64>() as f64 / all.max(1) as f64
    }

    /// The adapter under its temp name: as aird reads it, and as llama.cpp runs it. What leaves the
    /// last block must be nearer to what was computed than to what the model does without it.
    fn check_beside(
        &self,
        ui: &Ui,
        (model, original): (&Model, &Model),
        done: &Done,
        temp: &Path,
    ) -> Result<()> {
        Adapter::open(temp)?.check(model)?;
        let (prober, engine) = (ui.prober(), self.search.engine().1);
        let through = Through { prober: &prober, options: engine.options() };
        if let Some(complaint) = through.complaint_of_adapter(model, temp)? {
            bail!("the adapter was not written, for llama.cpp cannot use it: {complaint}");
        }
        let Some((before, after)) = done.restored.blocks.last().map(|block| block.residual) else {
            return Ok(());
        };
        let original = engine.load(ui, original)?;
        let mut adapted = engine.load(ui, model)?;
        adapted.set_adapter(temp, 1.0)?;
        let found = leaving((&original, &adapted), &done.samples)?;
        if (found - after).abs() <= (found - before).abs() {
            return Ok(());
        }
        bail!(
            "the adapter was not written, for llama.cpp does not apply all of it to this \
             architecture: the last block is off by {found:.3} with it, by {before:.3} without it, \
             and {after:.3} was computed\n\
             hint: restore the file itself: -o OUT"
        )
    }
}

/// Bytes of an adapter of that rank for all matrices of the blocks.
pub(super) fn adapter_bytes(model: &Model, rank: usize) -> u64 {
    let matrices = model.tensors().map(|t| t.info).filter(|info| is_block_matrix(info));
    let of = |info: &TensorInfo| {
        let (n_in, n_out) = (info.n_cols(), info.shape.get(1).copied().unwrap_or(1));
        let n = info.n_rows() / n_out.max(1);
        2 * n * (n_in + n_out) * (rank as u64).min(n_in).min(n_out)
    };
    matrices.map(of).sum()
}
