//! GGUF model files, read and edited without loss.
#![doc = include_str!("../README.md")]

mod build;
mod checksum;
mod copy;
mod cursor;
mod disk;
mod edit;
mod error;
mod file_type;
mod ggml_type;
mod header;
mod history;
mod journal;
mod keep;
mod keys;
mod links;
mod model;
mod output;
mod patch;
mod plan;
mod rewrite;
mod shards;
mod tensor;
mod undo;
mod value;
mod watch;

pub use build::Builder;
pub use checksum::{hex, model_sha256, sha256};
pub use edit::KvEdit;
pub use error::{BoxError, Error, Result};
pub use file_type::file_type_edit;
pub use ggml_type::{GgmlType, Layout as TypeLayout};
pub use header::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, Header, KvMap, TensorMap};
pub use history::{HISTORY_KEY, Step, VERSION_KEY, history, without_block};
pub use journal::journal_path;
pub use keep::history_path;
pub use model::{Model, Shard, Tensor, check_regular};
pub use output::{check_output, check_room, same_file, write_file, write_file_if};
pub use patch::{Patch, Patched, Ready, check_patch};
pub use plan::{Layout, Plan, PlannedFile, Segment};
pub use rewrite::{Ask, Producer, Replacement, Rewrite, Written};
pub use shards::{ShardName, split_ending};
pub use tensor::{MAX_DIMS, MAX_NAME_BYTES, TensorInfo, block_of, shape_text, within_block};
pub use undo::{Pending, Undone};
pub use value::{Array, Value, ValueType};
pub use watch::{Unwatched, Watch};
