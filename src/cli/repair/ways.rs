//! The three ways out of a repair: a new file, the model's own file, an adapter. Each is looked at
//! again before it is called done.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::report::Outcome;
use super::{Chosen, Repair};
use crate::adapter::Adapter;
use crate::cli::output::{FileReport, OutputArgs, no_sha256};
use crate::cli::text::bytes_text;
use crate::cli::ui::Ui;
use crate::gguf::{Layout, Model, Patch, Ready, Rewrite, Step, Watch, write_file_if};
use crate::repair::{
    Edit, Edited, Error, Proof, Storage, adapted, adapter, apply, biases, edit, halves_text,
    replacement,
};
use crate::verbs::verify::{self, Through};

impl Repair {
    /// Edits in memory; says what came out otherwise than it might be expected.
    pub(super) fn edit(
        &self,
        ui: &Ui,
        model: &Model,
        asked: Edit<'_>,
        chosen: &Chosen,
    ) -> Result<Vec<Edited>> {
        let edited = edit(model, asked, ui).map_err(|error| match error {
            Error::Lost { name, ty, realised, asked, .. } if self.in_place => anyhow::anyhow!(
                "{name}: an alpha of {realised:.3} comes out in {ty}, {asked} was asked for\n\
                 hint: in a new file it may become a finer type: -o OUT {}",
                chosen.arguments()
            ),
            error => error.into(),
        })?;
        for e in edited.iter().filter(|e| e.from != e.to) {
            let why = match self.storage {
                Storage::Auto => format!("the edit is lost or too noisy in {}", e.from),
                Storage::Named(ty) if ty == e.to => "as asked".into(),
                _ => "its rows do not fit the type asked for".into(),
            };
            ui.say(format_args!("{} becomes {}: {why}", e.name, e.to));
        }
        for e in edited.iter().filter(|e| self.in_place && e.from == e.to && e.is_noisy()) {
            ui.warn(format_args!(
                "{} gets {:.2} times the noise that {} has of its own; in a new file it would \
                 become a finer type",
                e.name,
                e.noise / e.own_noise,
                e.to
            ));
        }
        for e in &edited {
            ui.detail(format_args!(
                "{}: alpha {:.4}, of the expert furthest off {:.4}; noise {:.4}, of the type {:.4}",
                e.name, e.realised_alpha, e.worst_alpha, e.noise, e.own_noise
            ));
        }
        Ok(edited)
    }

    pub(super) fn rewrite(
        &self,
        ui: &Ui,
        model: &Model,
        edited: &[Edited],
        chosen: &Chosen,
    ) -> Result<()> {
        let (output, step) = (self.output(), self.step(edited, chosen));
        let mut rewrite = Rewrite::new(model, Layout::Single);
        apply(&mut rewrite, edited)?;
        let (force, dry_run, keep_shards) = (self.force, self.dry_run, false);
        let out = OutputArgs { output, force, dry_run, keep_shards };
        let (files, in_history) = if dry_run {
            rewrite.record(step.source("model", &no_sha256()));
            (out.plan(ui, &rewrite, self.json)?, None)
        } else {
            let proof = Proof::before(model, edited, ui)?;
            rewrite.record(step);
            let engine = self.search.engine().1.options();
            let check = |new: &Model, watch: &dyn Watch| Ok(proof.check(new, edited, watch)?);
            (out.write_if(ui, rewrite, engine, check)?, Some(true))
        };
        let tensors = edited.iter().map(Into::into).collect();
        let outcome = Outcome { files, in_history, tensors, ..Outcome::default() };
        self.print(ui, outcome, chosen)
    }

    /// No hash of the source: an edit in place costs what it changes, not what the file holds.
    pub(super) fn patch(
        &self,
        ui: &Ui,
        model: Model,
        edited: &[Edited],
        chosen: &Chosen,
    ) -> Result<()> {
        let tensors = edited.iter().map(Into::into).collect();
        let mut outcome = Outcome { tensors, ..Outcome::default() };
        if self.dry_run {
            outcome.files = self.would_change(ui, &model, edited)?;
            return self.print(ui, outcome, chosen);
        }
        let mut patch = Patch::new(&model);
        for one in edited {
            patch.replace(&one.name, replacement(one))?;
        }
        let proof = Proof::before(&model, edited, ui)?;
        let ready = patch.produce(ui)?;
        drop(model);
        let step = self.step(edited, chosen);
        let again = || {
            let model = Model::open(&self.model)?;
            Ok(proof.check(&model, edited, ui)?)
        };
        self.put_in_place(ui, ready, step, &mut outcome, again)?;
        self.print(ui, outcome, chosen)
    }

    /// Changes the model's own file; `again` looks at what was changed, once it is read again.
    pub(super) fn put_in_place(
        &self,
        ui: &Ui,
        ready: Ready,
        step: Step,
        outcome: &mut Outcome,
        again: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let n_links = ready.n_links()?;
        if n_links > 1 {
            ui.warn(format_args!(
                "{} has {n_links} names (hard links): the file changes under each of them; aird \
                 undo takes it back by this one, or by another in its folder",
                self.model.display()
            ));
        }
        let patched = ready.apply(Some(step), ui)?;
        if patched.files.is_empty() {
            ui.say("nothing to change: the file holds these very bytes");
            return Ok(());
        }
        again().and_then(|()| self.verify_changed(ui)).with_context(|| {
            format!("{} is changed, and aird undo takes it back", self.model.display())
        })?;
        if !patched.in_history {
            ui.say(
                "the file's header has no space left for aird.history: only the undo journal \
                 records the repair",
            );
        }
        ui.say(format_args!("changed {}; aird undo takes it back", self.model.display()));
        let file =
            |path: &PathBuf| file_report(path, std::fs::metadata(path).map_or(0, |m| m.len()));
        outcome.files = patched.files.iter().map(file).collect();
        outcome.journals = patched.journals.iter().map(|p| p.display().to_string()).collect();
        outcome.in_history = Some(patched.in_history);
        Ok(())
    }

    /// `--verify`: the changed file as a whole, and as llama.cpp runs it.
    fn verify_changed(&self, ui: &Ui) -> Result<()> {
        if self.verify {
            let model = Model::open(&self.model)?;
            let prober = ui.prober();
            let options = self.search.engine().1.options();
            let through = Through { prober: &prober, options };
            let report = verify::check(ui, &model, Some(through), false)?;
            if !report.complaint().is_empty() {
                bail!("{} is not sound: {}", self.model.display(), report.complaint());
            }
            if let Some(said) = report.lacking {
                bail!("{} could not be run here: {said}", self.model.display());
            }
        }
        Ok(())
    }

    /// `--in-place --dry-run`: the files that would change.
    fn would_change(&self, ui: &Ui, model: &Model, edited: &[Edited]) -> Result<Vec<FileReport>> {
        let shard = |e: &Edited| model.tensor(&e.name).map(|t| t.shard);
        let shards: BTreeSet<usize> = edited.iter().filter_map(shard).collect();
        let mut files = Vec::new();
        for shard in shards.into_iter().map(|i| &model.shards()[i]) {
            files.push(file_report(&shard.path, shard.file_bytes()));
        }
        if !self.json {
            let bytes = edited.iter().map(|e| e.bytes.len() as u64).sum();
            let names: Vec<&str> = files.iter().map(|f| f.path.as_str()).collect();
            let (names, bytes) = (names.join(", "), bytes_text(bytes));
            ui.print(format_args!("would change {bytes} of {names}\n"))?;
        }
        Ok(files)
    }

    pub(super) fn write_adapter(
        &self,
        ui: &Ui,
        model: &Model,
        (asked, chosen): (Edit<'_>, &Chosen),
        path: &Path,
    ) -> Result<()> {
        let mut file = adapter(model, asked, ui)?;
        // A plan is as long as the file.
        let step = match self.dry_run {
            true => asked_step(chosen).source("model", &no_sha256()),
            false => asked_step(chosen),
        };
        file.record(&step)?;
        if !biases(model, asked).is_empty() {
            ui.warn("an adapter reaches no biases: theirs is left out of the edit");
        }
        let bytes = file.encode();
        let mut outcome =
            Outcome { files: vec![file_report(path, bytes.len() as u64)], ..Outcome::default() };
        if self.dry_run {
            if !self.json {
                let bytes = bytes_text(bytes.len() as u64);
                ui.print(format_args!("would write\n  {}  {bytes}\n", path.display()))?;
            }
            return self.print(ui, outcome, chosen);
        }
        write_file_if(path, &bytes, |temp| -> Result<()> {
            outcome.tensors = self.check_adapter(ui, model, asked, temp)?;
            Ok(())
        })?;
        outcome.in_history = Some(true);
        ui.say(format_args!("wrote {}", path.display()));
        self.print(ui, outcome, chosen)
    }

    /// The adapter under its temp name, as its readers see it: ours, then llama.cpp.
    fn check_adapter(
        &self,
        ui: &Ui,
        model: &Model,
        asked: Edit<'_>,
        temp: &Path,
    ) -> Result<Vec<super::TensorReport>> {
        Adapter::open(temp)?.check(model)?;
        let found = adapted(model, asked, &Model::open(temp)?, ui)?;
        if let Some(off) = found.iter().find(|a| (a.alpha / asked.alpha - 1.0).abs() > 1e-3) {
            bail!("{} holds an alpha of {}, {} was asked for", off.name, off.alpha, asked.alpha);
        }
        let (prober, options) = (ui.prober(), self.search.engine().1.options());
        let through = Through { prober: &prober, options };
        match through.complaint_of_adapter(model, temp)? {
            Some(complaint) => {
                bail!("the adapter was not written, for llama.cpp cannot use it: {complaint}")
            }
            None => Ok(found.iter().map(Into::into).collect()),
        }
    }

    fn step(&self, edited: &[Edited], chosen: &Chosen) -> Step {
        let names: Vec<&str> = edited.iter().map(|e| e.name.as_str()).collect();
        let realised = edited.iter().map(|e| (e.realised_alpha * 1e4).round() / 1e4);
        asked_step(chosen)
            .parameter("type", super::storage_name(self.storage))
            .parameter("edited", names.clone())
            .parameter("realised", realised.collect::<Vec<f64>>())
            .changed(names)
    }
}

fn asked_step(chosen: &Chosen) -> Step {
    let step = Step::new("repair", crate::VERSION)
        .parameter("alpha", chosen.alpha)
        .parameter("blocks", halves_text(&chosen.halves))
        .source("direction", &chosen.direction_sha256);
    match &chosen.model_sha256 {
        Some(sha256) => step.source("model", sha256),
        None => step,
    }
}

fn file_report(path: &Path, bytes: u64) -> FileReport {
    FileReport { path: path.display().to_string(), bytes }
}
