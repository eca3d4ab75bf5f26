//! A context with its memory of past tokens: batches of many sequences in, logits out.

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_sys_2 as sys;

use super::backend::backend;
use super::batch::BatchShape;
use super::callback::{HookState, callback};
use super::engine::Engine;
use super::error::{Error, Result};
use super::hooks::Hooks;
use super::log;
use super::sites::Sites;

/// What a context can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Tokens in memory; of each sequence, or of all together if `unified`.
    pub n_ctx: u32,
    /// Tokens decoded at once.
    pub n_batch: u32,
    /// Sequences that are kept apart, at most.
    pub n_seq: u32,
    /// One memory for all sequences: rows of activations then lie in the batch's order. With
    /// separate memories attention is cheaper where sequences are long.
    pub unified: bool,
}

/// A token to decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Input {
    /// The token's index in the vocabulary.
    pub token: i32,
    /// Its place in its sequence, from 0.
    pub position: u32,
    /// Number of its sequence, from 0.
    pub sequence: u32,
    /// Whether its logits are wanted.
    pub logits: bool,
}

/// `tokens` of `sequence` from `position` on, the last one's logits wanted.
pub fn prompt_inputs(tokens: &[i32], sequence: u32, position: u32) -> Vec<Input> {
    let last = tokens.len().saturating_sub(1);
    let input = |(i, &token): (usize, &i32)| Input {
        token,
        position: position + i as u32,
        sequence,
        logits: i == last,
    };
    tokens.iter().enumerate().map(input).collect()
}

/// A context of `engine`'s model.
pub struct Session<'e> {
    engine: &'e Engine,
    // Dropped before the state that its callback points to.
    context: LlamaContext<'e>,
    batch: LlamaBatch<'static>,
    /// The callback writes to it while llama.cpp decodes; the session only between decodes.
    state: Box<UnsafeCell<HookState>>,
    interrupt: Arc<AtomicBool>,
    size: Size,
}

// LlamaContextParams has no way to set the eval callback, but is nothing except the raw struct.
const _: () = assert!(size_of::<LlamaContextParams>() == size_of::<sys::llama_context_params>());
const _: () = assert!(align_of::<LlamaContextParams>() == align_of::<sys::llama_context_params>());

impl<'e> Session<'e> {
    /// Makes a context of this size.
    ///
    /// # Errors
    /// There is not enough memory.
    pub fn new(engine: &'e Engine, size: Size) -> Result<Session<'e>> {
        log::clear();
        let threads = engine.options().n_threads();
        // llama.cpp aborts if a batch could hold fewer outputs than there are sequences.
        let n_batch = size.n_batch.max(size.n_seq);
        let cells = if size.unified { size.n_ctx } else { size.n_ctx * size.n_seq };
        let mut params = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(cells))
            .with_n_batch(n_batch)
            // One micro-batch a batch, so that a hook sees the rows of a batch together.
            .with_n_ubatch(n_batch)
            .with_n_seq_max(size.n_seq)
            .with_n_threads(threads)
            .with_n_threads_batch(threads)
            .with_kv_unified(size.unified);
        let state = Box::<UnsafeCell<HookState>>::default();
        let interrupt = Arc::clone(engine.interrupt());
        let raw = std::ptr::from_mut(&mut params).cast::<sys::llama_context_params>();
        // SAFETY: same size and alignment (asserted above), and LlamaContextParams documents that
        // it holds the raw struct; a test sees the callback fire. State and flag are boxed, so that
        // they stay where they are, and are dropped after the context.
        unsafe {
            (*raw).cb_eval = Some(callback);
            (*raw).cb_eval_user_data = state.get().cast();
            (*raw).abort_callback = Some(aborts);
            (*raw).abort_callback_data = Arc::as_ptr(&interrupt).cast_mut().cast();
        }
        let workers = engine.options().workers;
        let wait = workers.wait();
        let context = engine.model().new_context(backend()?, params);
        let mut context =
            context.map_err(|_| Error::Context { n_ctx: cells, said: log::last_errors() })?;
        // The context may hold memory on a worker that has no weights.
        workers.keep_alive();
        drop(wait);
        engine.apply_adapter(&mut context)?;
        let batch = LlamaBatch::new(size.n_batch as usize, 1);
        Ok(Session { engine, context, batch, state, interrupt, size })
    }

    /// The state that the callback uses. llama.cpp calls it only inside `decode`, on this thread,
    /// so nothing else reads it while the session does.
    fn state(&mut self) -> &mut HookState {
        self.state.get_mut()
    }

    /// The size that was asked for.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Decodes `inputs` (at most `n_batch`) under `hooks`.
    ///
    /// # Errors
    /// llama.cpp cannot, memory is full, a hook failed, the engine was interrupted; or a hook is
    /// for a site and the model has no residual stream.
    pub fn decode(&mut self, inputs: &[Input], hooks: Option<&mut Hooks<'_>>) -> Result<()> {
        let Some(hooks) = hooks else { return self.run(inputs) };
        if hooks.needs_sites() && self.state().sites.is_none() {
            let structure = self.engine.structure()?;
            structure.check_stream()?;
            self.state().sites = Some(Sites::new(structure));
        }
        self.state().begin(hooks);
        let decoded = self.run(inputs);
        self.state().finish()?;
        decoded
    }

    fn run(&mut self, inputs: &[Input]) -> Result<()> {
        log::clear();
        let failed = || Error::Decode { n_tokens: inputs.len(), said: log::last_errors() };
        self.batch.clear();
        for input in inputs {
            if input.sequence >= self.size.n_seq {
                return Err(failed());
            }
            let (position, sequence) = (input.position as i32, input.sequence as i32);
            let token = LlamaToken(input.token);
            self.batch.add(token, position, &[sequence], input.logits).map_err(|_| failed())?;
        }
        let wanted = inputs.iter().enumerate().filter(|(_, input)| input.logits);
        let outputs = wanted.map(|(row, _)| row).collect();
        self.state().shape = BatchShape { n_tokens: inputs.len(), outputs };
        if self.interrupted() {
            return Err(Error::Interrupted);
        }
        let wait = self.engine.options().workers.wait();
        let decoded = self.context.decode(&mut self.batch);
        if wait.is_some() {
            // Else reading the logits would wait.
            self.context.synchronize();
        }
        drop(wait);
        if self.interrupted() {
            return Err(Error::Interrupted);
        }
        decoded.map_err(|_| failed())
    }

    fn interrupted(&self) -> bool {
        self.interrupt.load(Ordering::Relaxed)
    }

    /// Logits of batch row `row`, which must have asked for them; `[n_vocab]`.
    ///
    /// # Errors
    /// [`Error::NotFiniteLogits`]: one of them is NaN, or none is finite. A logit of minus infinity
    /// is how some models rule a token out.
    ///
    /// # Panics
    /// The last decode did not ask for that row.
    pub fn logits(&self, row: usize) -> Result<&[f32]> {
        let logits = self.raw_logits(row);
        // No branches inside, so that the compiler can use wide registers.
        let (mut highest, mut n_nan) = (f32::NEG_INFINITY, 0u32);
        for &x in logits {
            highest = if x > highest { x } else { highest };
            n_nan += u32::from(x.is_nan());
        }
        match n_nan == 0 && highest.is_finite() {
            true => Ok(logits),
            false => Err(Error::NotFiniteLogits),
        }
    }

    /// As [`Session::logits`], without the check for non-finite values.
    pub(super) fn raw_logits(&self, row: usize) -> &[f32] {
        self.context.get_logits_ith(row as i32)
    }

    /// Lets `target` begin with all tokens of `source`, without decoding them again.
    pub fn share(&mut self, source: u32, target: u32) {
        // Positions None: the whole sequence, which cannot be out of range.
        let _ = self.context.copy_kv_cache_seq(source as i32, target as i32, None, None);
    }

    /// Forgets a sequence from `position` on.
    pub fn forget(&mut self, sequence: u32, position: u32) {
        let _ = self.context.clear_kv_cache_seq(Some(sequence), Some(position), None);
    }

    /// Forgets all sequences.
    pub fn clear(&mut self) {
        self.context.clear_kv_cache();
    }
}

/// llama.cpp's `ggml_abort_callback`: asked between the nodes of a graph on the CPU.
unsafe extern "C" fn aborts(flag: *mut c_void) -> bool {
    // SAFETY: the flag that the session holds by an Arc, dropped after the context.
    unsafe { &*flag.cast::<AtomicBool>() }.load(Ordering::Relaxed)
}
