//! `prune --method sparsegpt` and `quantize --method gptq`: matrices swept in order over
//! calibration texts, what a column loses made up for by those still to come.

use std::path::Path;

use anyhow::{Result, bail};

use super::calibration::Calibration;
use super::given::StatsArgs;
use super::text::{by_kind, counted};
use super::ui::Ui;
use crate::gguf::{Model, Rewrite, Step, Tensor};
use crate::refit::{Jobs, Outcome, Parts, Refit, Refitted, Towards, refit};
use crate::verbs::parts::{
    check_room_for_parts, made_of, note_block, note_kept, parts_folder, put_into, warn_of_experts,
};

/// Added to the inputs' squares, in means of them. Both papers' code adds 0.01, and reads some
/// 260,000 tokens; of a tenth or less of them that fits noise (BENCHMARKS.md).
const DAMPING: f32 = 0.1;

/// What is said of a sweep's error.
pub const OUTPUT_ERROR: &str = "mean error of the matrices' outputs on held-out samples:";

/// Swept matrices, block by block in files beside the output.
pub struct Swept {
    parts: Parts,
    models: Vec<Model>,
    refitted: Refitted,
    about: Calibration,
}

/// What is to be swept.
pub struct Sweep<'a> {
    pub model: &'a Model,
    pub stats: &'a StatsArgs,
    /// The file that will be written.
    pub output: &'a Path,
    /// Room for it, and for the parts beside it.
    pub bytes: u64,
    pub jobs: Jobs<'a>,
}

impl Sweep<'_> {
    /// What can be seen before minutes of work.
    pub fn check(stats: &StatsArgs, method: &str) -> Result<()> {
        if stats.masks() {
            bail!("--method {method} goes by every token, and not by --mask response");
        }
        match stats.reads_data() {
            true => Ok(()),
            false => bail!(
                "--method {method} needs --data FILE: it goes by how inputs vary together, which \
                 statistics do not hold"
            ),
        }
    }

    /// Sweeps; `step` says what for, so that an interrupted run is gone on with.
    pub fn run(&self, ui: &Ui, step: &Step) -> Result<Swept> {
        check_room_for_parts(self.output, self.bytes)?;
        let about = self.stats.samples(ui, self.model)?;
        let made_of = made_of(step, &about.samples);
        let parts = Parts::open(&parts_folder(self.output), made_of)?;
        let asked = Refit {
            model: self.model,
            reference: self.model,
            samples: &about.samples,
            towards: Towards::Itself { damping: DAMPING },
            job: self.jobs,
            options: self.stats.engine.options(),
            prober: &ui.prober(),
            watch: ui,
        };
        let refitted = refit(&asked, &parts, &mut |block| note_block(ui, block))
            .inspect_err(|_| note_kept(ui, &parts))?;
        let models = parts.models(refitted.blocks.len());
        Ok(Swept { parts, models, refitted, about })
    }
}

impl Swept {
    /// What was swept.
    pub fn tensors(&self) -> impl Iterator<Item = Tensor<'_>> {
        self.models.iter().flat_map(Model::tensors)
    }

    /// True if that tensor was.
    pub fn has(&self, name: &str) -> bool {
        self.models.iter().any(|model| model.tensor(name).is_some())
    }

    /// Says what became of matrices that were to be swept and hold one for each head.
    pub fn warn_of_stacked(&self, ui: &Ui, became: &str) {
        let stacked = self.refitted.tensors().filter(|t| t.outcome == Outcome::Stacked);
        let names: Vec<&str> = stacked.map(|t| t.name.as_str()).collect();
        if !names.is_empty() {
            ui.warn(format_args!(
                "{} with a matrix for each head, {became}: {}",
                counted(names.len(), "tensor"),
                by_kind(names)
            ));
        }
        warn_of_experts(ui, &self.refitted, "their own weights alone decide");
    }

    /// Tells `rewrite` to write it.
    pub fn write_into<'m>(&'m self, rewrite: &mut Rewrite<'m>) -> Result<()> {
        Ok(put_into(rewrite, self.tensors())?)
    }

    /// The step, with what was read.
    pub fn recorded(&self, step: Step) -> Step {
        let about = &self.about.about;
        step.parameter("data", about.data.as_str())
            .parameter("samples", about.n_samples as u64)
            .source("samples", &about.data_sha256)
    }

    /// The mean error of what the matrices put out, on held-out samples.
    pub fn error(&self) -> f64 {
        self.refitted.mean_error().1
    }

    /// Removes the files of blocks.
    pub fn remove(self) {
        drop(self.models);
        self.parts.remove();
    }
}
