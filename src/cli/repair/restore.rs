//! `aird repair --reference ORIGINAL`: the compressed model brought back to its original.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use super::aim::{Added, Aim, checked};
use super::beside::{adapter_bytes, check_scales};
use super::report::Outcome;
use super::restored::Report;
use super::texts::{Mix, Texts, texts};
use super::{PARTS, Repair};
use crate::cli::args::file_name;
use crate::cli::output::{FileReport, OutputArgs, sha256_of};
use crate::cli::search::{above_zero, at_least_one};
use crate::cli::text::{bytes_text, counted};
use crate::cli::ui::Ui;
use crate::direction::Direction;
use crate::gguf::{
    Layout, Model, Patch, Rewrite, Step, Tensor, TensorInfo, Watch, check_patch, same_file,
};
use crate::quant::is_block_matrix;
use crate::refit::{Job, Parts, Refit, Refitted, Towards, Zeros, refit};
use crate::repair::{Error, Storage, apply, replacement as edit_replacement};
use crate::stats::Sample;
use crate::verbs::parts::{
    check_room_for_parts, made_of, note_block, note_kept, parts_folder, put_into, replacement,
    warn_of_experts,
};

/// Rows as wide as the stream that are kept of a token while a block is refitted.
const ROWS: u64 = 12;
/// Tokens for each input of the widest matrix, at the least.
const LEAST_TOKENS: u64 = 2;

/// Tokens that are read.
const TOKENS: usize = 20_000;
/// Part of them that is requests.
const SAFETY_SHARE: f64 = 0.5;
/// Ridge towards the original's weights.
const PRIOR: f64 = 0.1;
/// Rank of an adapter.
const RANK: u16 = 32;

/// Refitted matrices, in parts beside the output, and what made them.
pub(super) struct Done {
    pub restored: Refitted,
    pub parts: Parts,
    pub step: Step,
    pub samples: Vec<Sample>,
}

/// How a restore goes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Restore")]
pub struct RestoreArgs {
    /// restore refits the model's matrices to its original's activations; aird strengthens the
    /// original's direction. Default: restore with --reference, aird with --direction.
    #[arg(long, value_enum, value_name = "METHOD")]
    method: Option<Method>,
    /// General text to read in place of aird's own: a text, or records with a field text.
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Tokens to read.
    #[arg(long, default_value_t = TOKENS, value_name = "N", value_parser = enough)]
    tokens: usize,
    /// Part of them that is aird's own training requests with the original's answers; the rest is
    /// general text.
    #[arg(long, default_value_t = SAFETY_SHARE, value_name = "PART", value_parser = part)]
    safety_share: f64,
    /// How strongly matrices hold on to the original's weights, in means of their inputs' squares.
    #[arg(long, default_value_t = PRIOR, value_name = "X", value_parser = above_zero)]
    prior: f64,
    /// Rank of the adapter that --lora writes. Default: 32.
    #[arg(long, value_name = "N", requires = "lora", value_parser = at_least_one::<u16>)]
    rank: Option<u16>,
    /// What an edit along the original's direction aims at. Default: original once the model is
    /// restored, where held-out prompts are refused less than by the original; strongest with
    /// --method aird.
    #[arg(long, value_enum, value_name = "AIM")]
    aim: Option<Aim>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Method {
    /// Refit every matrix of the blocks.
    Restore,
    /// W + alpha r r^T W on chosen blocks.
    Aird,
}

impl RestoreArgs {
    /// The method, given whether there is a reference.
    pub fn method(&self, reference: bool) -> Method {
        let usual = if reference { Method::Restore } else { Method::Aird };
        self.method.unwrap_or(usual)
    }

    /// What an edit of --method aird aims at.
    pub fn aim_of_edit(&self, has_reference: bool) -> Result<Aim> {
        checked(self.aim, Aim::Strongest, has_reference)
    }

    /// Rank of an adapter.
    pub fn rank(&self) -> usize {
        self.rank.unwrap_or(RANK).into()
    }

    fn mix(&self) -> Mix {
        Mix { n_tokens: self.tokens, safety_share: self.safety_share }
    }

    /// An option that a restore alone goes by and that is not as usual.
    pub fn of_restore(&self) -> Option<&'static str> {
        let given = [
            (self.data.is_some(), "--data"),
            (self.tokens != TOKENS, "--tokens"),
            (self.safety_share != SAFETY_SHARE, "--safety-share"),
            (self.prior != PRIOR, "--prior"),
            (self.rank.is_some(), "--rank"),
        ];
        given.into_iter().find(|(given, _)| *given).map(|(_, option)| option)
    }

    /// True if an aim was given.
    pub fn has_aim(&self) -> bool {
        self.aim.is_some()
    }

    /// The file that these arguments name.
    pub fn data(&self) -> Option<&PathBuf> {
        self.data.as_ref()
    }
}

impl Repair {
    /// Restores, and writes what was restored.
    pub(super) fn restore(&self, ui: &Ui, reference: &Path) -> Result<()> {
        let (model, original) = (Model::open(&self.model)?, Model::open(reference)?);
        self.check_restore(&model, &original)?;
        let output = self.restored_to();
        if self.dry_run {
            return self.would_restore(ui, &model, &output);
        }
        let done = self.refitted(ui, (&model, &original), &output)?;
        match &self.lora {
            Some(lora) => self.write_beside(ui, (&model, &original), done, lora),
            None => self.finish(ui, model, &original, done),
        }
    }

    /// Refits block by block, and leaves what is new in parts beside the output.
    fn refitted(
        &self,
        ui: &Ui,
        (model, original): (&Model, &Model),
        output: &Path,
    ) -> Result<Done> {
        check_room_for_parts(output, self.room(model)?)?;
        let (chat, engine) = self.search.engine();
        let chat = chat.chat(original)?;
        let read = {
            let engine = engine.load(ui, original)?;
            texts(ui, (&engine, &chat), self.restore.data.as_deref(), self.restore.mix())?
        };
        warn_of(ui, (model, original), &read);
        // That the compressed one runs at all.
        drop(engine.load(ui, model)?);
        let sources = [sha256_of(ui, model)?, sha256_of(ui, original)?];
        let step = self.restore_step(&sources, &read);
        let parts = Parts::open(&parts_folder(output), made_of(&step, &read.samples))?;
        let asked = Refit {
            model,
            reference: original,
            samples: &read.samples,
            towards: Towards::Original { prior: self.restore.prior as f32 },
            job: &|info| {
                Some(match self.lora {
                    Some(_) => Job::Beside { rank: self.restore.rank() },
                    None => Job::Swept { ty: info.ty, zeros: Zeros::Own },
                })
            },
            options: engine.options(),
            prober: &ui.prober(),
            watch: ui,
        };
        let restored = refit(&asked, &parts, &mut |block| note_block(ui, block))
            .inspect_err(|_| note_kept(ui, &parts))?;
        warn_of_experts(ui, &restored, "they keep their weights");
        Ok(Done { restored, parts, step, samples: read.samples })
    }

    /// Adds the edit that is still needed, and writes the file.
    fn finish(&self, ui: &Ui, model: Model, original: &Model, done: Done) -> Result<()> {
        let Done { restored, parts, step, .. } = done;
        let models = parts.models(restored.blocks.len());
        let tensors: Vec<Tensor<'_>> = models.iter().flat_map(Model::tensors).collect();
        let names = tensors.iter().map(|t| t.info.name.as_str());
        let step = step.changed(names);
        let aim = self.restore.aim.unwrap_or(Aim::Original);
        let (aim, added) = self
            .add(ui, (&model, original), &tensors, (aim, parts.folder()))
            .inspect_err(|_| note_kept(ui, &parts))?;
        let step = match &added {
            Some(added) => added.recorded(step, &tensors),
            None => step,
        };
        // What was edited once more is not written as it was restored.
        let left: Vec<Tensor<'_>> = tensors.into_iter().filter(|t| !is_edited(&added, t)).collect();
        let outcome = match self.in_place {
            true => self.patch_restored(ui, model, (&left, added), step),
            false => self.write_restored(ui, &model, (&left, added.as_ref()), step),
        };
        let outcome = outcome.inspect_err(|_| note_kept(ui, &parts))?;
        drop(models);
        parts.remove();
        let Outcome { files, journals, in_history, .. } = outcome;
        Report { files, dry_run: false, journals, in_history, aim, restored }.print(ui, self.json)
    }

    /// `--dry-run`: the file, which is as long as the model, and what it takes.
    fn would_restore(&self, ui: &Ui, model: &Model, output: &Path) -> Result<()> {
        let bytes = match self.lora {
            Some(_) => adapter_bytes(model, self.restore.rank()),
            None => model.file_bytes(),
        };
        let n = counted(self.restore.tokens, "token");
        let blocks = counted(model.needed_hparam("block_count")?, "block");
        let files = vec![FileReport { path: output.display().to_string(), bytes }];
        if self.json {
            return Report { files, dry_run: true, ..Report::default() }.print(ui, true);
        }
        let at_most = if self.lora.is_some() { "at most " } else { "" };
        ui.print(format_args!(
            "would write\n  {}  {at_most}{}\n  once the matrices of {blocks} are refitted on {n}, \
             with up to {} on the disk meanwhile\n",
            output.display(),
            bytes_text(bytes),
            bytes_text(self.room(model)?)
        ))
    }

    /// Everything that can be seen before what takes minutes.
    fn check_restore(&self, model: &Model, original: &Model) -> Result<()> {
        self.check_options()?;
        self.check_alike(model, original)?;
        if let Some(direction) = &self.direction {
            let direction = Direction::read(direction)?;
            direction.unit()?;
            let found = direction.candidates.n_embd;
            let expected = model.needed_hparam("embedding_length")?;
            if found as u64 != expected {
                return Err(Error::Width { found, expected }.into());
            }
        }
        if self.in_place {
            check_patch(model)?;
        }
        match self.lora {
            Some(_) => check_scales(model),
            None => Ok(()),
        }
    }

    /// Options of the other method are said to be so.
    fn check_options(&self) -> Result<()> {
        let of_aird = [
            (self.block.0.is_some(), "--block"),
            (self.alpha.0.is_some(), "--alpha"),
            (self.fill_zeros, "--fill-zeros"),
            (self.storage != Storage::Auto, "--type"),
            (self.parts.len() < PARTS.len(), "--parts"),
        ];
        if let Some((_, option)) = of_aird.iter().find(|(given, _)| *given) {
            bail!("{option} is of --method aird, this is --method restore");
        }
        let of_edit = self.keep_direction.as_ref().map(|_| "--keep-direction");
        let of_edit = of_edit.or(self.direction.as_ref().map(|_| "--direction"));
        let of_edit = of_edit.or(self.search.of_search());
        let no_edit = match self.restore.aim {
            Some(Aim::None) => Some("--aim none"),
            _ if self.lora.is_some() => Some("--lora"),
            _ => None,
        };
        match (no_edit, of_edit) {
            (Some(none), Some(option)) => {
                bail!("{option} applies to an edit along the direction, which {none} rules out")
            }
            (Some("--lora"), _) if self.restore.aim.is_some() => {
                bail!("--aim applies to an edit along the direction, which --lora rules out")
            }
            _ => {}
        }
        self.check_limits(self.restore.aim.unwrap_or(Aim::Original))?;
        self.search.check()
    }

    pub(super) fn restored_to(&self) -> PathBuf {
        match (&self.lora, self.in_place) {
            (Some(lora), _) => lora.clone(),
            (None, true) => self.model.clone(),
            (None, false) => self.output(),
        }
    }

    /// Bytes that are needed on the disk, at the most.
    fn room(&self, model: &Model) -> Result<u64> {
        let files = match self.lora {
            Some(_) => 2 * adapter_bytes(model, self.restore.rank()),
            // The parts, the restored model to ask, and the file or its journal.
            None => 3 * model.file_bytes(),
        };
        // Rows of activations: inputs, outputs and the stream, of one block at a time.
        let n_embd = model.needed_hparam("embedding_length")?;
        let infos = model.tensors().map(|t| t.info).filter(|info| is_block_matrix(info));
        let widest = infos.map(TensorInfo::n_cols).max().unwrap_or(0);
        let a_token = 4 * (ROWS * n_embd + widest);
        Ok(files + self.restore.tokens as u64 * a_token)
    }

    /// The reference is the very model that was compressed.
    fn check_alike(&self, model: &Model, original: &Model) -> Result<()> {
        let reference = &original.shards()[0].path;
        let hint = "hint: the reference is the very model that was compressed";
        if same_file(&self.model, reference) {
            bail!("the reference is the model itself: {}\n{hint}", reference.display());
        }
        let (found, expected) = (original.architecture(), model.architecture());
        if found != expected {
            bail!("the reference is of architecture {found}, the model of {expected}\n{hint}");
        }
        for tensor in model.tensors().map(|t| t.info) {
            let name = &tensor.name;
            match original.tensor(name).map(|t| t.info) {
                None => bail!("the reference has no tensor {name}\n{hint}"),
                Some(other) if other.shape != tensor.shape => bail!(
                    "{name} is {} in the reference, {} in the model\n{hint}",
                    other.shape_text(),
                    tensor.shape_text()
                ),
                Some(_) => {}
            }
        }
        let tokens = |m: &Model| m.texts("tokenizer.ggml.tokens").map(|t| t.cloned());
        match tokens(model)? == tokens(original)? {
            true => Ok(()),
            false => bail!("the reference has another vocabulary than the model\n{hint}"),
        }
    }

    fn restore_step(&self, [model, reference]: &[String; 2], read: &Texts) -> Step {
        let data = self.restore.data.as_ref().map_or("builtin".into(), |path| file_name(path));
        let step = Step::new("repair", crate::VERSION).parameter("method", "restore");
        let step = match self.lora {
            Some(_) => step.parameter("rank", self.restore.rank() as u64),
            None => step,
        };
        step.parameter("prior", self.restore.prior)
            .parameter("data", data)
            .parameter("tokens", (read.n_safety + read.n_general) as u64)
            .parameter("safety_tokens", read.n_safety as u64)
            .source("model", model)
            .source("reference", reference)
    }

    fn write_restored(
        &self,
        ui: &Ui,
        model: &Model,
        (tensors, added): (&[Tensor<'_>], Option<&Added>),
        step: Step,
    ) -> Result<Outcome> {
        let mut rewrite = Rewrite::new(model, Layout::Single);
        put_into(&mut rewrite, tensors.iter().copied())?;
        if let Some(added) = added {
            apply(&mut rewrite, &added.edited)?;
        }
        rewrite.record(step);
        let (force, dry_run, keep_shards) = (self.force, false, false);
        let out = OutputArgs { output: self.output(), force, dry_run, keep_shards };
        let check = |new: &Model, watch: &dyn Watch| match added {
            Some(added) => Ok(added.proof.check(new, &added.edited, watch)?),
            None => Ok(()),
        };
        let files = out.write_if(ui, rewrite, self.search.engine().1.options(), check)?;
        Ok(Outcome { files, in_history: Some(true), ..Outcome::default() })
    }

    fn patch_restored(
        &self,
        ui: &Ui,
        model: Model,
        (tensors, added): (&[Tensor<'_>], Option<Added>),
        step: Step,
    ) -> Result<Outcome> {
        let mut patch = Patch::new(&model);
        for tensor in tensors {
            patch.replace(&tensor.info.name, replacement(*tensor))?;
        }
        for edited in added.iter().flat_map(|added| &added.edited) {
            patch.replace(&edited.name, edit_replacement(edited))?;
        }
        let ready = patch.produce(ui)?;
        drop(model);
        let mut outcome = Outcome::default();
        // The bytes were compared as they were written, and mean what was measured.
        let again = || match &added {
            Some(added) => {
                let model = Model::open(&self.model)?;
                Ok(added.proof.check(&model, &added.edited, ui)?)
            }
            None => Ok(()),
        };
        self.put_in_place(ui, ready, step, &mut outcome, again)?;
        Ok(outcome)
    }
}

/// Says what a restore can do less well with.
fn warn_of(ui: &Ui, (model, original): (&Model, &Model), read: &Texts) {
    let matrices = |m: &Model| -> Vec<TensorInfo> {
        let infos = m.tensors().map(|t| t.info).filter(|info| is_block_matrix(info));
        infos.cloned().collect()
    };
    let bits = |infos: &[TensorInfo]| -> f64 {
        let n: u64 = infos.iter().map(|i| i.n_rows() * i.n_cols()).sum();
        let bytes: u64 = infos.iter().map(|i| i.n_rows() * i.row_bytes()).sum();
        8.0 * bytes as f64 / n.max(1) as f64
    };
    let (ours, theirs) = (matrices(model), matrices(original));
    let (fewer, more) = (bits(&theirs), bits(&ours));
    if fewer < more {
        ui.warn(format_args!(
            "the reference has {fewer:.1} bits a weight, the model {more:.1}: what the reference \
             lost when it was compressed itself is not brought back"
        ));
    }
    let widest = ours.iter().map(|info| info.n_cols()).max().unwrap_or(0);
    let n_tokens = (read.n_safety + read.n_general) as u64;
    if n_tokens < LEAST_TOKENS * widest {
        ui.warn(format_args!(
            "the calibration texts have {}, the widest matrix has {widest} inputs: so few tell \
             little about them\nhint: --tokens {}, and --data FILE where the texts are too short",
            counted(n_tokens, "token"),
            LEAST_TOKENS * widest
        ));
    }
}

fn is_edited(added: &Option<Added>, tensor: &Tensor<'_>) -> bool {
    added.iter().flat_map(|added| &added.edited).any(|e| e.name == tensor.info.name)
}

fn enough(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if n >= 1000 => Ok(n),
        _ => Err("expected a number of 1000 or more".into()),
    }
}

fn part(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(x) if (0.0..=1.0).contains(&x) => Ok(x),
        _ => Err("expected a number from 0 to 1".into()),
    }
}
