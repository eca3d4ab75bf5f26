//! LoRA adapters: read, checked against a model, merged into its weights.

mod error;
mod lora;
mod merge;

pub use error::{Error, Result};
pub use lora::{Adapter, Pair, begun};
pub use merge::{MergedType, Outcome, merge, outcomes};
