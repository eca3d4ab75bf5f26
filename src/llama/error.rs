//! What can go wrong in llama.cpp, or between llama.cpp and aird.

use std::path::PathBuf;

use crate::gguf::{self, GgmlType};

const MB: u64 = 1_000_000;

/// A result of this folder.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong in the engine. `said` holds what llama.cpp logged when it failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A model's file cannot be read or written.
    #[error("{0}")]
    Gguf(#[from] gguf::Error),
    /// The file is a GGUF file of another kind: an adapter, statistics.
    #[error("{} is not a model: its general.type is '{kind}'", path.display())]
    NoModel {
        /// Path of the file.
        path: PathBuf,
        /// Its `general.type`.
        kind: String,
    },
    /// llama.cpp cannot be started.
    #[error("llama.cpp does not start: {said}")]
    Backend {
        /// llama.cpp's last errors.
        said: String,
    },
    /// A worker cannot be reached, or what listens there is no worker.
    #[error("worker {endpoint}: {why}")]
    Worker {
        /// Its address.
        endpoint: String,
        /// The reason.
        why: String,
    },
    /// A worker cannot listen.
    #[error("cannot listen at {endpoint}: {why}")]
    Listen {
        /// The address.
        endpoint: String,
        /// The system's reason.
        why: std::io::Error,
    },
    /// Blocks are to run on a device, and there is none.
    #[error("no device takes blocks: llama.cpp found no GPU here, and there are no workers")]
    NoDevices,
    /// A device is named that there is not, or twice.
    #[error("no device '{name}' that takes blocks, expected {}, each once", one_of(known))]
    NoDevice {
        /// The name.
        name: String,
        /// Names of the devices that take blocks.
        known: Vec<String>,
    },
    /// Shares of another number of devices.
    #[error(
        "expected a share for each of {} devices ({}), not all of them 0, found {found}",
        devices.len(), devices.join(", ")
    )]
    Shares {
        /// Shares that were given.
        found: usize,
        /// Names of the devices.
        devices: Vec<String>,
    },
    /// The blocks are larger than the memory of all devices together.
    #[error(
        "{}: its blocks need {} MB on {}, which report {} MB of memory: {} MB are missing",
        path.display(), needed.div_ceil(MB), devices.join(", "), (needed - missing) / MB,
        missing.div_ceil(MB)
    )]
    DoesNotFit {
        /// Path of the model file.
        path: PathBuf,
        /// Bytes of the blocks that are to run on devices.
        needed: u64,
        /// Bytes that the devices lack.
        missing: u64,
        /// Names of the devices.
        devices: Vec<String>,
    },
    /// llama.cpp was built without its RPC.
    #[error(
        "this build has no RPC, and so no workers\n\
         hint: build in the project's folder, or with GGML_RPC=ON in the environment; an older \
         build there goes on without until: cargo clean -p llama-cpp-sys-2"
    )]
    NoRpc,
    /// llama.cpp does not load the model.
    #[error("llama.cpp cannot load {}: {said}", path.display())]
    Load {
        /// Path of the model file.
        path: PathBuf,
        /// llama.cpp's last errors.
        said: String,
    },
    /// llama.cpp cannot make a context, mostly for lack of memory.
    #[error("llama.cpp cannot make a context of {n_ctx} tokens: {said}")]
    Context {
        /// Tokens that the context was to hold.
        n_ctx: u32,
        /// llama.cpp's last errors.
        said: String,
    },
    /// llama.cpp fails to decode a batch.
    #[error("llama.cpp cannot decode {n_tokens} tokens: {said}")]
    Decode {
        /// Tokens of the batch.
        n_tokens: usize,
        /// llama.cpp's last errors.
        said: String,
    },
    /// A hook panicked while llama.cpp computed.
    #[error("a hook panicked: {text}")]
    HookPanicked {
        /// The panic's message.
        text: String,
    },
    /// A node to be read does not hold contiguous F32 rows.
    #[error("activations of node '{name}' cannot be read: they are not contiguous F32 rows")]
    UnreadableNode {
        /// Name of the node in llama.cpp's graph.
        name: String,
    },
    /// A hook is for the residual stream, and the model's graph has none.
    #[error(
        "{architecture} models cannot be read or edited along a direction: llama.cpp's graph of \
         this one has no residual stream from the token embeddings to the logits"
    )]
    NoStream {
        /// `general.architecture`.
        architecture: String,
    },
    /// A text is to be read token by token, and the model keeps no past tokens.
    #[error(
        "{architecture} models read a whole text at once (diffusion models, encoders); this verb \
         reads token by token"
    )]
    NoMemory {
        /// `general.architecture`.
        architecture: String,
    },
    /// llama.cpp decoded a batch in parts, so that rows and tokens cannot be matched.
    #[error(
        "llama.cpp cut a batch of {n_tokens} tokens: a node has {n_rows} rows, which cannot be \
         matched with tokens"
    )]
    CutBatch {
        /// Rows of the node.
        n_rows: usize,
        /// Tokens of the batch.
        n_tokens: usize,
    },
    /// A hook is for the residual stream, and an adapter changes the embeddings that it begins
    /// with.
    #[error("the adapter changes the token embeddings, from which the residual stream is followed")]
    AdaptedEmbeddings,
    /// The residual stream holds a NaN or an infinity.
    #[error("the residual stream holds a NaN or an infinity at the input of block {block}")]
    NotFinite {
        /// The first block whose input holds one.
        block: u32,
    },
    /// A prompt and its answer are longer than the model's context.
    #[error(
        "prompt {index} has {n_tokens} tokens and {n_new} more are asked for, expected at most \
         {n_ctx} together: what the model was trained for"
    )]
    ContextTooSmall {
        /// Index of the prompt, from 0.
        index: usize,
        /// Tokens of the prompt.
        n_tokens: usize,
        /// Tokens of the answer, at most.
        n_new: usize,
        /// The model's context, in tokens.
        n_ctx: u32,
    },
    /// A text to score is longer than the model reads.
    #[error("a text to score has {n_tokens} tokens, expected at most {most}: what the model reads")]
    TextTooLong {
        /// Tokens of the text.
        n_tokens: usize,
        /// Tokens that the model reads.
        most: usize,
    },
    /// A prompt has no tokens.
    #[error("prompt {index} has no tokens")]
    EmptyPrompt {
        /// Index of the prompt, from 0.
        index: usize,
    },
    /// llama.cpp does not load the adapter, or it is for another model.
    #[error("llama.cpp cannot use adapter {}: {said}", path.display())]
    Adapter {
        /// Path of the adapter file.
        path: PathBuf,
        /// llama.cpp's last errors.
        said: String,
    },
    /// A model was tried in its own process; llama.cpp refused it, or the process ended.
    #[error("llama.cpp cannot run {}: {said}", path.display())]
    Run {
        /// The model, or its adapter.
        path: PathBuf,
        /// What ended it.
        said: String,
    },
    /// This machine lacks the memory or the threads to run the model.
    #[error("{} could not be run here: {said}", path.display())]
    NoMeans {
        /// The model, or its adapter.
        path: PathBuf,
        /// What is lacking.
        said: String,
    },
    /// The process that tries a model cannot be started.
    #[error("aird cannot start itself to try {}: {source}", path.display())]
    NoProbe {
        /// Path of the model file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A logit is NaN, or none is finite.
    #[error(
        "the model's logits are NaN or infinite: its weights are broken, or what llama.cpp \
         computes with them"
    )]
    NotFiniteLogits,
    /// Text is to be read, and the model comes without a tokenizer.
    #[error("{} has no tokenizer (tokenizer.ggml.model is 'no_vocab'): no text can be put to it",
        path.display())]
    NoTokenizer {
        /// Path of the model file.
        path: PathBuf,
    },
    /// The interrupt was set.
    #[error("interrupted")]
    Interrupted,
    /// A prompt is to be made of tokens, and the vocabulary is empty.
    #[error("the model has no vocabulary to make a prompt from")]
    NoVocabulary,
    /// ggml has no decoder for the type.
    #[error("ggml cannot turn {ty} into numbers")]
    NotDecodable {
        /// The tensor type, e.g. `Q4_K`.
        ty: GgmlType,
    },
    /// ggml has no encoder for the type.
    #[error("ggml cannot write {ty}\nhint: name another type, q8_0 or f16 for example")]
    NotEncodable {
        /// The tensor type, e.g. `Q4_K`.
        ty: GgmlType,
    },
    /// The bytes of rows are not as many as their type needs.
    #[error("{found} bytes of {ty}, expected {expected} for {n_elements} elements")]
    WrongLength {
        /// The tensor type, e.g. `Q4_K`.
        ty: GgmlType,
        /// Elements of the rows.
        n_elements: usize,
        /// Bytes found.
        found: usize,
        /// Bytes needed.
        expected: u64,
    },
    /// There is not one importance weight for each column.
    #[error("{found} importance weights, expected one for each of {n_cols} columns")]
    WrongImportance {
        /// Importance weights found.
        found: usize,
        /// Columns of the rows.
        n_cols: usize,
    },
    /// A row does not end with a block of the type.
    #[error("rows of {n_cols} elements are not a whole number of {ty} blocks")]
    PartialBlock {
        /// The tensor type, e.g. `Q4_K`.
        ty: GgmlType,
        /// Elements of a row.
        n_cols: usize,
    },
}

/// `A, B or C`.
fn one_of(names: &[String]) -> String {
    match names {
        [] => "none: llama.cpp found no GPU here, and there are no workers".into(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}
