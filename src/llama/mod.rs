//! The engine on llama.cpp: loading, decoding, eval hooks, generating, ggml's codecs. The only
//! folder that calls C.

pub mod architecture;
mod codec;
mod engine;
mod error;
mod generate;
mod hooks;
mod likelihood;
mod linear;
mod log;
mod prefill;
mod sampler;
mod session;
mod sites;
mod softmax;

pub use codec::{decode, encode, is_decodable, is_encodable, needs_importance};
pub use engine::{Engine, FirstToken, Options};
pub use error::{Error, Result};
pub use generate::{Deaf, Generation, Listener, generate, generate_streams};
pub use hooks::{Go, Hooks};
pub use likelihood::{Scorer, Text, TokenScore};
pub use linear::{LinearInput, Use};
pub use log::set_loud;
pub use prefill::{Behind, Prefill, ReadRow, Reading};
pub use sampler::{Sampler, Sampling, argmax};
pub use session::{Input, Session, Size, prompt_inputs};
pub use sites::Site;
pub use softmax::{LogSoftmax, kl_divergence};
