//! aird repairs the safety that compression breaks, on GGUF model files, offline.
//!
//! The command line is one user of this library. What it does, a program can do: each verb is a
//! module of [`verbs`] with a `Request`, a `Report` and a `run`. A [`verbs::Host`] hears progress
//! and notes, and may interrupt the work; [`gguf::Unwatched`] hears nothing.
//!
//! # Repair a model
//!
//! A block of a tiny model is made to write twice as much along a direction (AIRD's edit, arXiv
//! 2504.04215: `W + alpha r r^T W`), and the result is written as a new file. A real direction
//! comes from [`verbs::direction`], run on the original model.
//!
//! ```
//! use aird::gguf::Unwatched;
//! use aird::llama::Options;
//! use aird::llama::graph::Part;
//! use aird::repair::{Half, Storage, Zeros};
//! use aird::verbs::repair::{Destination, EditSetup, Method, Original, Report, Request, run};
//! use aird::verbs::search::{Blocks, SearchSetup};
//!
//! # use aird::direction::{About, Direction, Grid};
//! # use aird::gguf::{Builder, GgmlType};
//! # let folder = tempfile::tempdir()?;
//! # let (model, direction) = (folder.path().join("a.gguf"), folder.path().join("r.safetensors"));
//! # let (n_embd, n_vocab) = (32, 300);
//! # let mut file = Builder::new();
//! # file.kv("general.architecture", "llama");
//! # for (key, value) in [
//! #     ("block_count", 1u32), ("context_length", 64), ("embedding_length", n_embd),
//! #     ("feed_forward_length", n_embd), ("attention.head_count", 2), ("vocab_size", n_vocab),
//! # ] {
//! #     file.kv(format!("llama.{key}"), value);
//! # }
//! # file.kv("llama.attention.layer_norm_rms_epsilon", 1e-5f32);
//! # file.kv("tokenizer.ggml.model", "no_vocab");
//! # let mut tensor = |name: &str, shape: &[u64]| {
//! #     let n: u64 = shape.iter().product();
//! #     let value = |i: u64| ((i * 7919 % 1009) as f32 / 1009.0 - 0.5).to_le_bytes();
//! #     file.tensor(name, shape, GgmlType::F32, (0..n).flat_map(value).collect()).map(drop)
//! # };
//! # let (n, n_vocab) = (u64::from(n_embd), u64::from(n_vocab));
//! # for name in ["token_embd", "output"] {
//! #     tensor(&format!("{name}.weight"), &[n, n_vocab])?;
//! # }
//! # for name in ["output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"] {
//! #     tensor(&format!("{name}.weight"), &[n])?;
//! # }
//! # for name in ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"] {
//! #     tensor(&format!("blk.0.{name}.weight"), &[n, n])?;
//! # }
//! # file.write(&model)?;
//! # let values = (0..n_embd).map(|i| (i as f32 * 1.7).sin()).collect();
//! # let about = About {
//! #     version: "0".into(), model: "tiny".into(), model_sha256: String::new(),
//! #     architecture: "llama".into(), layer: Some(0), position: Some(-1), max_kl: None,
//! #     refusal_tokens: Vec::new(), scores: Vec::new(), prompts: Default::default(),
//! #     n_kept: (0, 0), template_sha256: String::new(),
//! # };
//! # let candidates = Grid { n_layer: 1, n_pos: 1, n_embd: n_embd as usize, values };
//! # Direction { candidates, about }.write(&direction)?;
//! let request = Request {
//!     model,
//!     method: Method::Aird(EditSetup {
//!         original: Original::Direction(direction),
//!         blocks: Blocks::Given(vec![Half { block: 0, part: Part::Mlp }]),
//!         alpha: Some(1.0),
//!         storage: Storage::Auto,
//!         zeros: Zeros::Keep,
//!         search: SearchSetup::default(),
//!     }),
//!     destination: Destination::NewFile { path: folder.path().join("b.gguf"), force: false },
//!     dry_run: false,
//!     chat: Default::default(),
//!     engine: Options::cpu(1),
//! };
//! let Report::Edited(report) = run(&request, &Unwatched)? else { unreachable!() };
//! assert_eq!(report.tensors[0].name, "blk.0.ffn_down.weight");
//! assert!((report.tensors[0].realised_alpha - 1.0).abs() < 1e-3);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Three programs of some thirty lines stand in `examples/`: `describe`, `compress`, `restore`.
//!
//! # Where models run
//!
//! llama.cpp aborts on some files. [`verbs::Host::prober`] says in which program a model is tried
//! first; by default it is this process, which then ends with llama.cpp. A program that must
//! survive that returns a [`llama::Prober`] with the path of the `aird` binary.
//!
//! # The code map
//!
//! A folder may use those below it, never those above. `cli` alone prints, `llama` alone calls C,
//! [`gguf`] alone touches the bytes of model files; it is a crate of its own, without C.

/// This version, as it goes into what is written.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A digest of the sources that this was built from. Results that are kept from one run to the next
/// hold it: another build does not take them over.
pub const BUILD: &str = env!("AIRD_BUILD");

// The command line: the arguments of each verb, its report in print, exit codes and hints.
pub mod cli;

// A recipe, the plan of steps that it becomes, and the folder where they are done.
pub mod study;

// Verbs: what each is asked, what it answers, and a `run` that reads as a sentence.
pub mod verbs;

// Results as people look at them: pictures in SVG, a study's report and its model card.
pub mod report;

// What a model does, measured: attack success, benchmarks, intervals.
pub mod eval;

// AIRD itself: the edit that strengthens what a block says about refusal.
pub mod repair;

// The refusal direction: captured, selected by what it does, compared, kept in a file.
pub mod direction;

// What an answer is: a refusal, compliance, or no answer at all.
pub mod judge;

// Prompts and how a model is asked: sets of prompts, files of them and of answers, chat templates.
pub mod prompts;

// Every matrix of a model's blocks swept, in order, onto zeros and grids: towards what an original
// computes, or from the model's own weights.
pub mod refit;

// Compression: pruning, scale search and the references' quantizers, on rows and matrices.
pub mod compress;

// Whether a quantized tensor was rounded from its original's.
pub mod origin;

// Activation statistics: what goes into every linear layer, collected and kept in files.
pub mod stats;

// LoRA adapters: read, checked against a model, merged into its weights.
pub mod adapter;

// Hugging Face checkpoints: read as the GGUF model that they become.
pub mod checkpoint;

// Rows of any ggml type as numbers: decoding, encoding, comparing.
pub mod quant;

// The engine on llama.cpp: loading, decoding, ggml's codecs.
pub mod llama;

// The file: headers without loss, rewrites that change what they mean to and nothing else.
pub use aird_gguf as gguf;

// Linear algebra: Gram matrices, factors, optimal brain surgeon's sweep.
pub mod numeric;
