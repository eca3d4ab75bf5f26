//! Continuous batching: many answers at once, finished ones make room for waiting ones.
//!
//! What all prompts begin with is decoded once and shared; each step decodes one token for every
//! answer under way and fills the rest of the batch with waiting prompts, in order. Equal prompts
//! in a row, samples of one, are decoded once and copied. The same prompts and settings make the
//! same batches, and so the same answers.

use super::engine::Engine;
use super::error::{Error, Result};
use super::hooks::Hooks;
use super::sampler::{Sampler, Sampling};
use super::session::{Input, Session, Size, prompt_inputs};
use crate::gguf::Watch;

/// Tokens per decode while prompts are read.
const N_BATCH: u32 = 512;

/// How answers are made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Generation {
    /// Tokens at most; an end-of-answer token ends it sooner.
    pub max_tokens: usize,
    /// Answers under way at once.
    pub parallel: u32,
    /// How tokens are chosen.
    pub sampling: Sampling,
}

/// Receives the progress of a generation.
pub trait Listener {
    /// A token of prompt `index`'s answer, end-of-answer tokens left out.
    fn token(&mut self, _index: usize, _token: i32) {}
    /// Prompt `index` has its whole answer.
    fn answered(&mut self, _index: usize) {}
    /// A batch of so many tokens was decoded.
    fn decoded(&mut self, _n_tokens: usize) {}
}

/// A listener that ignores all progress.
pub struct NoListener;

impl Listener for NoListener {}

/// Reports to a watch how many answers are complete.
pub struct AnswerCount<'a> {
    watch: &'a dyn Watch,
    what: &'a str,
    done: usize,
    of: usize,
}

impl<'a> AnswerCount<'a> {
    /// `of` answers are expected, `done` of them exist already; `what` is the stage's name.
    pub fn new(watch: &'a dyn Watch, what: &'a str, done: usize, of: usize) -> AnswerCount<'a> {
        watch.part(what, done, of);
        AnswerCount { watch, what, done, of }
    }
}

impl Listener for AnswerCount<'_> {
    fn answered(&mut self, _: usize) {
        self.done += 1;
        self.watch.part(self.what, self.done, self.of);
    }
}

/// An answer under way in a slot.
struct Slot {
    index: usize,
    position: u32,
    last: i32,
    sampler: Sampler,
}

impl Slot {
    /// Chooses the token that follows.
    fn advance(&mut self, logits: &[f32]) -> i32 {
        self.last = self.sampler.next(logits);
        self.position += 1;
        self.last
    }

    /// Its latest token, to be decoded.
    fn input(&self, sequence: u32) -> Input {
        Input { token: self.last, position: self.position, sequence, logits: true }
    }
}

/// The tokens of an answer to each of `prompts`, in their order, end-of-answer tokens left out.
///
/// # Errors
/// A prompt is empty, or too long for the model; no memory; a hook failed; an interrupt.
pub fn generate(
    engine: &Engine,
    prompts: &[Vec<i32>],
    settings: Generation,
    hooks: &mut Hooks<'_>,
    listener: &mut dyn Listener,
) -> Result<Vec<Vec<i32>>> {
    let streams: Vec<u64> = (0..prompts.len() as u64).collect();
    generate_streams(engine, (prompts, &streams), settings, hooks, listener)
}

/// As [`generate`], where prompt `i` draws from random stream `streams[i]`, so that its draws do
/// not depend on its place. Equal prompts in a row are decoded once.
///
/// # Errors
/// See [`generate`].
///
/// # Panics
/// There are fewer streams than prompts.
pub fn generate_streams(
    engine: &Engine,
    (prompts, streams): (&[Vec<i32>], &[u64]),
    settings: Generation,
    hooks: &mut Hooks<'_>,
    listener: &mut dyn Listener,
) -> Result<Vec<Vec<i32>>> {
    if prompts.is_empty() || settings.max_tokens == 0 {
        return Ok(vec![Vec::new(); prompts.len()]);
    }
    let size = size_for(engine, prompts, settings)?;
    let parallel = settings.parallel.clamp(1, prompts.len() as u32);
    let mut run = GenerationRun {
        engine,
        prompts,
        streams,
        settings,
        session: Session::new(engine, size)?,
        shared: common_prefix(prompts),
        slots: (0..parallel).map(|_| None).collect(),
        next: 0,
        leader: None,
        held: None,
        answers: vec![Vec::new(); prompts.len()],
    };
    run.decode_prefix(hooks, listener)?;
    while run.next < prompts.len() || run.slots.iter().any(Option::is_some) {
        let inputs = run.fill(listener);
        // Copies may have ended with the token that they began with.
        if !inputs.is_empty() {
            run.step(&inputs, hooks, listener)?;
        }
    }
    Ok(run.answers)
}

/// A generation under way.
struct GenerationRun<'e, 'p> {
    engine: &'e Engine,
    prompts: &'p [Vec<i32>],
    streams: &'p [u64],
    settings: Generation,
    session: Session<'e>,
    /// Tokens that all prompts begin with.
    shared: usize,
    slots: Vec<Option<Slot>>,
    /// The first prompt that waits.
    next: usize,
    /// The sequence whose prompt, read by the batch under way, is to be kept for its equals.
    leader: Option<u32>,
    /// A prompt whose equals wait, with the logits after it.
    held: Option<(usize, Vec<f32>)>,
    answers: Vec<Vec<i32>>,
}

impl GenerationRun<'_, '_> {
    /// The sequence that keeps what all prompts begin with.
    fn keeper(&self) -> u32 {
        self.slots.len() as u32
    }

    /// The sequence that keeps the prompt that is held.
    fn holder(&self) -> u32 {
        self.keeper() + 1
    }

    fn decode_prefix(&mut self, hooks: &mut Hooks<'_>, listener: &mut dyn Listener) -> Result<()> {
        let mut inputs = prompt_inputs(&self.prompts[0][..self.shared], self.keeper(), 0);
        inputs.iter_mut().for_each(|input| input.logits = false);
        for chunk in inputs.chunks(self.session.size().n_batch as usize) {
            self.session.decode(chunk, Some(hooks))?;
            listener.decoded(chunk.len());
        }
        Ok(())
    }

    /// The next batch: one token of every answer in progress, then waiting prompts, in order, while
    /// there are free slots and room in the batch.
    fn fill(&mut self, listener: &mut dyn Listener) -> Vec<Input> {
        let mut inputs = next_tokens(&self.slots);
        for sequence in 0..self.keeper() {
            if self.slots[sequence as usize].is_some() {
                continue;
            }
            while self.slots[sequence as usize].is_none() && self.next_is_held() {
                self.begin_copy(sequence, listener);
            }
            if let Some(slot) = &self.slots[sequence as usize] {
                inputs.push(slot.input(sequence));
                continue;
            }
            let room = self.session.size().n_batch as usize - inputs.len();
            let fits = |prompt: &Vec<i32>| prompt.len() - self.shared <= room;
            let Some(prompt) = self.prompts.get(self.next).filter(|p| fits(p)) else { break };
            self.session.forget(sequence, 0);
            self.session.share(self.keeper(), sequence);
            inputs.extend(prompt_inputs(&prompt[self.shared..], sequence, self.shared as u32));
            self.begin(sequence);
            // Equal prompts wait until this one is read.
            if self.prompts.get(self.next) == Some(prompt) {
                self.leader = Some(sequence);
                break;
            }
        }
        inputs
    }

    /// Gives the next prompt the slot of `sequence`.
    fn begin(&mut self, sequence: u32) {
        let (index, prompt) = (self.next, &self.prompts[self.next]);
        let sampler = Sampler::new(self.settings.sampling, self.streams[index]);
        let position = prompt.len() as u32 - 1;
        self.slots[sequence as usize] = Some(Slot { index, position, last: 0, sampler });
        self.next += 1;
    }

    /// True if the next prompt is the one that is held.
    fn next_is_held(&self) -> bool {
        let Some((held, _)) = &self.held else { return false };
        self.prompts.get(self.next) == Some(&self.prompts[*held])
    }

    /// Begins the answer to a prompt that is read already.
    fn begin_copy(&mut self, sequence: u32, listener: &mut dyn Listener) {
        self.session.forget(sequence, 0);
        self.session.share(self.holder(), sequence);
        self.begin(sequence);
        let (Some((_, logits)), Some(slot)) = (&self.held, &mut self.slots[sequence as usize])
        else {
            return;
        };
        let token = slot.advance(logits);
        self.add_token(sequence, token, listener);
    }

    /// Decodes a batch and takes a token of every answer whose logits it asked for.
    fn step(
        &mut self,
        inputs: &[Input],
        hooks: &mut Hooks<'_>,
        listener: &mut dyn Listener,
    ) -> Result<()> {
        self.session.decode(inputs, Some(hooks))?;
        listener.decoded(inputs.len());
        for (row, input) in inputs.iter().enumerate().filter(|(_, input)| input.logits) {
            let Some(slot) = &mut self.slots[input.sequence as usize] else { continue };
            let logits = self.session.logits(row)?;
            let token = slot.advance(logits);
            if self.leader == Some(input.sequence) {
                self.held = Some((slot.index, logits.to_vec()));
                let holder = self.holder();
                self.session.forget(holder, 0);
                self.session.share(input.sequence, holder);
                self.leader = None;
            }
            self.add_token(input.sequence, token, listener);
        }
        Ok(())
    }

    /// Adds a token to the answer in a slot; the slot is free once the answer is whole.
    fn add_token(&mut self, sequence: u32, token: i32, listener: &mut dyn Listener) {
        let place = &mut self.slots[sequence as usize];
        let Some(index) = place.as_ref().map(|slot| slot.index) else { return };
        let ended = self.engine.ends_answer(token);
        if !ended {
            self.answers[index].push(token);
            listener.token(index, token);
        }
        if ended || self.answers[index].len() == self.settings.max_tokens {
            listener.answered(index);
            *place = None;
        }
    }
}

/// The latest token of every answer under way.
fn next_tokens(slots: &[Option<Slot>]) -> Vec<Input> {
    let input = |(sequence, slot): (u32, &Option<Slot>)| Some(slot.as_ref()?.input(sequence));
    (0u32..).zip(slots).filter_map(input).collect()
}

/// Room for the longest prompt and its answer in every sequence, and for it whole in a batch.
fn size_for(engine: &Engine, prompts: &[Vec<i32>], settings: Generation) -> Result<Size> {
    let mut longest = 0;
    for (index, prompt) in prompts.iter().enumerate() {
        let (n_tokens, n_new, n_ctx) = (prompt.len(), settings.max_tokens, engine.n_ctx_train());
        if prompt.is_empty() {
            return Err(Error::EmptyPrompt { index });
        }
        if n_tokens.saturating_add(n_new) > n_ctx as usize {
            return Err(Error::ContextTooSmall { index, n_tokens, n_new, n_ctx });
        }
        longest = longest.max(n_tokens);
    }
    let parallel = settings.parallel.clamp(1, prompts.len() as u32);
    let n_ctx = (longest + settings.max_tokens) as u32;
    // One keeps what all begin with, another what equal prompts hold.
    let kept = if prompts.windows(2).any(|two| two[0] == two[1]) { 2 } else { 1 };
    Ok(Size {
        n_ctx: n_ctx.next_multiple_of(256),
        n_batch: N_BATCH.max(longest as u32).max(parallel),
        n_seq: parallel + kept,
        unified: false,
    })
}

/// Tokens that all prompts begin with; each prompt keeps at least one token, for its logits.
pub(super) fn common_prefix<P: AsRef<[i32]>>(prompts: &[P]) -> usize {
    let Some(first) = prompts.first().map(AsRef::as_ref) else { return 0 };
    let shared = |p: &P| first.iter().zip(p.as_ref()).take_while(|(a, b)| a == b).count();
    let shortest = prompts.iter().map(|p| p.as_ref().len()).min().unwrap_or(1);
    prompts.iter().map(shared).min().unwrap_or(0).min(shortest.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_prefix_leaves_every_prompt_a_token() {
        assert_eq!(common_prefix(&[vec![1, 2, 3], vec![1, 2, 4]]), 2);
        assert_eq!(common_prefix(&[vec![1, 2], vec![1, 2, 4]]), 1);
        assert_eq!(common_prefix(&[vec![5]]), 0);
    }
}
