//! Why a verb failed.

use std::path::PathBuf;

use crate::gguf::GgmlType;
use crate::{
    adapter, checkpoint, compress, direction, eval, gguf, judge, llama, prompts, quant, refit,
    repair, report, stats,
};

/// A result of this folder.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What is wrong, in a sentence.
    #[error("{0}")]
    Sentence(String),
    /// An error with what was done, or what it is about.
    #[error("{what}: {source}")]
    About {
        /// What was done, or a file.
        what: String,
        /// What went wrong.
        source: Box<Error>,
    },
    /// The model's first logits show that its weights are broken.
    #[error("{}: {complaint}", path.display())]
    BrokenLogits {
        /// The model.
        path: PathBuf,
        /// What is wrong with the logits.
        complaint: &'static str,
    },
    /// llama.cpp would read a key of an adapter as something else.
    #[error(
        "{}: key '{key}' is {found}, expected f32: llama.cpp reads no other",
        path.display()
    )]
    AdapterKey {
        /// The adapter.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// The type of its value.
        found: &'static str,
    },
    /// More tokens are asked for than the model was trained for.
    #[error("{n_ctx} tokens are asked for, the model was trained for {trained}")]
    ContextTooLong {
        /// Tokens of a sample or window.
        n_ctx: usize,
        /// Tokens that the model was trained for.
        trained: usize,
    },
    /// Only the tokens of answers are to count, and the data has no answers.
    #[error(
        "{} is read as {read_as}: it has no answers, and only tokens of answers are to count",
        path.display()
    )]
    NoAnswers {
        /// The calibration data.
        path: PathBuf,
        /// What it is read as.
        read_as: &'static str,
    },
    /// Prompts with answers are expected, and some have none.
    #[error(
        "{}: {answers} of {of} prompts have an answer (a field output, response, completion or \
         answer)",
        path.display()
    )]
    FewerAnswers {
        /// The calibration data.
        path: PathBuf,
        /// Prompts with an answer.
        answers: usize,
        /// All prompts.
        of: usize,
    },
    /// The model refuses too few of the built-in harmful prompts to calibrate on its refusals.
    #[error(
        "this model refuses {refused} of {of} harmful prompts, and calibration on refusals needs \
         at least {needed}"
    )]
    FewRefusals {
        /// Prompts that it refuses.
        refused: usize,
        /// All prompts.
        of: usize,
        /// Refusals that are needed.
        needed: usize,
    },
    /// An interrupted calibration left a file where this one would keep its own.
    #[error("{} is what an interrupted run left", path.display())]
    LeftoverExists {
        /// The file.
        path: PathBuf,
    },
    /// What an interrupted calibration left is not of this one.
    #[error("{} is of another {what}", path.display())]
    LeftoverOfAnother {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: &'static str,
    },
    /// No matrix is chosen to be pruned.
    #[error("no matrix of a block is chosen")]
    NothingChosen,
    /// Statistics were given that nothing goes by.
    #[error("{method} to {ty} needs no statistics")]
    NeedsNoStatistics {
        /// The method.
        method: &'static str,
        /// The type that weights become.
        ty: String,
    },
    /// Statistics that an interrupted calibration left.
    #[error("{} is of an interrupted run, after {n_done} samples", path.display())]
    Unfinished {
        /// The file.
        path: PathBuf,
        /// Samples that were read.
        n_done: usize,
    },
    /// The system's error.
    #[error("{what}: {source}")]
    Io {
        /// What was done.
        what: String,
        /// What went wrong.
        source: std::io::Error,
    },
    /// A model whose answers are searched thinks first.
    #[error(
        "the model thinks before it answers, and whether it refuses does not show in so few tokens"
    )]
    ThinksInSearch,
    /// A model whose answers are compared with its original's thinks first.
    #[error("the model thinks before it answers, and how much its original refuses does not show")]
    ThinksInComparison,
    /// A direction of a model of another architecture.
    #[error("the direction is of a model of architecture '{found}', this one is '{expected}'")]
    OtherArchitecture {
        /// The direction's.
        found: String,
        /// The model's.
        expected: String,
    },
    /// Too much of an edit is lost in the type that a tensor has and must keep.
    #[error("{name}: an alpha of {realised:.3} comes out in {ty}, {alpha} was asked for")]
    LostInPlace {
        /// The tensor.
        name: String,
        /// Its type.
        ty: GgmlType,
        /// The alpha that would be in the file.
        realised: f64,
        /// The alpha that was asked for.
        alpha: f64,
        /// The blocks or halves of them that were to be edited, as `14` and `16:mlp`.
        blocks: Vec<String>,
    },
    /// A tensor would change its size in place.
    #[error(
        "{name} is {from}: as {to} it would be of another size, which nothing becomes in place"
    )]
    SizeInPlace {
        /// The tensor.
        name: String,
        /// Its type.
        from: GgmlType,
        /// The type that was asked for.
        to: GgmlType,
    },
    /// What a restore finds cannot lie beside this model as an adapter.
    #[error("{0}")]
    NotAsAdapter(String),
    /// Of a model file.
    #[error("{0}")]
    Gguf(#[from] gguf::Error),
    /// Of llama.cpp.
    #[error("{0}")]
    Llama(#[from] llama::Error),
    /// Of weights.
    #[error("{0}")]
    Quant(#[from] quant::Error),
    /// Of a LoRA adapter.
    #[error("{0}")]
    Adapter(#[from] adapter::Error),
    /// Of a Hugging Face checkpoint.
    #[error("{0}")]
    Checkpoint(#[from] checkpoint::Error),
    /// Of activation statistics.
    #[error("{0}")]
    Stats(#[from] stats::Error),
    /// Of compression.
    #[error("{0}")]
    Compress(#[from] compress::Error),
    /// Of a restore or a sweep.
    #[error("{0}")]
    Refit(#[from] refit::Error),
    /// Of prompts and templates.
    #[error("{0}")]
    Prompts(#[from] prompts::Error),
    /// A chat template does not put prompts as it was asked to.
    #[error("{source}")]
    Template {
        /// What is wrong with it.
        source: prompts::Error,
        /// A system prompt was given.
        has_system: bool,
    },
    /// Of judges.
    #[error("{0}")]
    Judge(#[from] judge::Error),
    /// Of a direction.
    #[error("{0}")]
    Direction(#[from] direction::Error),
    /// Of an edit along a direction.
    #[error("{0}")]
    Repair(#[from] repair::Error),
    /// Of a measurement.
    #[error("{0}")]
    Eval(#[from] eval::Error),
    /// Of pages and pictures.
    #[error("{0}")]
    Report(#[from] report::Error),
    /// A system prompt that no set of prompts would be put with.
    #[error(
        "a system prompt is given, and no set that is asked has a system prompt: of the attacks \
         only vanilla has one"
    )]
    UnusedSystem,
    /// A judge model reads an answer with its request, which is not in the file.
    #[error(
        "{}: the record {place} has no request, and a judge model reads it with the answer",
        path.display()
    )]
    NoRequest {
        /// The file of answers.
        path: PathBuf,
        /// Where the record is, e.g. `in line 3`.
        place: String,
    },
    /// A set of answers has the name of all of them.
    #[error(
        "{}: the set of the record {place} is named 'all', the name of all answers together",
        path.display()
    )]
    SetNamedAll {
        /// The file of answers.
        path: PathBuf,
        /// Where the record is, e.g. `in line 3`.
        place: String,
    },
    /// An attack by suffixes without any.
    #[error("adv-suffix needs suffixes, and none are given")]
    NoSuffixes,
}

impl Error {
    /// An error that is a sentence.
    pub fn sentence(text: impl Into<String>) -> Error {
        Error::Sentence(text.into())
    }

    /// True if the caller asked to stop.
    pub fn is_interrupt(&self) -> bool {
        is_interrupt(self)
    }
}

/// True if `error`, or what caused it, is that the caller asked to stop.
pub fn is_interrupt(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let of_file = error.downcast_ref::<gguf::Error>().is_some_and(gguf::Error::is_interrupted);
        let of_engine = matches!(error.downcast_ref(), Some(llama::Error::Interrupted));
        if of_file || of_engine {
            return true;
        }
        next = error.source();
    }
    false
}

/// What an error is about, for any that becomes an [`Error`].
pub(crate) trait Context<T> {
    /// Puts `what()` before the error.
    fn about(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for std::result::Result<T, E> {
    fn about(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error::About { what: what(), source: Box::new(error.into()) })
    }
}
