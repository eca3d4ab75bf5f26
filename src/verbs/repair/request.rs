//! What to repair, how, from what, and where to.

use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::llama::Options;
use crate::repair::{Half, Storage, Zeros};
use crate::verbs::chat::ChatSetup;
use crate::verbs::host::Host;
use crate::verbs::search::{Blocks, SearchSetup, Searcher};

/// Tokens that are read, by default.
pub const N_TOKENS: usize = 20_000;
/// Part of them that is requests, by default.
pub const SAFETY_SHARE: f64 = 0.5;
/// Ridge towards the original's weights, by default.
pub const PRIOR: f64 = 0.1;
/// Rank of an adapter, by default.
pub const RANK: usize = 32;

/// What to repair, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// A GGUF file; any shard of a split one.
    pub model: PathBuf,
    /// What is done to it.
    pub method: Method,
    /// What is written.
    pub destination: Destination,
    /// Write nothing: only report what would be written. A search is made all the same.
    pub dry_run: bool,
    /// How prompts are put to the model and to its original.
    pub chat: ChatSetup,
    /// How llama.cpp runs.
    pub engine: Options,
}

/// How a model is repaired.
#[derive(Debug, Clone, PartialEq)]
pub enum Method {
    /// Refit every matrix of the blocks to what the original computes.
    Restore(RestoreSetup),
    /// `W + alpha r r^T W` on chosen blocks, r the original's refusal direction.
    Aird(EditSetup),
}

/// What a repair writes. Each is read again before it is called done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A new model file, in one shard.
    NewFile {
        /// The file.
        path: PathBuf,
        /// Replace the file if it exists.
        force: bool,
    },
    /// The model's own file; a journal for undo is written first.
    InPlace {
        /// Check the changed file as a whole, and let llama.cpp run it.
        verify: bool,
    },
    /// A LoRA adapter, and no model.
    Adapter {
        /// The file, which is replaced if it exists; the folder, if PEFT's.
        path: PathBuf,
        /// How it is written.
        format: AdapterFormat,
        /// Rank of a restore's factors, at the most. An edit's adapter has rank 1.
        rank: usize,
    },
}

/// How an adapter is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdapterFormat {
    /// A GGUF file, for llama.cpp.
    Gguf,
    /// A folder, for peft and what reads its adapters.
    Peft {
        /// Replace a folder that holds an adapter.
        force: bool,
    },
}

/// How a model is restored.
#[derive(Debug, Clone, PartialEq)]
pub struct RestoreSetup {
    /// The original model, as GGUF; any shard of a split one.
    pub reference: PathBuf,
    /// General text to read: a text, or records with a field `text`. None: aird's own.
    pub data: Option<PathBuf>,
    /// Tokens to read.
    pub n_tokens: usize,
    /// Part of them that is aird's own training requests with the original's answers, 0 to 1; the
    /// rest is general text.
    pub safety_share: f64,
    /// How strongly matrices hold on to the original's weights, in means of their inputs' squares.
    pub prior: f64,
    /// The edit that is made after the restore, where one is needed. An adapter takes none.
    pub edit: Option<EditAfterRestore>,
}

/// How a model is edited along the direction.
#[derive(Debug, Clone, PartialEq)]
pub struct EditSetup {
    /// What there is of the original.
    pub original: Original,
    /// Blocks to edit.
    pub blocks: Blocks,
    /// The strength, above 0: 1 doubles what a block writes along the direction. None: a search
    /// finds it.
    pub alpha: Option<f64>,
    /// Types of the edited tensors; in place [`Storage::Auto`] keeps them.
    pub storage: Storage,
    /// What becomes of the zeros of pruned matrices.
    pub zeros: Zeros,
    /// How blocks and strength are searched for, unless both are given.
    pub search: SearchSetup,
}

/// What there is of the original model where a compressed one is only edited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Original {
    /// Its direction, in a file: the aim is [`Aim::Strongest`].
    Direction(PathBuf),
    /// The model itself, as GGUF.
    Model {
        /// Its file; any shard of a split one.
        path: PathBuf,
        /// Where its direction comes from.
        direction: DirectionSource,
        /// What an edit aims at.
        aim: Aim,
    },
}

/// Where the direction of an original comes from whose file is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectionSource {
    /// A direction file, which was made of it before.
    File(PathBuf),
    /// It is found when it is needed.
    Found {
        /// The direction file to write, if any; not in a dry run.
        keep: Option<PathBuf>,
    },
}

/// What an edit along the direction aims at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aim {
    /// 95 % of the original's refusals or more, by the least edit, and no more false ones.
    Original,
    /// As many refusals as the budget allows.
    Strongest,
}

/// The edit that is made after a restore, where the restored model refuses less than is aimed at.
#[derive(Debug, Clone, PartialEq)]
pub struct EditAfterRestore {
    /// How much it is to refuse.
    pub aim: Aim,
    /// Where the original's direction comes from.
    pub direction: DirectionSource,
    /// How blocks and strength are searched for.
    pub search: SearchSetup,
}

/// A repair under way.
#[derive(Clone, Copy)]
pub(super) struct Repair<'a> {
    pub request: &'a Request,
    pub host: &'a dyn Host,
    pub begun: Instant,
}

impl<'a> Repair<'a> {
    pub(super) fn searcher(&self, setup: &'a SearchSetup) -> Searcher<'a> {
        let Request { chat, engine, .. } = self.request;
        Searcher { setup, chat, engine: *engine, host: self.host }
    }
}

impl Destination {
    /// The file that is written or changed; `model` is that of the repaired one.
    pub(super) fn path<'a>(&'a self, model: &'a Path) -> &'a Path {
        match self {
            Destination::NewFile { path, .. } | Destination::Adapter { path, .. } => path,
            Destination::InPlace { .. } => model,
        }
    }

    /// True if the model's own file is changed.
    pub(super) fn is_in_place(&self) -> bool {
        matches!(self, Destination::InPlace { .. })
    }
}

impl RestoreSetup {
    /// As `aird repair` restores a model to `reference`, left to itself, with no edit after it.
    pub fn new(reference: PathBuf) -> RestoreSetup {
        RestoreSetup {
            reference,
            data: None,
            n_tokens: N_TOKENS,
            safety_share: SAFETY_SHARE,
            prior: PRIOR,
            edit: None,
        }
    }
}

impl EditSetup {
    /// The halves that are given; none where they are searched for.
    pub(super) fn given_halves(&self) -> &[Half] {
        match &self.blocks {
            Blocks::Given(halves) => halves,
            Blocks::Searched(_) => &[],
        }
    }
}

impl Original {
    /// The original's own file, if it is there.
    pub(super) fn model(&self) -> Option<&Path> {
        match self {
            Original::Direction(_) => None,
            Original::Model { path, .. } => Some(path),
        }
    }

    /// The original's own file where its answers are the aim.
    pub(super) fn aimed_at(&self) -> Option<&Path> {
        match self {
            Original::Model { path, aim: Aim::Original, .. } => Some(path),
            _ => None,
        }
    }
}

impl Aim {
    pub(super) fn name(self) -> &'static str {
        match self {
            Aim::Original => "original",
            Aim::Strongest => "strongest",
        }
    }
}
