//! Reads many prompts in few batches: the logits after each one's last token, and activations on
//! the way. What all prompts begin with is decoded once per run, under the run's own hooks.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;

use super::engine::Engine;
use super::error::{Error, Result};
use super::generate::common_prefix;
use super::hooks::Hooks;
use super::session::{Input, Session, Size, prompt_inputs};
use super::sites::Site;

/// Tokens per decode.
const N_BATCH: u32 = 512;
/// Prompts in a batch, at most.
const MAX_PARALLEL: u32 = 63;
/// Tokens that may be tried after a prompt.
const MAX_CONTINUATION: u32 = 8;

/// Called with the site, the prompt, the tokens that follow in it (0: its last), and the row.
pub type ReadRow<'a> = Box<dyn FnMut(Site, usize, usize, &[f32]) -> Result<()> + 'a>;

/// Activations of a prompt's last tokens.
pub struct Reading<'a> {
    /// The sites to read.
    pub at: Box<dyn Fn(Site) -> bool + 'a>,
    /// How many of each prompt's last tokens.
    pub n_last: usize,
    /// What is done with each row.
    pub row: ReadRow<'a>,
}

/// Reads the logits after prompts, and after continuations of them.
pub trait LogitsReader {
    /// Takes the logits, `[n_vocab]`, after the prompt of that number and the tokens `so_far` of a
    /// continuation; none right after the prompt.
    ///
    /// # Errors
    /// Whatever ends the run.
    fn logits(&mut self, prompt: usize, so_far: &[i32], values: &[f32]) -> Result<()>;

    /// Whether `continuation` is to be read after that prompt, after all that was read before.
    fn wants(&self, _prompt: usize, _continuation: &[i32]) -> bool {
        true
    }
}

/// Reads the logits after prompts, and no continuation.
struct PromptsOnly<'a>(&'a mut dyn FnMut(usize, &[f32]) -> Result<()>);

impl LogitsReader for PromptsOnly<'_> {
    fn logits(&mut self, prompt: usize, _: &[i32], values: &[f32]) -> Result<()> {
        (self.0)(prompt, values)
    }
}

/// A context for reading prompts, for any number of runs.
pub struct Prefill<'e> {
    session: Session<'e>,
    n_tokens: u64,
    is_recurrent: bool,
}

impl<'e> Prefill<'e> {
    /// A context with room for prompts of up to `longest` tokens, `parallel` of them at once.
    ///
    /// # Errors
    /// Not enough memory, or a model without a residual stream or a memory.
    pub fn new(engine: &'e Engine, longest: usize, parallel: u32) -> Result<Prefill<'e>> {
        // For models that keep a state, llama.cpp splits batches of several sequences and reorders
        // the tokens: the rows that hooks see would belong to other tokens.
        let most = if engine.is_recurrent() { 1 } else { MAX_PARALLEL };
        let parallel = parallel.clamp(1, most);
        let n_batch = N_BATCH.min(parallel * longest as u32).max(longest as u32);
        let continued = parallel * MAX_CONTINUATION;
        let n_ctx = (longest as u32 + n_batch + continued).next_multiple_of(256);
        let size = Size { n_ctx, n_batch, n_seq: parallel + 1, unified: true };
        let session = Session::new(engine, size)?;
        let structure = engine.structure()?;
        structure.check_stream()?;
        structure.check_memory()?;
        Ok(Prefill { session, n_tokens: 0, is_recurrent: engine.is_recurrent() })
    }

    /// Tokens that a run over `prompts` decodes.
    pub fn cost(prompts: &[&[i32]]) -> u64 {
        let shared = common_prefix(prompts);
        let rest: usize = prompts.iter().map(|p| p.len() - shared).sum();
        (shared + rest) as u64
    }

    /// Tokens decoded so far, over all runs.
    pub fn n_tokens(&self) -> u64 {
        self.n_tokens
    }

    /// Reads `prompts` under the changes of `hooks`; `logits` is called with each prompt's index
    /// and the logits after its last token, `[n_vocab]`, in order, after its batch's readings.
    ///
    /// # Errors
    /// An empty prompt or one longer than was planned for; a reading failed.
    pub fn run<'h>(
        &mut self,
        prompts: &[&[i32]],
        hooks: Hooks<'h>,
        reading: Option<Reading<'h>>,
        mut logits: impl FnMut(usize, &[f32]) -> Result<()>,
    ) -> Result<()> {
        let mut read = |prompt: usize, values: &[f32]| logits(prompt, values);
        self.run_on(prompts, &[], hooks, reading, &mut PromptsOnly(&mut read))
    }

    /// As [`Prefill::run`], and goes on after each prompt with those of `continuations` (of at
    /// most 8 tokens) that `reader` wants there, in turn. Models that keep a state cannot go back:
    /// for them this is [`Prefill::run`].
    ///
    /// # Errors
    /// As [`Prefill::run`].
    pub fn run_on<'h>(
        &mut self,
        prompts: &[&[i32]],
        continuations: &[Vec<i32>],
        hooks: Hooks<'h>,
        reading: Option<Reading<'h>>,
        reader: &mut dyn LogitsReader,
    ) -> Result<()> {
        let continuations = if self.is_recurrent { &[] } else { continuations };
        self.check(prompts)?;
        self.session.clear();
        // Hooks see rows of a batch, callers know prompts: `places` maps rows to prompts. The hook
        // holds a reference to it, and it is filled again for each batch.
        let places = RefCell::new(HashMap::<usize, (usize, usize)>::new());
        let n_last = reading.as_ref().map_or(0, |r| r.n_last);
        // The prefix is decoded once and copied to each sequence (`seq_cp` of llama.cpp's
        // `src/llama-kv-cache.cpp` shares its cells). It ends before the last `n_last` tokens of
        // every prompt, because a row that is read must be in that prompt's own sequence. Each run
        // decodes it again: hooks may change activations, and with them its keys and values.
        let shared = common_prefix(prompts).min(shortest(prompts).saturating_sub(n_last));
        let mut hooks = match reading {
            None => hooks,
            Some(Reading { at, mut row, .. }) => {
                let places = &places;
                hooks.read(at, move |site, place, values| match places.borrow().get(&place) {
                    Some(&(prompt, from_end)) => row(site, prompt, from_end, values),
                    None => Ok(()),
                })
            }
        };
        hooks.set_rows(Vec::new());
        self.decode_prefix(prompts, shared, &mut hooks)?;
        let mut next = 0;
        while next < prompts.len() {
            let first = next;
            let mut inputs: Vec<Input> = Vec::new();
            places.borrow_mut().clear();
            while next < prompts.len() && self.fits(&inputs, prompts[next], next - first, shared) {
                let (rest, sequence) = (&prompts[next][shared..], (next - first) as u32);
                let start = inputs.len();
                self.session.share(self.keeper(), sequence);
                inputs.extend(prompt_inputs(rest, sequence, shared as u32));
                for from_end in 0..n_last.min(rest.len()) {
                    let row = start + rest.len() - 1 - from_end;
                    places.borrow_mut().insert(row, (next, from_end));
                }
                next += 1;
            }
            let mut rows: Vec<usize> = places.borrow().keys().copied().collect();
            rows.sort_unstable();
            hooks.set_rows(rows);
            self.session.decode(&inputs, Some(&mut hooks))?;
            self.n_tokens += inputs.len() as u64;
            let wanted = inputs.iter().enumerate().filter(|(_, input)| input.logits);
            for (index, (row, _)) in (first..).zip(wanted) {
                reader.logits(index, &[], self.session.logits(row)?)?;
            }
            hooks.set_rows(Vec::new());
            for tokens in continuations {
                self.go_on(prompts, first..next, tokens, &mut hooks, reader)?;
            }
            (0..(next - first) as u32).for_each(|sequence| self.session.forget(sequence, 0));
        }
        Ok(())
    }

    /// Decodes `tokens` after the prompts of the batch `under_way` where they are wanted, and
    /// forgets them again.
    fn go_on(
        &mut self,
        prompts: &[&[i32]],
        under_way: Range<usize>,
        tokens: &[i32],
        hooks: &mut Hooks<'_>,
        reader: &mut dyn LogitsReader,
    ) -> Result<()> {
        let tokens = &tokens[..tokens.len().min(MAX_CONTINUATION as usize)];
        let at_once = (self.session.size().n_batch as usize / tokens.len().max(1)).max(1);
        let first = under_way.start;
        let wanted: Vec<usize> = under_way.filter(|&i| reader.wants(i, tokens)).collect();
        for chunk in wanted.chunks(at_once) {
            let mut inputs = Vec::new();
            for &i in chunk {
                let more = prompt_inputs(tokens, (i - first) as u32, prompts[i].len() as u32);
                inputs.extend(more.into_iter().map(|input| Input { logits: true, ..input }));
            }
            self.session.decode(&inputs, Some(hooks))?;
            self.n_tokens += inputs.len() as u64;
            for row in 0..inputs.len() {
                let (place, so_far) = (row / tokens.len(), &tokens[..=row % tokens.len()]);
                reader.logits(chunk[place], so_far, self.session.logits(row)?)?;
            }
            for &i in chunk {
                self.session.forget((i - first) as u32, prompts[i].len() as u32);
            }
        }
        Ok(())
    }

    fn decode_prefix(
        &mut self,
        prompts: &[&[i32]],
        shared: usize,
        hooks: &mut Hooks<'_>,
    ) -> Result<()> {
        if shared == 0 {
            return Ok(());
        }
        let mut inputs = prompt_inputs(&prompts[0][..shared], self.keeper(), 0);
        inputs.iter_mut().for_each(|input| input.logits = false);
        self.n_tokens += shared as u64;
        self.session.decode(&inputs, Some(hooks))
    }

    /// The sequence that keeps what all prompts begin with.
    fn keeper(&self) -> u32 {
        self.session.size().n_seq - 1
    }

    fn fits(&self, inputs: &[Input], prompt: &[i32], taken: usize, shared: usize) -> bool {
        let room = self.session.size().n_batch as usize - inputs.len();
        prompt.len() - shared <= room && (taken as u32) < self.keeper()
    }

    fn check(&self, prompts: &[&[i32]]) -> Result<()> {
        let n_ctx = self.session.size().n_batch;
        for (index, prompt) in prompts.iter().enumerate() {
            if prompt.is_empty() {
                return Err(Error::EmptyPrompt { index });
            }
            if prompt.len() > n_ctx as usize {
                let n_tokens = prompt.len();
                return Err(Error::ContextTooSmall { index, n_tokens, n_new: 0, n_ctx });
            }
        }
        Ok(())
    }
}

fn shortest(prompts: &[&[i32]]) -> usize {
    prompts.iter().map(|p| p.len()).min().unwrap_or(0)
}
