//! What can go wrong between llama.cpp and us.

use std::path::PathBuf;

use crate::gguf::{self, GgmlType};

/// A result of this folder.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong in the engine. `said` is what llama.cpp logged as it failed.
#[allow(missing_docs)] // the sentence of each variant is its documentation
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Gguf(#[from] gguf::Error),
    #[error("{} is no model: its general.type is '{kind}'", path.display())]
    NoModel { path: PathBuf, kind: String },
    #[error("llama.cpp does not start: {said}")]
    Backend { said: String },
    #[error("llama.cpp cannot load {}: {said}", path.display())]
    Load { path: PathBuf, said: String },
    #[error(
        "llama.cpp cannot make a context of {n_ctx} tokens: {said}\n\
         hint: a smaller --parallel, --ctx or --max-tokens, whichever there is, takes less memory"
    )]
    Context { n_ctx: u32, said: String },
    #[error("llama.cpp cannot decode {n_tokens} tokens: {said}")]
    Decode { n_tokens: usize, said: String },
    #[error("a hook panicked: {text}")]
    HookPanicked { text: String },
    #[error("activations of node '{name}' cannot be read: they are no contiguous F32 rows")]
    UnreadableNode { name: String },
    #[error(
        "{architecture} models cannot be read or edited along a direction: llama.cpp's graph of \
         this one has no residual stream from the token embeddings to the logits"
    )]
    NoStream { architecture: String },
    #[error(
        "{architecture} models read a whole text at once (diffusion models, encoders); this verb \
         reads token by token"
    )]
    NoMemory { architecture: String },
    #[error(
        "llama.cpp cut a batch of {n_tokens} tokens: a node has {n_rows} rows, which are not told \
         apart\nhint: --parallel 1"
    )]
    CutBatch { n_rows: usize, n_tokens: usize },
    #[error(
        "the adapter changes the token embeddings, from which the residual stream is followed\n\
         hint: aird merge folds an adapter into the weights"
    )]
    AdaptedEmbeddings,
    #[error("the residual stream holds a NaN or an infinity at the input of block {block}")]
    NotFinite { block: u32 },
    #[error(
        "prompt {index} has {n_tokens} tokens and {n_new} more are asked for, expected at most \
         {n_ctx} together: what the model was trained for"
    )]
    ContextTooSmall { index: usize, n_tokens: usize, n_new: usize, n_ctx: u32 },
    #[error("a text to score has {n_tokens} tokens, expected at most {most}: what the model reads")]
    TextTooLong { n_tokens: usize, most: usize },
    #[error("prompt {index} has no tokens")]
    EmptyPrompt { index: usize },
    #[error("llama.cpp cannot use adapter {}: {said}", path.display())]
    Adapter { path: PathBuf, said: String },
    #[error("llama.cpp cannot run {}: {said}", path.display())]
    Run { path: PathBuf, said: String },
    #[error("{} could not be run here: {said}", path.display())]
    NoMeans { path: PathBuf, said: String },
    #[error("aird cannot start itself to try {}: {source}", path.display())]
    NoProbe { path: PathBuf, source: std::io::Error },
    #[error(
        "the model's logits are NaN or infinite: its weights are broken, or what llama.cpp \
         computes with them\nhint: aird verify finds non-finite weights"
    )]
    NotFiniteLogits,
    #[error("{} has no tokenizer (tokenizer.ggml.model is 'no_vocab'): no text can be put to it",
        path.display())]
    NoTokenizer { path: PathBuf },
    #[error("interrupted")]
    Interrupted,
    #[error("the model has no vocabulary to make a prompt from")]
    NoVocabulary,
    #[error("ggml cannot turn {ty} into numbers")]
    NotDecodable { ty: GgmlType },
    #[error("ggml cannot write {ty}\nhint: name another type, q8_0 or f16 for example")]
    NotEncodable { ty: GgmlType },
    #[error("{found} bytes of {ty}, expected {expected} for {n_elements} elements")]
    WrongLength { ty: GgmlType, n_elements: usize, found: usize, expected: u64 },
    #[error("{found} importance weights, expected one for each of {n_cols} columns")]
    WrongImportance { found: usize, n_cols: usize },
    #[error("rows of {n_cols} elements are no whole number of {ty} blocks")]
    PartialBlock { ty: GgmlType, n_cols: usize },
}
