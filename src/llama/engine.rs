//! A model loaded by llama.cpp.

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::OnceLock;

use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;

use super::error::{Error, Result};
use super::log;

/// Tokens of context for a first look at a model.
const PROBE_CTX: u32 = 64;
/// A beginning that any language model goes on from; the text that comes is shown to the user.
const PROBE_PROMPT: &[u8] = b"The capital of France is";

/// How a model is loaded and run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// CPU threads; 0: as many as there are cores.
    pub threads: u32,
    /// Blocks to put on the GPU; all with a large number.
    pub gpu_layers: u32,
}

impl Options {
    /// [`Options::threads`], with 0 resolved.
    pub fn n_threads(&self) -> i32 {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from) as u32;
        if self.threads == 0 { cores() as i32 } else { self.threads as i32 }
    }
}

/// A model in memory.
pub struct Engine {
    model: LlamaModel,
    options: Options,
}

/// What came of decoding one token.
#[derive(Debug, Clone, PartialEq)]
pub struct FirstToken {
    /// The token of the highest logit.
    pub token: i32,
    /// Its text, invalid bytes replaced.
    pub text: String,
    /// How many logits are NaN or infinite: 0 in a sound model.
    pub non_finite: usize,
    /// Highest minus lowest logit: 0 where all are equal, which no trained model does.
    pub spread: f32,
}

impl Engine {
    /// Loads the model at `path`, or all shards of which it is the first.
    ///
    /// # Errors
    /// llama.cpp's own reasons, in its words.
    pub fn load(path: &Path, options: Options) -> Result<Engine> {
        let backend = backend()?;
        log::forget();
        let params = LlamaModelParams::default().with_n_gpu_layers(options.gpu_layers);
        let model = LlamaModel::load_from_file(backend, path, &params)
            .map_err(|_| Error::Load { path: path.into(), said: log::last_words() })?;
        Ok(Engine { model, options })
    }

    /// Decodes a short prompt and looks at the logits.
    ///
    /// # Errors
    /// No vocabulary, no memory for a context, or llama.cpp cannot run the graph.
    pub fn first_token(&self) -> Result<FirstToken> {
        log::forget();
        let vocab = self.model.vocab();
        if vocab.n_tokens() <= 0 {
            return Err(Error::NoVocabulary);
        }
        let threads = self.options.n_threads();
        let params = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(PROBE_CTX))
            .with_n_batch(PROBE_CTX)
            .with_n_threads(threads)
            .with_n_threads_batch(threads);
        let context = self.model.new_context(backend()?, params);
        let mut context =
            context.map_err(|_| Error::Context { n_ctx: PROBE_CTX, said: log::last_words() })?;
        let mut tokens = vocab.tokenize(PROBE_PROMPT, true, false);
        tokens.retain(|t| (0..vocab.n_tokens()).contains(&t.0));
        if tokens.is_empty() {
            tokens.push(LlamaToken(0));
        }
        tokens.truncate(PROBE_CTX as usize);
        let mut batch = LlamaBatch::new(tokens.len(), 1);
        let failed = || Error::Decode { n_tokens: tokens.len(), said: log::last_words() };
        batch.add_sequence(&tokens, 0, false).map_err(|_| failed())?;
        context.decode(&mut batch).map_err(|_| failed())?;
        let logits = context.get_logits_ith(tokens.len() as i32 - 1);
        Ok(self.read_logits(logits))
    }

    fn read_logits(&self, logits: &[f32]) -> FirstToken {
        let mut best = (0, f32::NEG_INFINITY);
        let mut lowest = f32::INFINITY;
        for (i, &x) in logits.iter().enumerate().filter(|(_, x)| x.is_finite()) {
            if x > best.1 {
                best = (i, x);
            }
            lowest = lowest.min(x);
        }
        let token = LlamaToken(best.0 as i32);
        let piece = self.model.vocab().token_to_piece(token, false, None);
        FirstToken {
            token: token.0,
            text: String::from_utf8_lossy(&piece).into_owned(),
            non_finite: logits.iter().filter(|x| !x.is_finite()).count(),
            spread: if best.1 > lowest { best.1 - lowest } else { 0.0 },
        }
    }
}

/// llama.cpp, started once for the whole process.
fn backend() -> Result<&'static LlamaBackend> {
    static BACKEND: OnceLock<Option<LlamaBackend>> = OnceLock::new();
    let backend = BACKEND.get_or_init(|| {
        log::install();
        LlamaBackend::init().ok()
    });
    backend.as_ref().ok_or_else(|| Error::Backend { said: log::last_words() })
}
