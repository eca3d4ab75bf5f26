//! Verbs: one file each, with what it is asked (`Request`), what it answers (`Report`, which is
//! what `--json` prints) and `run`, which reads as a sentence: read, transform, verify, write.
//!
//! Verbs print nothing. What a person should hear meanwhile goes to the [`Host`]; how a verb ends
//! without its report is a [`Stopped`].

mod chat;
pub mod compare;
pub mod diff;
mod error;
mod host;
pub mod inspect;
pub mod merge;
mod model;
mod output;
pub(crate) mod parts;
mod structure;
pub mod undo;
pub mod verify;
pub(crate) mod words;

pub use chat::{Chat, ChatSetup, Template, warn_of_date};
pub(crate) use error::Context;
pub use error::{Error, Result, Stopped, is_interrupt};
pub use host::{Host, Note};
pub use model::{file_name, load, load_with_adapter, model_name, sha256_of};
pub use output::{FileReport, Output, Planned, no_sha256};
