//! llama.cpp as other programs use it: what it makes of a file is the measure of ours.

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;

use super::ggml;

/// One model at a time: contexts made in parallel are unsound in llama-cpp-2.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn backend() -> &'static LlamaBackend {
    static BACKEND: OnceLock<LlamaBackend> = OnceLock::new();
    BACKEND.get_or_init(|| {
        ggml::silence();
        LlamaBackend::init().unwrap()
    })
}

/// Logits of the token after `prompt`; None if llama.cpp does not load the model.
pub fn logits(model: &Path, prompt: &str) -> Option<Vec<f32>> {
    logits_with(model, None, prompt)
}

/// As [`logits`], with an adapter and its scale; None if either is refused.
pub fn logits_with(model: &Path, adapter: Option<(&Path, f32)>, prompt: &str) -> Option<Vec<f32>> {
    let _turn = turn();
    let backend = backend();
    // Without GPU layers, so that a build with CUDA is measured the same.
    let params = LlamaModelParams::default().with_n_gpu_layers(0);
    let mut model = LlamaModel::load_from_file(backend, model, &params).ok()?;
    let lora = match adapter {
        Some((path, scale)) => Some((model.lora_adapter_init(path).ok()?, scale)),
        None => None,
    };
    let tokens = model.vocab().tokenize(prompt.as_bytes(), true, true);
    let params = LlamaContextParams::default()
        .with_n_ctx(NonZeroU32::new(128))
        .with_n_threads(1)
        .with_n_threads_batch(1);
    let mut context = model.new_context(backend, params).unwrap();
    if let Some((mut lora, scale)) = lora {
        context.lora_adapter_set(&mut lora, scale).unwrap();
    }
    let mut batch = LlamaBatch::new(128, 1);
    let last = tokens.len() - 1;
    for (i, &token) in tokens.iter().enumerate() {
        batch.add(token, i as i32, &[0], i == last).unwrap();
    }
    context.decode(&mut batch).unwrap();
    Some(context.get_logits_ith(last as i32).to_vec())
}

/// The prompt cut into tokens and spelled again.
pub fn retold(model: &Path, prompt: &str) -> String {
    let _turn = turn();
    let params = LlamaModelParams::default().with_vocab_only(true);
    let model = LlamaModel::load_from_file(backend(), model, &params).unwrap();
    let vocab = model.vocab();
    let tokens = vocab.tokenize(prompt.as_bytes(), false, true);
    let bytes = tokens.iter().flat_map(|&t| vocab.token_to_piece(t, true, None)).collect();
    String::from_utf8(bytes).unwrap()
}
