//! What can go wrong on the way to a direction.

use std::path::PathBuf;

use crate::{gguf, llama, prompts};

/// A result of this folder.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong.
#[allow(missing_docs)] // the sentence of each variant is its documentation
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Llama(#[from] llama::Error),
    #[error("{0}")]
    Gguf(#[from] gguf::Error),
    #[error("{0}")]
    Prompts(#[from] prompts::Error),
    #[error(
        "this model hardly refuses: {refused} of {of} harmful prompts, expected at least {needed}"
    )]
    HardlyRefuses { refused: usize, of: usize, needed: usize },
    #[error(
        "too few prompts are left for a direction: {harmful} of {of_harmful} harmful ones are \
         refused and {harmless} of {of_harmless} harmless ones are not, expected at least {needed} \
         of each{part}"
    )]
    TooFewLeft {
        harmful: usize,
        of_harmful: usize,
        harmless: usize,
        of_harmless: usize,
        needed: usize,
        part: &'static str,
    },
    #[error(
        "no candidate passes: {not_finite} of {of} are not finite, {late} lie too late, {induce} \
         induce no refusal, {kl} change harmless answers by more than {max_kl} nats"
    )]
    NonePasses { of: usize, not_finite: usize, late: usize, induce: usize, kl: usize, max_kl: f64 },
    #[error("layer {layer} position {position}: expected layers 0 to {last}, positions -{n} to -1")]
    NoSuchCell { layer: u32, position: i32, last: u32, n: usize },
    #[error("{}: {what}", path.display())]
    File { path: PathBuf, what: String },
    #[error(
        "the direction is {found} wide, the model's residual stream {expected}\n\
         hint: it was found in another model"
    )]
    Width { found: usize, expected: usize },
    #[error("{a} and {b} cannot be compared: {why}")]
    Incomparable { a: String, b: String, why: String },
}
