//! An edit along the direction as a LoRA adapter.

use std::path::Path;

use super::destination::Written;
use super::folder::place;
use super::request::{AdapterFormat, Repair};
use crate::adapter::Adapter;
use crate::gguf::{Model, Step};
use crate::repair::{Adapted, Edit, adapted, adapter, biases};
use crate::verbs::error::{Error, Result};
use crate::verbs::files::FileReport;
use crate::verbs::verify::Through;

/// An alpha in an adapter may be off by this part of itself: sums in another order, no more.
const TOLERANCE: f64 = 1e-3;

/// An adapter, and what was found in it; in a dry run nothing.
pub(super) struct EditAdapter {
    pub written: Written,
    pub tensors: Vec<Adapted>,
}

impl Repair<'_> {
    /// Writes the edit as an adapter, once llama.cpp ran it.
    pub(super) fn write_adapter(
        &self,
        model: &Model,
        edit: Edit<'_>,
        step: &Step,
        path: &Path,
        format: AdapterFormat,
    ) -> Result<EditAdapter> {
        let mut file = adapter(model, edit, self.host)?;
        file.record(step)?;
        if !biases(model, edit).is_empty() {
            self.host.warn("an adapter reaches no biases: theirs is left out of the edit");
        }
        let bytes = file.encode();
        let files = vec![FileReport::new(path, bytes.len() as u64)];
        let mut written = Written { files, ..Written::default() };
        let mut tensors = Vec::new();
        if !self.request.dry_run {
            written.files = place(model, path, format, &bytes, |temp| -> Result<()> {
                tensors = self.check_adapter(model, edit, temp)?;
                Ok(())
            })?;
            written.in_history = Some(true);
            self.host.say(format_args!("wrote {}", path.display()));
        }
        Ok(EditAdapter { written, tensors })
    }

    /// The adapter under its temp name, as its readers see it: ours, then llama.cpp.
    fn check_adapter(&self, model: &Model, edit: Edit<'_>, temp: &Path) -> Result<Vec<Adapted>> {
        Adapter::open(temp)?.check(model)?;
        let found = adapted(model, edit, &Model::open(temp)?, self.host)?;
        let is_off = |a: &&Adapted| (a.alpha / edit.alpha - 1.0).abs() > TOLERANCE;
        if let Some(Adapted { name, alpha, .. }) = found.iter().find(is_off) {
            let asked = edit.alpha;
            return Err(Error::Sentence(format!(
                "{name} holds an alpha of {alpha}, {asked} was asked for"
            )));
        }
        let prober = self.host.prober();
        let through = Through { prober: &prober, options: self.request.engine };
        match through.complaint_of_adapter(model, temp)? {
            Some(complaint) => Err(Error::Sentence(format!(
                "the adapter was not written, for llama.cpp cannot use it: {complaint}"
            ))),
            None => Ok(found),
        }
    }
}
