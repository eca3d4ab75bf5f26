//! What can go wrong with an adapter, or with the pair of a model and an adapter.

use std::path::PathBuf;

use crate::{gguf, quant};

/// A result of this folder.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong with an adapter.
#[allow(missing_docs)] // the sentence of each variant is its documentation
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Gguf(#[from] gguf::Error),
    #[error("{0}")]
    Quant(#[from] quant::Error),
    #[error("{}: {source}", path.display())]
    InFile { path: PathBuf, source: Box<Error> },
    #[error(
        "not a LoRA adapter: key '{key}' is '{found}', expected '{expected}'\n\
         hint: convert it with llama.cpp's convert_lora_to_gguf.py"
    )]
    NotAnAdapter { key: &'static str, found: String, expected: &'static str },
    #[error(
        "the adapter acts only after its invocation tokens ({key}), expected one that acts on \
         every token\n\
         hint: folded into the weights it would act everywhere; llama.cpp applies it as it runs"
    )]
    Activated { key: &'static str },
    #[error(
        "the adapter has the key '{key}', which aird does not know: what it changes would be lost\n\
         hint: a newer aird may know it"
    )]
    UnknownKey { key: String },
    #[error("the adapter is for architecture '{adapter}', the model is '{model}'")]
    OtherArchitecture { adapter: String, model: String },
    #[error("adapter tensor '{name}' ends in neither .lora_a nor .lora_b")]
    UnknownSuffix { name: String },
    #[error("adapter tensor '{name}' has no partner '{missing}'")]
    NoPartner { name: String, missing: String },
    #[error("adapter tensor '{name}' is for a tensor that the model does not have")]
    NoSuchTensor { name: String },
    #[error(
        "adapter for '{name}' has A [{a}] and B [{b}], which do not fit the model's [{model}]\n\
         hint: the adapter may be for a model of another size"
    )]
    Shape { name: String, a: String, b: String, model: String },
    #[error("adapter tensor '{name}' holds a NaN or an infinity at element {index}")]
    NotFinite { name: String, index: u64 },
    #[error("the adapter holds no pair of lora_a and lora_b")]
    Empty,
    #[error("'{name}' does not fit into {ty}: its element {index} becomes infinite")]
    Overflow { name: String, ty: gguf::GgmlType, index: u64 },
}
