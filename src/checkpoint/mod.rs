//! Hugging Face checkpoints: folders of `config.json`, safetensors and tokenizer files, read as the
//! GGUF model that llama.cpp's converter makes of them, and written from one.
//!
//! What the two formats call a tensor, and how they order its rows, stands in one table for each
//! family of models: [`Family`]. Nothing of it is elsewhere. A family is in the table only if its
//! imports were compared byte for byte with `convert_hf_to_gguf.py`; others are refused by name.

mod card;
mod config;
mod error;
mod export;
mod family;
mod folder;
mod fp8;
mod general;
mod keys;
mod named;
mod parts;
mod planned;
mod rows;
mod sizes;
mod tokenizer;

pub use config::Config;
pub use error::{Error, Result};
pub use export::{Export, ExportType};
pub use family::{Family, families};
pub use folder::{Checkpoint, Entry, is_checkpoint};
pub use planned::{Import, ImportType, Planned};
pub use sizes::Sizes;
