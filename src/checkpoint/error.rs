//! What can go wrong with a Hugging Face checkpoint.

use std::io;
use std::path::{Path, PathBuf};

use crate::gguf::GgmlType;
use crate::{gguf, quant};

/// A result of this folder.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong with a checkpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Of a file that is mapped or written.
    #[error("{0}")]
    Gguf(#[from] gguf::Error),
    /// An error with the file that it is about.
    #[error("{}: {source}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<Error>,
    },
    /// A file of the folder cannot be read.
    #[error("cannot open {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A link of the folder leads nowhere: a cache that lost its blob.
    #[error(
        "{} is a link to a file that is not there\n\
         hint: the download was cut off, or a cache was cleaned: download the model again",
        path.display()
    )]
    DanglingLink {
        /// The link.
        path: PathBuf,
    },
    /// What a clone without Git LFS leaves in place of a large file.
    #[error(
        "{} is a pointer of Git LFS, not the file itself\n\
         hint: git lfs pull fetches it", path.display()
    )]
    LfsPointer {
        /// The file.
        path: PathBuf,
    },
    /// A file that should be JSON.
    #[error("not valid JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The folder has no `config.json`.
    #[error(
        "{} is not a Hugging Face checkpoint: it has no config.json", path.display()
    )]
    NotACheckpoint {
        /// The folder.
        path: PathBuf,
    },
    /// The folder has weights, but pickled.
    #[error(
        "{} holds its weights as pickle ({found}), which can run programs: aird never loads it\n\
         hint: convert to safetensors, in a sandbox: \
         AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(OUT)", path.display()
    )]
    Pickle {
        /// The folder.
        path: PathBuf,
        /// The first such file.
        found: String,
    },
    /// The weights are in Mistral's own format.
    #[error(
        "{} holds its weights in Mistral's own format ({found}), expected model.safetensors\n\
         hint: import the Hugging Face version of the model", path.display()
    )]
    MistralFormat {
        /// The folder.
        path: PathBuf,
        /// The first such file.
        found: String,
    },
    /// An adapter in place of a model.
    #[error(
        "{} is a PEFT adapter (adapter_config.json), not a model\n\
         hint: import the model that it was trained on", path.display()
    )]
    Adapter {
        /// The folder.
        path: PathBuf,
    },
    /// There are no weights.
    #[error("{} has no model.safetensors and no index of shards", path.display())]
    NoWeights {
        /// The folder.
        path: PathBuf,
    },
    /// A file that the index names is not there.
    #[error(
        "shard {name} is missing: {index} puts {tensors} tensors into it, '{first}' among them\n\
         hint: the download was cut off: download the model again"
    )]
    MissingShard {
        /// Name of the file.
        name: String,
        /// Name of the index.
        index: &'static str,
        /// How many tensors it should hold.
        tensors: usize,
        /// The first of them.
        first: String,
    },
    /// The index gives a shard a name that is no file name.
    #[error("the index names the shard {name:?}, expected the name of a file beside it")]
    ShardName {
        /// What it names.
        name: String,
    },
    /// The index names a tensor that its shard does not hold.
    #[error("tensor '{tensor}' is not in it, and the index says that it is")]
    NotInShard {
        /// The tensor.
        tensor: String,
    },
    /// A shard holds a tensor that the index does not name.
    #[error("tensor '{tensor}' is in it, and the index does not name it there")]
    NotInIndex {
        /// The tensor.
        tensor: String,
    },
    /// Two shards hold a tensor of one name.
    #[error("tensor '{tensor}' is in an earlier shard as well, expected each tensor once")]
    TensorTwice {
        /// The tensor.
        tensor: String,
    },
    /// Not a safetensors file.
    #[error("not a safetensors file, or one that was cut off: {0}")]
    Safetensors(#[from] safetensors::SafeTensorError),
    /// The weights are quantized.
    #[error(
        "the weights are quantized ({method}), expected BF16, F16, F32 or FP8\n\
         hint: import the model that was quantized: its card names it as base_model"
    )]
    Quantized {
        /// By which method.
        method: String,
    },
    /// `architectures` of `config.json` names none that is known.
    #[error(
        "architecture '{found}' is not one that aird imports; the nearest is '{nearest}'\n\
         hint: aird imports {known}; llama.cpp's convert_hf_to_gguf.py knows more"
    )]
    UnknownArchitecture {
        /// The one in `config.json`.
        found: String,
        /// The nearest known one.
        nearest: String,
        /// All known ones.
        known: String,
    },
    /// The model does something that its family's import does not know.
    #[error("{what}, which aird does not import\nhint: llama.cpp's converter may know it")]
    Unsupported {
        /// What it does, with the key.
        what: String,
    },
    /// A key that is needed.
    #[error("key '{key}' is missing, expected {expected}")]
    MissingKey {
        /// The key.
        key: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A key of another type or range.
    #[error("key '{key}' is {found}, expected {expected}")]
    WrongKey {
        /// The key.
        key: String,
        /// Its value, in short.
        found: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A tensor that the family needs.
    #[error("tensor '{tensor}' is missing: config.json says that the model has {blocks} blocks")]
    MissingTensor {
        /// The tensor.
        tensor: String,
        /// `num_hidden_layers`.
        blocks: u64,
    },
    /// A tensor that the family's table does not know.
    #[error(
        "tensor '{tensor}' is not one of a {family} model: its weights would be lost\n\
         hint: a newer aird may know it"
    )]
    UnknownTensor {
        /// The tensor.
        tensor: String,
        /// The family.
        family: &'static str,
    },
    /// A shape that `config.json` does not give.
    #[error("tensor '{tensor}' has shape {found:?}, expected {expected:?} by config.json")]
    WrongShape {
        /// The tensor.
        tensor: String,
        /// Its shape in the file.
        found: Vec<u64>,
        /// What config.json says.
        expected: Vec<u64>,
    },
    /// A type of elements that is not read.
    #[error("tensor '{tensor}' is {found}, expected BF16, F16, F32 or FP8 with its scales")]
    Dtype {
        /// The tensor.
        tensor: String,
        /// Its type.
        found: String,
    },
    /// The model is of another family than the checkpoint that it is to become like.
    #[error("the model is of architecture '{found}', the checkpoint of '{expected}'")]
    OtherArchitecture {
        /// The model's.
        found: String,
        /// The checkpoint's.
        expected: &'static str,
    },
    /// The model lacks a tensor of the checkpoint.
    #[error("the model has no tensor '{tensor}', and the checkpoint has '{theirs}'")]
    NotInModel {
        /// The tensor's name in GGUF.
        tensor: String,
        /// Its name in the checkpoint.
        theirs: String,
    },
    /// The model's tensor has another shape than the checkpoint's.
    #[error(
        "tensor '{tensor}' of the model has shape {found:?}, expected {expected:?} as the \
         checkpoint has it"
    )]
    ShapeInModel {
        /// The tensor's name in GGUF.
        tensor: String,
        /// Its shape, columns first.
        found: Vec<u64>,
        /// The checkpoint's, columns first.
        expected: Vec<u64>,
    },
    /// The model has a tensor that the checkpoint has no place for.
    #[error(
        "tensor '{tensor}' of the model has no place in the checkpoint: its weights would be lost"
    )]
    Unplaced {
        /// The tensor.
        tensor: String,
    },
    /// A weight that is no number, or that the type does not hold.
    #[error("tensor '{tensor}' holds a value that is not finite as {ty}")]
    NotFinite {
        /// The tensor.
        tensor: String,
        /// The type.
        ty: GgmlType,
    },
    /// A tensor of the model cannot be decoded.
    #[error("{0}")]
    Quant(#[from] quant::Error),
    /// A file of the tokenizer that is needed.
    #[error("the tokenizer is missing: {what}")]
    NoTokenizer {
        /// What is missing.
        what: String,
    },
    /// What a tokenizer holds is not what its import expects.
    #[error("the tokenizer {what}")]
    Tokenizer {
        /// What is wrong.
        what: String,
    },
    /// A pre-tokenizer that llama.cpp is not known to have.
    #[error(
        "the pre-tokenizer is none that aird knows, and llama.cpp would split texts otherwise: \
         {shown}\n\
         hint: a newer aird may know it"
    )]
    PreTokenizer {
        /// The part of `tokenizer.json`, as JSON.
        shown: String,
    },
}

impl Error {
    /// Adds the file that an error is about.
    pub(crate) fn in_file(self, path: &Path) -> Error {
        match self {
            named @ (Error::InFile { .. } | Error::Gguf(_) | Error::Io { .. }) => named,
            other => Error::InFile { path: path.to_owned(), source: Box::new(other) },
        }
    }

    /// True if the work was interrupted, and did not fail.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        match self {
            Error::Gguf(error) => error.is_interrupted(),
            Error::InFile { source, .. } => source.is_interrupted(),
            _ => false,
        }
    }
}
