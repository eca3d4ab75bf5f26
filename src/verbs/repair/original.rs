//! What there is of the original model, and whether it is the original of this one.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::request::{Destination, DirectionSource, Original, Repair};
use crate::direction::Direction;
use crate::gguf::{Model, hex, same_file, write_file};
use crate::verbs::direction::DirectionSetup;
use crate::verbs::error::{Error, Result};
use crate::verbs::model::{file_name, sha256_of};
use crate::verbs::output::no_sha256;
use crate::verbs::vocabulary;
use crate::verbs::words::counted;

const HINT: &str = "hint: the reference is the very model that was compressed";

/// An original's direction.
pub(super) struct OriginalDirection {
    pub direction: Direction,
    /// Of its file.
    pub sha256: String,
}

impl OriginalDirection {
    fn read(path: &Path) -> Result<OriginalDirection> {
        let sha256 = hex(&Sha256::digest(std::fs::read(path).unwrap_or_default()));
        Ok(OriginalDirection { direction: Direction::read(path)?, sha256 })
    }
}

impl Repair<'_> {
    pub(super) fn direction_of(&self, original: &Original) -> Result<OriginalDirection> {
        match original {
            Original::Direction(path) => OriginalDirection::read(path),
            Original::Model { path, direction, .. } => self.direction(path, direction),
        }
    }

    /// The direction of the original at `reference`, read or found.
    pub(super) fn direction(
        &self,
        reference: &Path,
        source: &DirectionSource,
    ) -> Result<OriginalDirection> {
        let keep = match source {
            DirectionSource::File(path) => return OriginalDirection::read(path),
            DirectionSource::Found { keep } => keep.as_ref().filter(|_| !self.request.dry_run),
        };
        let (chat, engine) = (self.request.chat.clone(), self.request.engine);
        let found = DirectionSetup::new(reference.into(), chat, engine).find(self.host)?;
        self.host.say(format_args!(
            "the direction of {}: {}",
            file_name(reference),
            found.report.text().trim_end()
        ));
        let bytes = found.direction.encode()?;
        if let Some(path) = keep {
            write_file(path, &bytes)?;
            self.host.say(format_args!("wrote {}", path.display()));
        }
        let sha256 = hex(&Sha256::digest(&bytes));
        Ok(OriginalDirection { direction: found.direction, sha256 })
    }

    /// Is the direction of this model's original? The model's sha256 for the history of what is
    /// written, where that names it.
    pub(super) fn check_direction(
        &self,
        model: &Model,
        direction: &Direction,
    ) -> Result<Option<String>> {
        let about = &direction.about;
        let (found, expected) = (about.architecture.as_str(), model.architecture());
        if !found.is_empty() && found != expected {
            let (found, expected) = (found.into(), expected.into());
            return Err(Error::OtherArchitecture { found, expected });
        }
        let (found, expected) = (direction.candidates.n_layer as u64, model.hparam("block_count")?);
        if let Some(expected) = expected.filter(|n| *n != found) {
            let found = counted(found, "block");
            self.host.warn(format_args!(
                "the direction is of a model of {found}, this one has {expected}"
            ));
        }
        // A change in place costs what it changes, not what the file holds.
        if matches!(self.request.destination, Destination::InPlace { .. }) {
            return Ok(None);
        }
        // A plan reads no tensors, and is as long as the file.
        if self.request.dry_run {
            return Ok(Some(no_sha256()));
        }
        let sha256 = sha256_of(self.host, model)?;
        if sha256 == about.model_sha256 {
            self.host.warn(
                "the direction was found in this very model; a repair takes that of the original, \
                 from before it was compressed",
            );
        }
        Ok(Some(sha256))
    }
}

/// The original is a model of the same shape.
pub(super) fn check_shape(model: &Model, reference: &Path) -> Result<()> {
    let other = Model::open(reference)?;
    let what = |m: &Model| -> Result<String> {
        let n_embd = m.needed_hparam("embedding_length")?;
        let n_block = counted(m.needed_hparam("block_count")?, "block");
        Ok(format!("{}, {n_embd} wide, {n_block}", m.architecture()))
    };
    let (found, expected) = (what(&other)?, what(model)?);
    match found == expected {
        true => Ok(()),
        false => Err(Error::Sentence(format!(
            "the reference {} is {found}; the model is {expected}\n{HINT}",
            reference.display()
        ))),
    }
}

/// The reference is the very model that was compressed.
pub(super) fn check_alike(model: &Model, original: &Model) -> Result<()> {
    let wrong = |what: String| Err(Error::Sentence(format!("{what}\n{HINT}")));
    let reference = &original.shards()[0].path;
    if same_file(&model.shards()[0].path, reference) {
        return wrong(format!("the reference is the model itself: {}", reference.display()));
    }
    let (found, expected) = (original.architecture(), model.architecture());
    if found != expected {
        return wrong(format!("the reference is of architecture {found}, the model of {expected}"));
    }
    for tensor in model.tensors().map(|t| t.info) {
        let name = &tensor.name;
        match original.tensor(name).map(|t| t.info) {
            None => return wrong(format!("the reference has no tensor {name}")),
            Some(other) if other.shape != tensor.shape => {
                return wrong(format!(
                    "{name} is {} in the reference, {} in the model",
                    other.shape_text(),
                    tensor.shape_text()
                ));
            }
            Some(_) => {}
        }
    }
    match vocabulary::difference(model, original)? {
        None => Ok(()),
        Some(how) => wrong(format!("the reference has another vocabulary than the model: {how}")),
    }
}
