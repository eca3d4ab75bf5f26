//! The model's own file changed: a journal first, then the bytes, then a check of what was changed.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::destination::{Change, Written};
use super::request::Repair;
use crate::gguf::{Model, Patch};
use crate::repair::replacement as edit_replacement;
use crate::verbs::error::{Context, Error, Result};
use crate::verbs::files::FileReport;
use crate::verbs::parts::replacement;
use crate::verbs::verify::{self, Through};

impl Repair<'_> {
    /// Changes the file of `model`, which is let go of before its bytes change.
    pub(super) fn patch(&self, model: Model, change: Change<'_>, verify: bool) -> Result<Written> {
        if self.request.dry_run {
            return Ok(would_change(&model, &change));
        }
        let path = self.request.model.display();
        let mut patch = Patch::new(&model);
        for tensor in &change.restored {
            patch.replace(&tensor.info.name, replacement(*tensor))?;
        }
        for edited in change.edited {
            patch.replace(&edited.name, edit_replacement(edited))?;
        }
        let ready = patch.produce(self.host)?;
        drop(model);
        let n_links = ready.n_links()?;
        if n_links > 1 {
            self.host.warn(format_args!(
                "{path} has {n_links} names (hard links): the file changes under each of them; \
                 aird undo takes it back by this one, or by another in its folder"
            ));
        }
        let patched = ready.apply(Some(change.step.clone()), self.host)?;
        if patched.files.is_empty() {
            self.host.say("nothing to change: the file holds these very bytes");
            return Ok(Written::default());
        }
        self.check_changed(&change, verify)
            .about(|| format!("{path} is changed, and aird undo takes it back"))?;
        if !patched.in_history {
            self.host.say(
                "the file's header has no space left for aird.history: only the undo journal \
                 records the repair",
            );
        }
        self.host.say(format_args!("changed {path}; aird undo takes it back"));
        let file =
            |path: &PathBuf| FileReport::new(path, std::fs::metadata(path).map_or(0, |m| m.len()));
        Ok(Written {
            files: patched.files.iter().map(file).collect(),
            journals: patched.journals.iter().map(|p| p.display().to_string()).collect(),
            in_history: Some(patched.in_history),
            computed_bytes: None,
            estimated_seconds: None,
        })
    }

    /// The edit is in the changed file; with `verify` the whole of it is sound, and llama.cpp runs
    /// it. Refitted bytes were compared as they were written, and mean what was measured.
    fn check_changed(&self, change: &Change<'_>, verify: bool) -> Result<()> {
        let path = &self.request.model;
        if change.proof.is_some() {
            change.check(&Model::open(path)?, self.host)?;
        }
        if !verify {
            return Ok(());
        }
        let prober = self.host.prober();
        let through = Through { prober: &prober, options: self.request.engine };
        let report = verify::check(self.host, &Model::open(path)?, Some(through), false)?;
        let path = path.display();
        match (report.complaint(), report.lacking) {
            (complaint, _) if !complaint.is_empty() => {
                Err(Error::Sentence(format!("{path} is not sound: {complaint}")))
            }
            (_, Some(lacking)) => {
                Err(Error::Sentence(format!("{path} could not be run here: {lacking}")))
            }
            (_, None) => Ok(()),
        }
    }
}

/// The files that would change.
fn would_change(model: &Model, change: &Change<'_>) -> Written {
    let shard = |name: &String| model.tensor(name).map(|tensor| tensor.shard);
    let shards: BTreeSet<usize> = change.edited.iter().filter_map(|e| shard(&e.name)).collect();
    let file = |i: usize| FileReport::new(&model.shards()[i].path, model.shards()[i].file_bytes());
    let bytes = change.edited.iter().map(|e| e.bytes.len() as u64).sum();
    Written {
        files: shards.into_iter().map(file).collect(),
        computed_bytes: Some(bytes),
        ..Written::default()
    }
}
