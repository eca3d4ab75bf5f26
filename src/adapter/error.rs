//! What can go wrong with an adapter, or with the pair of a model and an adapter.

use std::path::PathBuf;

use crate::{gguf, quant};

/// A result of this folder.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong with an adapter.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Of the file.
    #[error("{0}")]
    Gguf(#[from] gguf::Error),
    /// Of its values.
    #[error("{0}")]
    Quant(#[from] quant::Error),
    /// An error with the file that it is about.
    #[error("{}: {source}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<Error>,
    },
    /// The keys say that the file is something else.
    #[error(
        "not a LoRA adapter: key '{key}' is '{found}', expected '{expected}'\n\
         hint: convert it with llama.cpp's convert_lora_to_gguf.py"
    )]
    NotAnAdapter {
        /// The key.
        key: &'static str,
        /// Its value.
        found: String,
        /// The value that adapters have.
        expected: &'static str,
    },
    /// An adapter that llama.cpp switches on within a text (aLoRA).
    #[error(
        "the adapter acts only after its invocation tokens ({key}), expected one that acts on \
         every token\n\
         hint: folded into the weights it would act everywhere; llama.cpp applies it as it runs"
    )]
    Activated {
        /// The key.
        key: &'static str,
    },
    /// A key that may change what the adapter does.
    #[error(
        "the adapter has the key '{key}', which aird does not know: what it changes would be lost\n\
         hint: a newer aird may know it"
    )]
    UnknownKey {
        /// The key.
        key: String,
    },
    /// The adapter was made for another kind of model.
    #[error("the adapter is for architecture '{adapter}', the model is '{model}'")]
    OtherArchitecture {
        /// The adapter's architecture.
        adapter: String,
        /// The model's architecture.
        model: String,
    },
    /// A tensor is neither factor of a pair.
    #[error("adapter tensor '{name}' ends in neither .lora_a nor .lora_b")]
    UnknownSuffix {
        /// The tensor.
        name: String,
    },
    /// One factor of a pair is missing.
    #[error("adapter tensor '{name}' has no partner '{missing}'")]
    NoPartner {
        /// The tensor.
        name: String,
        /// The missing tensor.
        missing: String,
    },
    /// The model lacks a tensor that the adapter changes.
    #[error("adapter tensor '{name}' is for a tensor that the model does not have")]
    NoSuchTensor {
        /// The tensor.
        name: String,
    },
    /// The factors do not multiply to the shape of the model's tensor.
    #[error(
        "adapter for '{name}' has A [{a}] and B [{b}], which do not fit the model's [{model}]\n\
         hint: the adapter may be for a model of another size"
    )]
    Shape {
        /// The tensor.
        name: String,
        /// Shape of A, inputs first.
        a: String,
        /// Shape of B.
        b: String,
        /// Shape of the model's tensor.
        model: String,
    },
    /// A factor holds a value that no sum survives.
    #[error("adapter tensor '{name}' holds a NaN or an infinity at element {index}")]
    NotFinite {
        /// The tensor.
        name: String,
        /// The element, from 0.
        index: u64,
    },
    /// The file changes nothing.
    #[error("the adapter holds no pair of lora_a and lora_b")]
    Empty,
    /// A merged weight is too large for its type.
    #[error("'{name}' does not fit into {ty}: its element {index} becomes infinite")]
    Overflow {
        /// The tensor.
        name: String,
        /// The type.
        ty: gguf::GgmlType,
        /// The element, from 0.
        index: u64,
    },
    /// A PEFT folder cannot be read, or is of a kind that aird does not know.
    #[error("{}: {what}", path.display())]
    Peft {
        /// The file.
        path: PathBuf,
        /// What is wrong, as the end of a sentence.
        what: String,
    },
    /// Factors in a pickle, which may run any program when it is read.
    #[error(
        "{} is a pickle, which aird does not read: it may run any program\n\
         hint: save the adapter as adapter_model.safetensors: \
         model.save_pretrained(DIR, safe_serialization=True)",
        path.display()
    )]
    Pickle {
        /// The file.
        path: PathBuf,
    },
    /// The names of an architecture's modules in transformers are not known.
    #[error(
        "the names of {architecture}'s modules in PEFT are not known, only those of {known}\n\
         hint: convert the adapter with llama.cpp's convert_lora_to_gguf.py"
    )]
    PeftArchitecture {
        /// The model's architecture.
        architecture: String,
        /// Those whose names are known.
        known: String,
    },
    /// A tensor has no module of its own in PEFT.
    #[error("PEFT has no linear module for '{name}': write the adapter as GGUF")]
    NoModule {
        /// The tensor.
        name: String,
    },
    /// The model does not say how many heads it has.
    #[error("the model does not say how many heads '{name}' has, by which its rows are ordered")]
    NoHeads {
        /// The tensor.
        name: String,
    },
}
