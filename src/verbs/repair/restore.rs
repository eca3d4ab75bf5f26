//! The compressed model brought back to its original, matrix by matrix.

use super::aim::{AddedEdit, Aimed};
use super::beside::{adapter_bytes, check_scales};
use super::destination::{Change, Written};
use super::original::check_alike;
use super::refitted::{Pair, RefittedParts};
use super::report::{PlannedRestore, RestoreReport};
use super::request::{Destination, DirectionSource, EditAfterRestore, Repair, RestoreSetup};
use super::texts::{Mix, Texts, texts};
use crate::direction::Direction;
use crate::gguf::{Model, Step, Tensor, TensorInfo, check_patch};
use crate::quant::is_block_matrix;
use crate::refit::{Job, Parts, Refit, Towards, Zeros, refit};
use crate::repair;
use crate::verbs::error::{Error, Result};
use crate::verbs::files::FileReport;
use crate::verbs::host::Host;
use crate::verbs::model::{file_name, load, sha256_of};
use crate::verbs::parts::{
    check_room_for_parts, made_of, note_block, note_kept, parts_folder, warn_of_experts,
};
use crate::verbs::words::counted;

/// Rows as wide as the stream that are kept of a token while a block is refitted.
const ROWS: u64 = 12;
/// Tokens for each input of the widest matrix, at the least.
const LEAST_TOKENS: u64 = 2;

impl Repair<'_> {
    /// Restores, and writes what was restored.
    pub(super) fn restore(&self, setup: &RestoreSetup) -> Result<RestoreReport> {
        let model = Model::open(&self.request.model)?;
        let original = Model::open(&setup.reference)?;
        let pair = Pair { model: &model, original: &original };
        self.check_restore(setup, pair)?;
        if self.request.dry_run {
            return self.planned(setup, &model);
        }
        let made = self.refitted_parts(setup, pair)?;
        match &self.request.destination {
            Destination::Adapter { path, rank, format } => {
                self.write_beside(pair, made, path, *rank, *format)
            }
            _ => self.finish(setup, model, &original, made),
        }
    }

    /// Refits block by block, and leaves what is new in parts beside the output.
    fn refitted_parts(&self, setup: &RestoreSetup, pair: Pair<'_>) -> Result<RefittedParts> {
        let Pair { model, original } = pair;
        let (host, options) = (self.host, self.request.engine);
        let output = self.request.destination.path(&self.request.model);
        check_room_for_parts(output, self.room(setup, model)?)?;
        let chat = self.request.chat.chat(original)?;
        let read = {
            let engine = load(host, original, options)?;
            let mix = Mix { n_tokens: setup.n_tokens, safety_share: setup.safety_share };
            texts(host, &engine, &chat, setup.data.as_deref(), mix)?
        };
        warn_of(host, pair, &read);
        // That the compressed one runs at all.
        drop(load(host, model, options)?);
        let step = self.restore_step(setup, pair, &read)?;
        let made_of = made_of(&step, &read.samples, options);
        let parts = Parts::open(&parts_folder(output), made_of)?;
        let asked = Refit {
            model,
            reference: original,
            samples: &read.samples,
            towards: Towards::Original { prior: setup.prior as f32 },
            job: &|info| {
                Some(match self.request.destination {
                    Destination::Adapter { rank, .. } => Job::Beside { rank },
                    _ => Job::Swept { ty: info.ty, zeros: Zeros::Own },
                })
            },
            options,
            prober: &host.prober(),
            watch: host,
        };
        let refitted = refit(&asked, &parts, &mut |block| note_block(host, block))
            .inspect_err(|_| note_kept(host, &parts))?;
        warn_of_experts(host, &refitted, "they keep their weights");
        Ok(RefittedParts { refitted, parts, step, samples: read.samples })
    }

    /// Adds the edit that is still needed, and writes the model.
    fn finish(
        &self,
        setup: &RestoreSetup,
        model: Model,
        original: &Model,
        made: RefittedParts,
    ) -> Result<RestoreReport> {
        let RefittedParts { refitted, parts, step, .. } = made;
        let models = parts.models(refitted.blocks.len());
        let tensors: Vec<Tensor<'_>> = models.iter().flat_map(Model::tensors).collect();
        let step = step.changed(tensors.iter().map(|t| t.info.name.as_str()));
        let pair = Pair { model: &model, original };
        let aimed = match &setup.edit {
            Some(edit) => self
                .add(edit, pair, &tensors, parts.folder())
                .inspect_err(|_| note_kept(self.host, &parts))?,
            None => Aimed::default(),
        };
        let change = change(step, tensors, aimed.edit.as_ref());
        let written = self.write(model, change).inspect_err(|_| note_kept(self.host, &parts))?;
        drop(models);
        parts.remove();
        let Written { files, journals, in_history, .. } = written;
        let aim = aimed.report;
        let report = RestoreReport { files, journals, in_history, aim, ..RestoreReport::default() };
        Ok(report.with(refitted))
    }

    /// In a dry run: the file, which is as long as the model, and what the restore takes.
    fn planned(&self, setup: &RestoreSetup, model: &Model) -> Result<RestoreReport> {
        let bytes = match self.request.destination {
            Destination::Adapter { rank, .. } => adapter_bytes(model, rank),
            _ => model.file_bytes(),
        };
        let output = self.request.destination.path(&self.request.model);
        let blocks = model.needed_hparam("block_count")?;
        let planned = PlannedRestore { blocks, disk_bytes: self.room(setup, model)? };
        Ok(RestoreReport {
            files: vec![FileReport::new(output, bytes)],
            dry_run: true,
            planned: Some(planned),
            ..RestoreReport::default()
        })
    }

    /// Checks everything that can be checked before what takes minutes.
    fn check_restore(&self, setup: &RestoreSetup, pair: Pair<'_>) -> Result<()> {
        let Pair { model, original } = pair;
        if let Some(edit) = &setup.edit {
            edit.search.check()?;
        }
        check_alike(model, original)?;
        if let Some(EditAfterRestore { direction: DirectionSource::File(path), .. }) = &setup.edit {
            let direction = Direction::read(path)?;
            direction.unit()?;
            let found = direction.candidates.n_embd;
            let expected = model.needed_hparam("embedding_length")?;
            if found as u64 != expected {
                return Err(repair::Error::Width { found, expected }.into());
            }
        }
        match (&self.request.destination, &setup.edit) {
            (Destination::Adapter { .. }, Some(_)) => Err(Error::sentence(
                "an adapter takes what is restored, and no edit along the direction after it",
            )),
            (Destination::Adapter { .. }, None) => check_scales(model),
            (Destination::InPlace { .. }, _) => Ok(check_patch(model)?),
            (Destination::NewFile { .. }, _) => Ok(()),
        }
    }

    /// Bytes that are needed on the disk, at the most.
    fn room(&self, setup: &RestoreSetup, model: &Model) -> Result<u64> {
        let files = match self.request.destination {
            Destination::Adapter { rank, .. } => 2 * adapter_bytes(model, rank),
            // The parts, the restored model to ask, and the file or its journal.
            _ => 3 * model.file_bytes(),
        };
        // Rows of activations: inputs, outputs and the stream, of one block at a time.
        let n_embd = model.needed_hparam("embedding_length")?;
        let infos = model.tensors().map(|t| t.info).filter(|info| is_block_matrix(info));
        let widest = infos.map(TensorInfo::n_cols).max().unwrap_or(0);
        let a_token = 4 * (ROWS * n_embd + widest);
        Ok(files + setup.n_tokens as u64 * a_token)
    }

    fn restore_step(&self, setup: &RestoreSetup, pair: Pair<'_>, read: &Texts) -> Result<Step> {
        let model = sha256_of(self.host, pair.model)?;
        let reference = sha256_of(self.host, pair.original)?;
        let data = setup.data.as_ref().map_or("builtin".into(), |path| file_name(path));
        let step = Step::new("repair", crate::VERSION).parameter("method", "restore");
        let step = match self.request.destination {
            Destination::Adapter { rank, .. } => step.parameter("rank", rank as u64),
            _ => step,
        };
        Ok(step
            .parameter("prior", setup.prior)
            .parameter("data", data)
            .parameter("tokens", (read.n_safety + read.n_general) as u64)
            .parameter("safety_tokens", read.n_safety as u64)
            .source("model", &model)
            .source("reference", &reference))
    }
}

/// What is new in the model: what was edited after it was restored is written as it was edited.
fn change<'a>(step: Step, restored: Vec<Tensor<'a>>, edit: Option<&'a AddedEdit>) -> Change<'a> {
    let Some(edit) = edit else { return Change { restored, edited: &[], proof: None, step } };
    let step = edit.recorded(step, &restored);
    let is_edited = |tensor: &Tensor<'_>| edit.edited.iter().any(|e| e.name == tensor.info.name);
    let restored = restored.into_iter().filter(|tensor| !is_edited(tensor)).collect();
    Change { restored, edited: &edit.edited, proof: Some(&edit.proof), step }
}

/// Warns of what a restore can do less well with.
fn warn_of(host: &dyn Host, pair: Pair<'_>, read: &Texts) {
    let matrices = |m: &Model| -> Vec<TensorInfo> {
        let infos = m.tensors().map(|t| t.info).filter(|info| is_block_matrix(info));
        infos.cloned().collect()
    };
    let (ours, theirs) = (matrices(pair.model), matrices(pair.original));
    let (fewer, more) = (bits_a_weight(&theirs), bits_a_weight(&ours));
    if fewer < more {
        host.warn(format_args!(
            "the reference has {fewer:.1} bits a weight, the model {more:.1}: what the reference \
             lost when it was compressed itself is not brought back"
        ));
    }
    let widest = ours.iter().map(|info| info.n_cols()).max().unwrap_or(0);
    let n_tokens = (read.n_safety + read.n_general) as u64;
    if n_tokens < LEAST_TOKENS * widest {
        host.warn(format_args!(
            "the calibration texts have {}, the widest matrix has {widest} inputs: so few \
             determine little of it\nhint: {} or more, and other texts where these are too short",
            counted(n_tokens, "token"),
            counted(LEAST_TOKENS * widest, "token")
        ));
    }
}

fn bits_a_weight(infos: &[TensorInfo]) -> f64 {
    let n: u64 = infos.iter().map(|i| i.n_rows() * i.n_cols()).sum();
    let bytes: u64 = infos.iter().map(|i| i.n_rows() * i.row_bytes()).sum();
    8.0 * bytes as f64 / n.max(1) as f64
}
