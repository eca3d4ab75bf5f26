//! Matrices swept in order over calibration texts (SparseGPT, GPTQ): what a column loses is made up
//! for by those still to come.

use std::path::Path;

use super::calibration::{Calibration, CalibrationSetup};
use super::error::Result;
use super::host::Host;
use super::model::load;
use super::parts::{
    check_room_for_parts, made_of, note_block, note_kept, parts_folder, put_into, warn_of_experts,
};
use super::words::{by_kind, counted};
use crate::gguf::{Model, Rewrite, Step, Tensor};
use crate::llama::Options;
use crate::refit::{Jobs, Outcome, Parts, Refit, Refitted, Towards, refit};

/// Added to the inputs' squares, in means of them. Both papers' code adds 0.01, and reads some
/// 260,000 tokens; of a tenth or less of them that fits noise (docs/results.md).
const DAMPING: f32 = 0.1;

/// What is to be swept.
pub(super) struct Sweep<'a> {
    pub model: &'a Model,
    /// The calibration texts.
    pub calibration: &'a CalibrationSetup,
    /// The file that will be written.
    pub output: &'a Path,
    /// Room for it, and for the parts beside it.
    pub bytes: u64,
    pub jobs: Jobs<'a>,
    pub engine: Options,
}

/// Swept matrices, block by block in files beside the output.
pub(super) struct Swept {
    parts: Parts,
    models: Vec<Model>,
    refitted: Refitted,
    calibration: Calibration,
}

impl Sweep<'_> {
    /// Sweeps; `step` is what for, so that the same command goes on where it was interrupted.
    pub(super) fn run(&self, host: &dyn Host, step: &Step) -> Result<Swept> {
        check_room_for_parts(self.output, self.bytes)?;
        let engine = load(host, self.model, self.engine)?;
        let calibration = self.calibration.samples(host, self.model, &engine)?;
        // The sweep loads the model block by block.
        drop(engine);
        let made_of = made_of(step, &calibration.samples, self.engine);
        let parts = Parts::open(&parts_folder(self.output), made_of)?;
        let asked = Refit {
            model: self.model,
            reference: self.model,
            samples: &calibration.samples,
            towards: Towards::Itself { damping: DAMPING },
            job: self.jobs,
            options: self.engine,
            prober: &host.prober(),
            watch: host,
        };
        let refitted = refit(&asked, &parts, &mut |block| note_block(host, block))
            .inspect_err(|_| note_kept(host, &parts))?;
        let models = parts.models(refitted.blocks.len());
        Ok(Swept { parts, models, refitted, calibration })
    }
}

impl Swept {
    /// What was swept.
    pub(super) fn tensors(&self) -> impl Iterator<Item = Tensor<'_>> {
        self.models.iter().flat_map(Model::tensors)
    }

    /// True if that tensor was.
    pub(super) fn has(&self, name: &str) -> bool {
        self.models.iter().any(|model| model.tensor(name).is_some())
    }

    /// Warns of what became of matrices that were to be swept and hold one for each head.
    pub(super) fn warn_of_stacked(&self, host: &dyn Host, became: &str) {
        let stacked = self.refitted.tensors().filter(|t| t.outcome == Outcome::Stacked);
        let names: Vec<&str> = stacked.map(|t| t.name.as_str()).collect();
        if !names.is_empty() {
            host.warn(format_args!(
                "{} with a matrix for each head, {became}: {}",
                counted(names.len(), "tensor"),
                by_kind(names)
            ));
        }
        warn_of_experts(host, &self.refitted, "their own weights decide");
    }

    /// Tells `rewrite` to write it.
    pub(super) fn write_into<'m>(&'m self, rewrite: &mut Rewrite<'m>) -> Result<()> {
        put_into(rewrite, self.tensors())
    }

    /// The step, with what was read.
    pub(super) fn recorded(&self, step: Step) -> Step {
        let about = &self.calibration.about;
        step.parameter("data", about.data.as_str())
            .parameter("samples", about.n_samples as u64)
            .source("samples", &about.data_sha256)
    }

    /// The mean relative error of what the matrices put out, on held-out samples.
    pub(super) fn error(&self) -> f64 {
        self.refitted.mean_error().1
    }

    /// Removes the files of blocks.
    pub(super) fn remove(self) {
        drop(self.models);
        self.parts.remove();
    }
}
