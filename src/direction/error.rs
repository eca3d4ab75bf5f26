//! What can go wrong while a direction is searched for, read or written.

use std::path::PathBuf;

use crate::{gguf, llama, prompts};

/// A result of this folder.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong between prompts and a direction.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// llama.cpp cannot load or run a model.
    #[error("{0}")]
    Llama(#[from] llama::Error),
    /// A model's file cannot be read or written.
    #[error("{0}")]
    Gguf(#[from] gguf::Error),
    /// Prompts or a chat template cannot be read.
    #[error("{0}")]
    Prompts(#[from] prompts::Error),
    /// The model refuses too few harmful prompts.
    #[error(
        "this model hardly refuses: {refused} of {of} harmful prompts, expected at least {needed}"
    )]
    HardlyRefuses {
        /// Prompts that it refuses.
        refused: usize,
        /// Prompts asked.
        of: usize,
        /// Refusals needed.
        needed: usize,
    },
    /// Too few prompts are on the expected side of the refusal score.
    #[error(
        "too few prompts are left for a direction: {harmful} of {of_harmful} harmful ones are \
         refused and {harmless} of {of_harmless} harmless ones are not, expected at least {needed} \
         of each{part}"
    )]
    TooFewLeft {
        /// Harmful prompts that are refused.
        harmful: usize,
        /// Harmful prompts.
        of_harmful: usize,
        /// Harmless prompts that are not refused.
        harmless: usize,
        /// Harmless prompts.
        of_harmless: usize,
        /// Prompts of each kind needed.
        needed: usize,
        /// Which prompts: ` in the training part`.
        part: &'static str,
    },
    /// No candidate passes the limits.
    #[error(
        "no candidate passes: {not_finite} of {of} are not finite, {late} lie too late, {induce} \
         induce no refusal, {kl} change harmless answers by more than {max_kl} nats"
    )]
    NonePasses {
        /// Number of candidates.
        of: usize,
        /// Those with a score that is not finite.
        not_finite: usize,
        /// Those in a layer beyond the latest allowed one.
        late: usize,
        /// Those that induce no refusal.
        induce: usize,
        /// Those over the limit on KL.
        kl: usize,
        /// That limit, nats.
        max_kl: f64,
    },
    /// The model has no such layer or position.
    #[error("layer {layer} position {position}: expected layers 0 to {last}, positions -{n} to -1")]
    NoSuchCell {
        /// Index of the layer, from 0.
        layer: u32,
        /// The position, -1 the last.
        position: i32,
        /// The last layer.
        last: u32,
        /// Positions.
        n: usize,
    },
    /// A direction file cannot be read, or its parts do not fit together.
    #[error("{}: {what}", path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong, as the end of a sentence.
        what: String,
    },
    /// The direction is as wide as another model's residual stream.
    #[error(
        "the direction is {found} wide, the model's residual stream {expected}\n\
         hint: it was found in another model"
    )]
    Width {
        /// Its width.
        found: usize,
        /// The model's width.
        expected: usize,
    },
    /// Two directions differ in shape, or the base has no chosen one.
    #[error("{a} and {b} cannot be compared: {why}")]
    Incomparable {
        /// The base's model.
        a: String,
        /// The other model.
        b: String,
        /// What differs.
        why: String,
    },
}
