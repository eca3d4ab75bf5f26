//! The paper's repair: blocks of the model write more along the original's refusal direction.

use super::destination::{Change, Written};
use super::original::{OriginalDirection, check_shape};
use super::report::{ArrivedReport, EditReport};
use super::request::{Destination, EditSetup, Repair};
use crate::gguf::{GgmlType, Model, Step, check_patch, check_room};
use crate::llama::graph::{Structure, Writer};
use crate::prompts::{self, Part};
use crate::repair::{
    self, Arrived, Asked, Edit, Edited, Half, Proof, Storage, Zeros, arrivals, check, check_asked,
    halves_text,
};
use crate::report::search::SearchReport;
use crate::verbs::error::{Error, Result};
use crate::verbs::model::{file_name, load};
use crate::verbs::search::{Blocks, Goal, Place, Question, SearchSetup, front_text};
use crate::verbs::stopped::Stopped;

/// Prompts of each kind that what norms leave is measured on.
const N_MEASURED: usize = 8;

/// What an edit is made of, apart from its place.
struct Resolved {
    structure: Structure,
    original: OriginalDirection,
    /// The original's direction, `[n_embd]`, of length 1.
    unit: Vec<f32>,
    storage: Storage,
    zeros: Zeros,
    /// Of the model; None where the history does not name it.
    model_sha256: Option<String>,
}

/// The place that was given or found.
struct ChosenPlace {
    place: Place,
    search: Option<SearchReport>,
}

impl Resolved {
    fn edit<'a>(&'a self, halves: &'a [Half], alpha: f64) -> Edit<'a> {
        let Resolved { unit, structure, storage, zeros, .. } = self;
        Edit { unit, alpha, halves, storage: *storage, zeros: *zeros, structure }
    }
}

impl Repair<'_> {
    /// Edits the model.
    pub(super) fn strengthen(&self, setup: &EditSetup) -> Result<EditReport, Stopped> {
        let model = Model::open(&self.request.model)?;
        let resolved = self.resolve(setup, &model)?;
        let ChosenPlace { place, search } = self.choose(setup, &model, &resolved)?;
        let edit = resolved.edit(&place.halves, place.alpha);
        let step = step(edit, &resolved);
        let mut report = EditReport {
            dry_run: self.request.dry_run,
            blocks: halves_text(&place.halves),
            alpha: Some(place.alpha),
            direction_sha256: resolved.original.sha256.clone(),
            search,
            ..EditReport::default()
        };
        let written = if let Destination::Adapter { path, format, .. } = &self.request.destination {
            report.after_norms = self.after_norms(&model, edit);
            let adapter = self.write_adapter(&model, edit, &step, path, *format)?;
            report.tensors = adapter.tensors.iter().map(Into::into).collect();
            adapter.written
        } else {
            let edited = self.edited(&model, edit)?;
            report.after_norms = self.after_norms(&model, edit);
            report.tensors = edited.iter().map(Into::into).collect();
            let proof = match self.request.dry_run {
                true => None,
                false => Some(Proof::before(&model, &edited, self.host)?),
            };
            let step = realised(step, setup.storage, &edited);
            let restored = Vec::new();
            self.write(model, Change { restored, edited: &edited, proof: proof.as_ref(), step })?
        };
        let Written { files, journals, in_history, computed_bytes, estimated_seconds } = written;
        // What norms leave is measured by running the model.
        let estimated_seconds = estimated_seconds.filter(|_| !is_normed(edit));
        let report = EditReport { files, journals, in_history, ..report };
        Ok(EditReport { computed_bytes, estimated_seconds, ..report })
    }

    /// Checks everything that can be checked before a search, which takes minutes, and reads or
    /// finds the direction.
    fn resolve(&self, setup: &EditSetup, model: &Model) -> Result<Resolved> {
        let structure = self.host.prober().structure(model)?;
        self.check_request(setup, model, &structure)?;
        let original = self.direction_of(&setup.original)?;
        let unit = original.direction.unit()?;
        let storage = match setup.storage {
            // Another type would be of another size.
            Storage::Auto if self.request.destination.is_in_place() => Storage::Keep,
            storage => storage,
        };
        let (zeros, model_sha256) = (setup.zeros, None);
        let mut resolved = Resolved { structure, original, unit, storage, zeros, model_sha256 };
        check(model, resolved.edit(setup.given_halves(), setup.alpha.unwrap_or(1.0)))?;
        resolved.model_sha256 = self.check_direction(model, &resolved.original.direction)?;
        Ok(resolved)
    }

    /// Checks everything that can be checked before a direction is found, which may take minutes.
    fn check_request(&self, setup: &EditSetup, model: &Model, structure: &Structure) -> Result<()> {
        match &self.request.destination {
            Destination::InPlace { .. } => check_patch(model)?,
            // Types may grow; most stay.
            Destination::NewFile { path, .. } if !self.request.dry_run => {
                check_room(path, model.file_bytes())?;
            }
            _ => {}
        }
        setup.search.check()?;
        let (alpha, halves) = (setup.alpha.unwrap_or(1.0), setup.given_halves());
        check_asked(Asked { alpha, halves, structure })?;
        if let (true, Storage::Named(ty)) = (self.request.destination.is_in_place(), setup.storage)
        {
            check_types(model, structure, &setup.blocks, ty)?;
        }
        match setup.original.model() {
            Some(reference) => check_shape(model, reference),
            None => Ok(()),
        }
    }

    /// The place that was given, or that a search finds.
    fn choose(
        &self,
        setup: &EditSetup,
        model: &Model,
        resolved: &Resolved,
    ) -> Result<ChosenPlace, Stopped> {
        if let (Blocks::Given(halves), Some(alpha)) = (&setup.blocks, setup.alpha) {
            let place = Place { halves: halves.clone(), alpha };
            return Ok(ChosenPlace { place, search: None });
        }
        let question = Question {
            model_name: &file_name(&self.request.model),
            direction: &resolved.original.direction,
            direction_sha256: &resolved.original.sha256,
            blocks: &setup.blocks,
            alpha: setup.alpha,
            goal: self.goal(setup, model)?,
        };
        let answer = self.searcher(&setup.search).search(model, &question)?;
        if answer.place.is_some() {
            self.host.say(front_text(&answer.report, "unrepaired").trim_end());
        }
        // After it was shown: a disk that is full does not take the search away.
        if let Err(error) = self.keep_front(&setup.search, &answer.report) {
            if answer.place.is_none() {
                self.host.say(front_text(&answer.report, "unrepaired").trim_end());
            }
            return Err(error.into());
        }
        match answer.place {
            Some(place) => Ok(ChosenPlace { place, search: Some(answer.report) }),
            None => Err(Stopped::NothingHelps(Box::new(EditReport {
                dry_run: self.request.dry_run,
                direction_sha256: resolved.original.sha256.clone(),
                search: Some(answer.report),
                ..EditReport::default()
            }))),
        }
    }

    /// Writes the front, but not in a dry run.
    pub(super) fn keep_front(&self, setup: &SearchSetup, report: &SearchReport) -> Result<()> {
        match self.request.dry_run {
            true => Ok(()),
            false => setup.write_front(report),
        }
    }

    /// What the search is for.
    fn goal(&self, setup: &EditSetup, model: &Model) -> Result<Goal> {
        let Some(reference) = setup.original.aimed_at() else {
            return Ok(Goal::Strongest { before: None });
        };
        let counts = self.counts(&setup.search, &Model::open(reference)?, model)?;
        let counts = counts.ok_or(Error::ThinksInComparison)?;
        Ok(Goal::Original { original: counts.original, before: counts.ours })
    }

    /// Edits in memory, and notes what came out otherwise than it might be expected.
    pub(super) fn edited(&self, model: &Model, edit: Edit<'_>) -> Result<Vec<Edited>> {
        let is_in_place = self.request.destination.is_in_place();
        let edited = repair::edit(model, edit, self.host).map_err(|error| match error {
            repair::Error::Lost { name, ty, realised, asked: alpha, .. } if is_in_place => {
                let blocks = halves_text(edit.halves);
                Error::LostInPlace { name, ty, realised, alpha, blocks }
            }
            error => error.into(),
        })?;
        for e in edited.iter().filter(|e| e.from != e.to) {
            let why = match edit.storage {
                Storage::Auto => format!("the edit is lost or too noisy in {}", e.from),
                Storage::Named(ty) if ty == e.to => "as asked".into(),
                _ => "its rows do not fit the type asked for".into(),
            };
            self.host.say(format_args!("{} becomes {}: {why}", e.name, e.to));
        }
        for e in edited.iter().filter(|e| is_in_place && e.from == e.to && e.is_noisy()) {
            self.host.warn(format_args!(
                "{} gets {:.2} times the noise of {}'s own rounding; in a new file it would \
                 become a finer type",
                e.name,
                e.noise / e.own_noise,
                e.to
            ));
        }
        for e in &edited {
            self.host.detail(format_args!(
                "{}: alpha {:.4}, of the expert furthest off {:.4}; noise {:.4}, of the type {:.4}",
                e.name, e.realised_alpha, e.worst_alpha, e.noise, e.own_noise
            ));
        }
        Ok(edited)
    }

    /// What norms leave of the edit; a model that cannot be asked is repaired all the same.
    fn after_norms(&self, model: &Model, edit: Edit<'_>) -> Vec<ArrivedReport> {
        if self.request.dry_run || !is_normed(edit) {
            return Vec::new();
        }
        let arrived = match self.arrived(model, edit) {
            Ok(arrived) => arrived,
            Err(error) => {
                self.host
                    .warn(format_args!("what norms leave of the edit was not measured: {error}"));
                return Vec::new();
            }
        };
        for one in arrived.iter().filter(|arrived| arrived.astray > 1.0) {
            self.host.warn(format_args!(
                "{}: its norm lets more astray ({:.1} times) than it adds along the direction\n\
                 hint: a later block",
                one.tensor, one.astray
            ));
        }
        arrived.into_iter().map(Into::into).collect()
    }

    fn arrived(&self, model: &Model, edit: Edit<'_>) -> Result<Vec<Arrived>> {
        let engine = load(self.host, model, self.request.engine)?;
        let prompts = [prompts::harmful(Part::Train), prompts::harmless(Part::Train)];
        let texts = prompts.iter().flat_map(|set| set.texts().take(N_MEASURED));
        let tokens: Vec<Vec<i32>> = texts.map(|text| engine.tokenize(text, true)).collect();
        let tokens: Vec<&[i32]> = tokens.iter().map(Vec::as_slice).collect();
        Ok(arrivals((model, &engine), edit, &tokens)?)
    }
}

/// True if a norm follows what is edited.
fn is_normed(edit: Edit<'_>) -> bool {
    let is_edited = |writer: &&Writer| edit.halves.contains(&Half::of(writer));
    edit.structure.writers().filter(is_edited).any(Writer::is_normed)
}

/// The edit for a file's history, as it is asked for.
fn step(edit: Edit<'_>, resolved: &Resolved) -> Step {
    let step = Step::new("repair", crate::VERSION)
        .parameter("alpha", edit.alpha)
        .parameter("blocks", halves_text(edit.halves))
        .source("direction", &resolved.original.sha256);
    match &resolved.model_sha256 {
        Some(sha256) => step.source("model", sha256),
        None => step,
    }
}

/// The step with what came of the edit.
fn realised(step: Step, storage: Storage, edited: &[Edited]) -> Step {
    let names: Vec<&str> = edited.iter().map(|e| e.name.as_str()).collect();
    let realised = edited.iter().map(|e| (e.realised_alpha * 1e4).round() / 1e4);
    step.parameter("type", storage_name(storage))
        .parameter("edited", names.clone())
        .parameter("realised", realised.collect::<Vec<f64>>())
        .changed(names)
}

fn storage_name(storage: Storage) -> String {
    match storage {
        Storage::Auto => "auto".into(),
        Storage::Keep => "keep".into(),
        Storage::Named(ty) => ty.name().to_lowercase(),
    }
}

/// In place no tensor can become of another type.
fn check_types(model: &Model, structure: &Structure, blocks: &Blocks, ty: GgmlType) -> Result<()> {
    let may_change = |writer: &&Writer| match blocks {
        Blocks::Given(halves) => halves.contains(&Half::of(writer)),
        Blocks::Searched(parts) => parts.contains(&writer.part),
    };
    let writers = structure.writers().filter(may_change);
    let infos = writers.filter_map(|writer| Some(model.tensor(&writer.tensor)?.info));
    match infos.into_iter().find(|info| info.ty != ty) {
        None => Ok(()),
        Some(info) => Err(Error::SizeInPlace { name: info.name.clone(), from: info.ty, to: ty }),
    }
}
