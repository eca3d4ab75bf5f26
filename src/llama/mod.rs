//! The engine on llama.cpp: loading, decoding, ggml's codecs. The only folder that calls C.

pub mod architecture;
mod codec;
mod engine;
mod error;
mod log;

pub use codec::{decode, encode, is_decodable, is_encodable, needs_importance};
pub use engine::{Engine, FirstToken, Options};
pub use error::{Error, Result};
pub use log::set_loud;
