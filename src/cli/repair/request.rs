//! The arguments of a repair checked against each other, and what they ask for.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::restore::{AimArg, MethodArg};
use super::{FormatArg, PARTS, Repair, repaired_name};
use crate::cli::ui::Ui;
use crate::llama::graph::Part;
use crate::repair::{Half, Storage, Zeros};
use crate::verbs::repair::{
    AdapterFormat, Aim, Destination, DirectionSource, EditAfterRestore, EditSetup, Method,
    Original, Request, RestoreSetup,
};
use crate::verbs::search::Blocks;

impl Repair {
    /// What is asked for.
    pub(super) fn request(&self) -> Result<Request> {
        Ok(Request {
            model: self.model.clone(),
            method: self.method()?,
            destination: self.destination(),
            dry_run: self.dry_run,
            chat: self.search.chat(),
            engine: self.search.engine(),
        })
    }

    /// `Model-Q4_K_M.gguf` -> `Model-AIRD-Q4_K_M.gguf`: who downloads selects by the quant's name.
    pub(super) fn output(&self) -> PathBuf {
        self.output.clone().unwrap_or_else(|| repaired_name(&self.model))
    }

    /// Warns of options of a search where blocks and strength are given.
    pub(super) fn warn_of_unused(&self, ui: &Ui) {
        let is_edit = self.restore.method(self.reference.is_some()) == MethodArg::Aird;
        if !is_edit || self.block.0.is_none() || self.alpha.0.is_none() {
            return;
        }
        let aim = self.restore.aim.map(|_| "--aim");
        if let Some(option) = aim.or(self.search.of_search()) {
            ui.warn(format_args!("nothing is searched for: {option} is not used"));
        }
    }

    fn method(&self) -> Result<Method> {
        match (self.restore.method(self.reference.is_some()), &self.reference) {
            (MethodArg::Restore, Some(reference)) => {
                Ok(Method::Restore(self.restore_setup(reference)?))
            }
            (MethodArg::Restore, None) => {
                bail!("--method restore needs --reference: the original model itself")
            }
            (MethodArg::Aird, _) => match self.restore.of_restore() {
                Some(option) => bail!("{option} is of --method restore, this is --method aird"),
                None => Ok(Method::Aird(self.edit_setup()?)),
            },
        }
    }

    fn destination(&self) -> Destination {
        match (&self.lora, self.in_place) {
            (Some(lora), _) => {
                let format = match self.format {
                    FormatArg::Gguf => AdapterFormat::Gguf,
                    FormatArg::Peft => AdapterFormat::Peft { force: self.force },
                };
                Destination::Adapter { path: lora.clone(), rank: self.restore.rank(), format }
            }
            (None, true) => Destination::InPlace { verify: self.verify },
            (None, false) => Destination::NewFile { path: self.output(), force: self.force },
        }
    }

    fn edit_setup(&self) -> Result<EditSetup> {
        let parts: Vec<Part> = self.parts.iter().map(|p| p.part()).collect();
        let blocks = match &self.block.0 {
            Some(halves) => Blocks::Given(of_parts(halves, &parts)?),
            None => Blocks::Searched(parts),
        };
        let aim = match self.restore.aim {
            None | Some(AimArg::Strongest) => Aim::Strongest,
            Some(AimArg::Original) => Aim::Original,
            Some(AimArg::None) => {
                bail!("--aim none is of --method restore, this is --method aird")
            }
        };
        let original = self.original(aim)?;
        self.check_limits(aim)?;
        Ok(EditSetup {
            original,
            blocks,
            alpha: self.alpha.0,
            storage: self.storage,
            zeros: if self.fill_zeros { Zeros::Fill } else { Zeros::Keep },
            search: self.search.setup(),
        })
    }

    fn original(&self, aim: Aim) -> Result<Original> {
        match (&self.reference, &self.direction) {
            (None, _) if aim == Aim::Original => {
                bail!("--aim original needs --reference: the original model itself")
            }
            (None, Some(direction)) => Ok(Original::Direction(direction.clone())),
            (None, None) => bail!("no --direction and no --reference"),
            (Some(path), _) => {
                Ok(Original::Model { path: path.clone(), direction: self.source(), aim })
            }
        }
    }

    /// Where the direction of the reference comes from.
    fn source(&self) -> DirectionSource {
        match &self.direction {
            Some(path) => DirectionSource::File(path.clone()),
            None => DirectionSource::Found { keep: self.keep_direction.clone() },
        }
    }

    fn restore_setup(&self, reference: &Path) -> Result<RestoreSetup> {
        self.check_no_edit_options()?;
        let aim = match self.restore.aim {
            None | Some(AimArg::Original) => Some(Aim::Original),
            Some(AimArg::Strongest) => Some(Aim::Strongest),
            Some(AimArg::None) => None,
        };
        if let Some(aim) = aim {
            self.check_limits(aim)?;
        }
        let (direction, search) = (self.source(), self.search.setup());
        let aim = aim.filter(|_| self.lora.is_none());
        Ok(RestoreSetup {
            reference: reference.into(),
            data: self.restore.data.clone(),
            n_tokens: self.restore.tokens,
            safety_share: self.restore.safety_share,
            prior: self.restore.prior,
            edit: aim.map(|aim| EditAfterRestore { aim, direction, search }),
        })
    }

    /// Options of the other method are refused, and those of an edit where none is made.
    fn check_no_edit_options(&self) -> Result<()> {
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
            Some(AimArg::None) => Some("--aim none"),
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
            _ => Ok(()),
        }
    }

    /// Where the original is the aim it decides on false refusals.
    fn check_limits(&self, aim: Aim) -> Result<()> {
        match aim == Aim::Original && self.search.limits_false_refusals() {
            false => Ok(()),
            true => bail!(
                "--max-false-refusal applies only to --aim strongest; with --aim original the \
                 original's own rate is the limit"
            ),
        }
    }
}

/// Those of `halves` that are in `parts`.
fn of_parts(halves: &[Half], parts: &[Part]) -> Result<Vec<Half>> {
    let kept: Vec<Half> = halves.iter().copied().filter(|h| parts.contains(&h.part)).collect();
    match kept.is_empty() {
        true => bail!("--block and --parts leave nothing to edit"),
        false => Ok(kept),
    }
}
