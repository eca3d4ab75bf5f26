//! Take an in-place repair back, byte for byte.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::Result;
use super::host::Host;
use super::stopped::Stopped;
use crate::gguf::Pending;

/// What to do with the repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Put back what was there before.
    TakeBack,
    /// Keep the repair for good: remove the journal.
    Keep,
    /// Change nothing.
    DryRun,
}

/// Which repair.
#[derive(Debug, Clone)]
pub struct Request {
    /// The repaired GGUF file; any shard of a split one.
    pub model: PathBuf,
    /// What to do.
    pub action: Action,
}

/// What was taken back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// The model's files that had a journal.
    pub files: Vec<String>,
    /// True if the repair was kept: it can no longer be taken back.
    pub kept: bool,
    /// True if nothing was done.
    pub dry_run: bool,
    /// Tensors that the repair changed, or meant to.
    pub tensors: Vec<String>,
    /// Bytes that it changed, or meant to.
    pub bytes: u64,
    /// Those of them that did not hold what they had held before: 0 if the repair had not begun to
    /// write.
    pub changed_bytes: u64,
    /// The repair, as the file's history would hold it.
    pub step: Option<serde_json::Value>,
    /// Whether it stood in the file's history.
    pub in_history: bool,
    /// The file beside the model that would hold a history for which the model had no room.
    pub history_path: String,
}

/// Takes a repair back, or keeps it for good.
///
/// # Errors
/// There is no journal, or it is of another file; the disk's.
pub fn run(request: &Request, host: &dyn Host) -> Result<Report, Stopped> {
    let pending = Pending::find(&request.model)?;
    let undone = match request.action {
        Action::DryRun => pending.look()?,
        Action::Keep => pending.forget()?,
        Action::TakeBack => pending.undo()?,
    };
    for name in &undone.tensors {
        host.detail(format_args!("changed {name}"));
    }
    Ok(Report {
        files: undone.files.iter().map(|file| file.display().to_string()).collect(),
        kept: request.action == Action::Keep,
        dry_run: request.action == Action::DryRun,
        tensors: undone.tensors,
        bytes: undone.bytes,
        changed_bytes: undone.changed_bytes,
        step: undone.step,
        in_history: undone.in_history,
        history_path: undone.history_path.display().to_string(),
    })
}
