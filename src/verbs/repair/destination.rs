//! Where a repair goes: a new file, the model's own file, or an adapter.

use super::request::{Destination, Repair};
use crate::gguf::{Model, Rewrite, Step, Tensor, Watch};
use crate::repair::{Edited, Proof, apply};
use crate::verbs::error::{Error, Result};
use crate::verbs::estimate::DryRun;
use crate::verbs::files::{FileReport, Planned};
use crate::verbs::output::Output;
use crate::verbs::parts::put_into;

/// What is new in a model.
pub(super) struct Change<'a> {
    /// Tensors that were refitted, those that were then edited left out.
    pub restored: Vec<Tensor<'a>>,
    /// Tensors that were edited.
    pub edited: &'a [Edited],
    /// Finds the edit in a file; None where nothing was edited, and in a dry run.
    pub proof: Option<&'a Proof>,
    /// The repair, for the file's history.
    pub step: Step,
}

/// What was written, or in a dry run would be.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub files: Vec<FileReport>,
    pub journals: Vec<String>,
    /// None where nothing was written.
    pub in_history: Option<bool>,
    /// Only in a dry run.
    pub computed_bytes: Option<u64>,
    /// Only in a dry run for a new file.
    pub estimated_seconds: Option<f64>,
}

impl Change<'_> {
    /// Looks for the edit in `model`, which was written.
    pub(super) fn check(&self, model: &Model, watch: &dyn Watch) -> Result<()> {
        match self.proof {
            Some(proof) => Ok(proof.check(model, self.edited, watch)?),
            None => Ok(()),
        }
    }
}

impl Repair<'_> {
    /// Writes what is new in `model`, to a new file or in place.
    pub(super) fn write(&self, model: Model, change: Change<'_>) -> Result<Written> {
        match &self.request.destination {
            Destination::NewFile { path, force } => {
                let (dry_run, keep_shards) = (self.request.dry_run, false);
                let output = Output { path: path.clone(), force: *force, dry_run, keep_shards };
                self.write_file(&model, change, &output)
            }
            Destination::InPlace { verify } => self.patch(model, change, *verify),
            Destination::Adapter { path, .. } => {
                let path = path.display();
                Err(Error::Sentence(format!("{path}: an adapter holds no tensors of a model")))
            }
        }
    }

    fn write_file(&self, model: &Model, change: Change<'_>, output: &Output) -> Result<Written> {
        let mut rewrite = Rewrite::new(model, output.layout());
        put_into(&mut rewrite, change.restored.iter().copied())?;
        apply(&mut rewrite, change.edited)?;
        rewrite.record(change.step.clone());
        if output.dry_run {
            let run = DryRun { host: self.host, model, begun: self.begun };
            let Planned { files, computed_bytes, estimated_seconds } =
                output.timed_plan(rewrite, run)?;
            let computed_bytes = Some(computed_bytes);
            return Ok(Written { files, computed_bytes, estimated_seconds, ..Written::default() });
        }
        let check = |new: &Model, watch: &dyn Watch| change.check(new, watch);
        let files = output.write_if(self.host, rewrite, self.request.engine, check)?;
        Ok(Written { files, in_history: Some(true), ..Written::default() })
    }
}
