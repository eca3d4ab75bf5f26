//! LoRA adapters: read, checked against a model, merged into its weights.

mod config;
mod error;
mod lora;
mod merge;
mod modules;
mod peft;

pub use config::CONFIG;
pub use error::{Error, Result};
pub use lora::{Adapter, Pair, begun};
pub use merge::{MergedType, Outcome, merge, outcomes};
pub use modules::check_modules;
pub use peft::FACTORS;
