//! Verbs: one file each, with what it is asked (`Request`), what it answers (`Report`, which is
//! what `--json` prints) and `run`, which reads as a sentence: read, transform, verify, write.
//!
//! Verbs print nothing. What a person should hear meanwhile goes to the [`Host`]; how a verb ends
//! without its report is a [`Stopped`].

pub mod ask;
pub mod asr;
pub mod audit;
mod cached;
pub mod calibrate;
mod calibration;
mod chat;
mod choice;
pub mod compare;
pub mod devices;
pub mod diff;
pub mod direction;
mod error;
mod estimate;
pub mod export;
mod files;
mod gates;
mod host;
pub mod import;
pub mod inspect;
pub mod judge;
mod judges;
pub mod merge;
mod model;
pub mod origin;
mod output;
mod pairs;
pub(crate) mod parts;
pub mod prune;
pub mod quantize;
pub mod repair;
pub mod report;
pub mod search;
mod sequence;
mod statistics;
mod stopped;
mod structure;
mod sweep;
pub mod tasks;
pub mod undo;
pub mod verify;
mod vocabulary;
pub(crate) mod words;
pub mod worker;

pub use cached::cached;
pub use calibration::{Calibration, CalibrationSetup, Data, Format, TokenMask};
pub use chat::{Chat, ChatSetup, Template, warn_of_date};
pub use choice::{BlockRanges, TensorChoice, TypeFor, parse_type};
pub use error::{Error, Result, is_interrupt};
pub use files::{FileReport, Planned};
pub use host::{Host, Note};
pub use judges::{JudgeChoice, JudgeTemplate};
pub use model::{file_name, load, load_with_adapter, model_name, read_direction, sha256_of};
pub use output::{Output, no_sha256};
pub use statistics::{Given, Statistics, kept_beside};
pub use stopped::{NoDirection, StopReason, StopReport, Stopped, Why};
