//! aird repairs the safety that compression breaks, on GGUF model files, offline.
//!
//! The code map. A folder may use those below it, never those above; `cli` alone prints,
//! `llama` alone calls C, `gguf` alone touches the bytes of model files.

/// This version, as it goes into what is written.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A digest of the sources that this was built from. Results that are kept from one run to the next
/// hold it: another build does not take them over.
pub const BUILD: &str = env!("AIRD_BUILD");

/// The command line: the arguments of each verb, its report in print, exit codes and hints.
pub mod cli;

/// A recipe, the plan of steps that it becomes, and the folder where they are done.
pub mod study;

/// Verbs: what each is asked, what it answers, and a `run` that reads as a sentence.
pub mod verbs;

/// Results as people look at them: pictures in SVG, a study's report and its model card.
pub mod report;

/// What a model does, measured: attack success, benchmarks, intervals.
pub mod eval;

/// AIRD itself: the edit that strengthens what a block says about refusal.
pub mod repair;

/// The refusal direction: captured, selected by what it does, compared, kept in a file.
pub mod direction;

/// What an answer is: a refusal, compliance, or no answer at all.
pub mod judge;

/// Prompts and how a model is asked: sets of prompts, their file formats, chat templates.
pub mod prompts;

/// Every matrix of a model's blocks swept, in order, onto zeros and grids: towards what an original
/// computes, or from the model's own weights.
pub mod refit;

/// Compression: pruning, scale search and the references' quantizers, on rows and matrices.
pub mod compress;

/// Activation statistics: what goes into every linear layer, collected and kept in files.
pub mod stats;

/// LoRA adapters: read, checked against a model, merged into its weights.
pub mod adapter;

/// Rows of any ggml type as numbers: decoding, encoding, comparing.
pub mod quant;

/// The engine on llama.cpp: loading, decoding, ggml's codecs.
pub mod llama;

/// The file: headers without loss, rewrites that change what they mean to and nothing else.
pub use aird_gguf as gguf;

/// Linear algebra: Gram matrices, factors, optimal brain surgeon's sweep.
pub mod numeric;
