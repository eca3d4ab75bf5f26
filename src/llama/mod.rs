//! The engine on llama.cpp: loading, decoding, eval hooks, generating, ggml's codecs. Only this
//! folder calls C.

mod abort;
mod backend;
mod batch;
mod callback;
mod codec;
mod connections;
mod cpu;
mod devices;
mod endpoint;
mod engine;
mod error;
mod first_token;
mod generate;
pub mod graph;
mod hooks;
mod likelihood;
mod linear;
mod load;
mod log;
mod options;
mod pace;
mod patience;
mod prefill;
mod probe;
mod sampler;
mod serve;
mod session;
mod shortage;
mod sites;
mod softmax;
mod split;
mod workers;

pub use codec::{decode, encode, is_decodable, is_encodable, needs_importance, weighs_errors};
pub use cpu::{cpu_features, is_built_for_less};
pub use devices::{Device, devices};
pub use endpoint::Endpoint;
pub use engine::Engine;
pub use error::{Error, Result};
pub use first_token::FirstToken;
pub use generate::{AnswerCount, Generation, Listener, NoListener, generate, generate_streams};
pub use hooks::Hooks;
pub use likelihood::{Scorer, Text, TokenScore};
pub use linear::{LinearInput, RowUse};
pub use log::set_loud;
pub use options::Options;
pub use pace::Pace;
pub use prefill::{LogitsReader, Prefill, ReadRow, Reading};
pub use probe::{Prober, Trial, check_kind};
pub use sampler::{Sampler, Sampling, argmax};
pub use serve::serve;
pub use session::{Input, Session, Size, prompt_inputs};
pub use sites::Site;
pub use softmax::{LogSoftmax, kl_divergence};
pub use split::Split;
pub use workers::Workers;

/// The crate that carries llama.cpp, as Cargo.toml pins it.
pub const LLAMA_CPP: &str = "llama-cpp-2 0.1.160";

#[cfg(test)]
mod tests {
    #[test]
    fn the_version_is_the_one_that_is_built() {
        let (name, version) = super::LLAMA_CPP.split_once(' ').unwrap();
        let pinned = format!("{name} = {{ version = \"={version}\"");
        assert!(include_str!("../../Cargo.toml").contains(&pinned), "no {pinned}");
    }
}
