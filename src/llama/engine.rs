//! A model loaded by llama.cpp.

use std::cell::{OnceCell, RefCell};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::model::{LlamaLoraAdapter, LlamaModel};
use llama_cpp_2::token::LlamaToken;

use super::error::{Error, Result};
use super::graph::Structure;
use super::load::load;
use super::log;
use super::options::Options;
use crate::gguf::Model;

/// A model in memory.
pub struct Engine {
    path: PathBuf,
    model: LlamaModel,
    options: Options,
    /// Traced when it is first asked for.
    structure: OnceCell<Structure>,
    /// Set into every context; llama-cpp-2 wants it mutable, though llama.cpp changes nothing.
    adapter: RefCell<Option<(LlamaLoraAdapter, f32)>>,
    /// Set from outside to stop whatever is being decoded.
    interrupt: Arc<AtomicBool>,
}

impl Engine {
    /// Loads the model at `path`, or all shards of which it is the first.
    ///
    /// # Errors
    /// llama.cpp's own reasons, in its words.
    pub fn load(path: &Path, options: Options) -> Result<Engine> {
        Engine::load_interruptible(path, options, Arc::default())
    }

    /// As [`Engine::load`]. Once `interrupt` is set, the load and every decode, also those under
    /// way, end with [`Error::Interrupted`].
    ///
    /// # Errors
    /// As [`Engine::load`], or the interrupt.
    pub fn load_interruptible(
        path: &Path,
        options: Options,
        interrupt: Arc<AtomicBool>,
    ) -> Result<Engine> {
        let model = load(path, options, &interrupt)?;
        let (path, structure, adapter) = (path.into(), OnceCell::new(), RefCell::new(None));
        Ok(Engine { path, model, options, structure, adapter, interrupt })
    }

    pub(super) fn interrupt(&self) -> &Arc<AtomicBool> {
        &self.interrupt
    }

    pub(super) fn model(&self) -> &LlamaModel {
        &self.model
    }

    /// Answers with a LoRA adapter from now on, at `scale`.
    ///
    /// # Errors
    /// llama.cpp does not load it, or it is for another model.
    pub fn set_adapter(&mut self, path: &Path, scale: f32) -> Result<()> {
        log::clear();
        let failed = || Error::Adapter { path: path.into(), said: log::last_errors() };
        if !path.is_file() {
            return Err(Error::Adapter { path: path.into(), said: "there is no such file".into() });
        }
        let adapter = self.model.lora_adapter_init(path).map_err(|_| failed())?;
        self.adapter = RefCell::new(Some((adapter, scale)));
        Ok(())
    }

    /// Sets the adapter, if there is one, into a context.
    pub(super) fn apply_adapter(&self, context: &mut LlamaContext<'_>) -> Result<()> {
        match &mut *self.adapter.borrow_mut() {
            None => Ok(()),
            Some((adapter, scale)) => {
                let failed = |_| Error::Backend { said: log::last_errors() };
                context.lora_adapter_set(adapter, *scale).map_err(failed)
            }
        }
    }

    /// What the model's blocks are, according to llama.cpp's own graph.
    ///
    /// # Errors
    /// The file cannot be read any more.
    pub fn structure(&self) -> Result<&Structure> {
        if let Some(structure) = self.structure.get() {
            return Ok(structure);
        }
        let structure = Structure::trace(&Model::open(&self.path)?)?;
        Ok(self.structure.get_or_init(|| structure))
    }

    /// How the model was loaded.
    pub fn options(&self) -> Options {
        self.options
    }

    /// True if some blocks keep a state instead of past tokens: mamba, rwkv, and hybrids.
    pub fn is_recurrent(&self) -> bool {
        self.model.is_recurrent() || self.model.is_hybrid()
    }

    /// Number of transformer blocks, `{architecture}.block_count`.
    pub fn n_block(&self) -> u32 {
        self.model.n_layer()
    }

    /// Width of the residual stream.
    pub fn n_embd(&self) -> usize {
        self.model.n_embd().unsigned_abs() as usize
    }

    /// Tokens in the vocabulary: the length of a row of logits.
    pub fn n_vocab(&self) -> usize {
        self.model.n_vocab().unsigned_abs() as usize
    }

    /// Context that the model was trained for, in tokens. `{architecture}.context_length` is u32 in
    /// the file, but llama.cpp returns it as i32 and llama-cpp-2 panics where that is negative.
    pub fn n_ctx_train(&self) -> u32 {
        let written = self.text(&format!("{}.context_length", self.architecture()));
        let written = written.and_then(|text| text.parse::<u64>().ok());
        match written {
            Some(n) if n > i32::MAX as u64 => i32::MAX as u32,
            _ => self.model.n_ctx_train(),
        }
    }

    /// False for models that come without a vocabulary of texts (llama.cpp's `llama-vocab.cpp`):
    /// it aborts where they are to read or write text.
    pub fn has_tokenizer(&self) -> bool {
        let model = self.text("tokenizer.ggml.model");
        !matches!(model.as_deref(), Some("no_vocab" | "none"))
    }

    /// `general.architecture`, as llama.cpp reads it.
    pub fn architecture(&self) -> String {
        self.text("general.architecture").unwrap_or_default()
    }

    /// The text of a metadata key, as llama.cpp reads it.
    pub fn text(&self, key: &str) -> Option<String> {
        self.model.meta_val_str(key).ok()
    }

    /// Tokens of a rendered prompt. Special tokens that are spelled in it are parsed as such, and
    /// the model's own BOS comes first if `add_bos` is set and the model wants one.
    pub fn tokenize(&self, text: &str, add_bos: bool) -> Vec<i32> {
        let vocab = self.model.vocab();
        let tokens = vocab.tokenize(text.as_bytes(), false, true).into_iter().map(|t| t.0);
        let bos = self.bos_if_wanted().filter(|_| add_bos);
        bos.into_iter().chain(tokens).collect()
    }

    /// Tokens of a text in which nothing is special, after the model's BOS if it wants one:
    /// llama-perplexity reads its files the same way.
    pub fn tokenize_plain(&self, text: &str) -> Vec<i32> {
        let vocab = self.model.vocab();
        let tokens = vocab.tokenize(text.as_bytes(), false, false).into_iter().map(|t| t.0);
        self.bos_if_wanted().into_iter().chain(tokens).collect()
    }

    /// The token that the model wants in front of every text, if it wants one.
    pub fn bos_if_wanted(&self) -> Option<i32> {
        let vocab = self.model.vocab();
        vocab.should_add_bos().then(|| vocab.bos().0).filter(|t| *t >= 0)
    }

    /// The bytes of a token; empty for special ones.
    pub fn piece(&self, token: i32) -> Vec<u8> {
        self.model.vocab().token_to_piece(LlamaToken(token), false, None)
    }

    /// The text of an answer, special tokens left out and invalid bytes replaced.
    pub fn answer(&self, tokens: &[i32]) -> String {
        let bytes: Vec<u8> = tokens.iter().flat_map(|&token| self.piece(token)).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The bytes of a token, special ones spelled out: for showing.
    pub fn spelled(&self, token: i32) -> String {
        if usize::try_from(token).is_ok_and(|t| t >= self.n_vocab()) {
            return String::new();
        }
        let bytes = self.model.vocab().token_to_piece(LlamaToken(token), true, None);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// True for tokens that end an answer.
    pub fn ends_answer(&self, token: i32) -> bool {
        self.model.vocab().is_eog(LlamaToken(token))
    }
}
