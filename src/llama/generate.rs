//! Continuous batching: many answers at once, finished ones make room for waiting ones.
//!
//! What all prompts begin with is decoded once and shared; each step decodes one token for every
//! answer under way and fills the rest of the batch with waiting prompts, in order. The same
//! prompts and settings make the same batches, and so the same answers.

use super::engine::Engine;
use super::error::{Error, Result};
use super::hooks::Hooks;
use super::sampler::{Sampler, Sampling};
use super::session::{Input, Session, Size, prompt_inputs};

/// Tokens decoded at once while prompts are read.
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

/// What a generation says while it runs.
pub trait Listener {
    /// A token of prompt `index`'s answer, end-of-answer tokens left out.
    fn token(&mut self, _index: usize, _token: i32) {}
    /// Prompt `index` has its whole answer.
    fn answered(&mut self, _index: usize) {}
}

/// Hears nothing.
pub struct Deaf;

impl Listener for Deaf {}

/// An answer under way in a slot.
struct Slot {
    index: usize,
    position: u32,
    last: i32,
    sampler: Sampler,
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
    let mut answers = vec![Vec::new(); prompts.len()];
    if prompts.is_empty() || settings.max_tokens == 0 {
        return Ok(answers);
    }
    let size = size_for(engine, prompts, settings)?;
    let shared = common_prefix(prompts);
    let mut session = Session::new(engine, size)?;
    decode_prefix(&mut session, &prompts[0][..shared], hooks)?;
    let mut slots: Vec<Option<Slot>> = (0..size.n_seq - 1).map(|_| None).collect();
    let mut waiting = prompts.iter().enumerate().peekable();
    while waiting.peek().is_some() || slots.iter().any(Option::is_some) {
        let mut inputs = next_tokens(&slots);
        for (sequence, slot) in (0u32..).zip(&mut slots).filter(|(_, slot)| slot.is_none()) {
            let room = size.n_batch as usize - inputs.len();
            let fits = |(_, prompt): &(usize, &Vec<i32>)| prompt.len() - shared <= room;
            let Some((index, prompt)) = waiting.next_if(fits) else { break };
            session.forget(sequence, 0);
            session.share(keeper(size), sequence);
            inputs.extend(prompt_inputs(&prompt[shared..], sequence, shared as u32));
            let sampler = Sampler::new(settings.sampling, index as u64);
            *slot = Some(Slot { index, position: prompt.len() as u32 - 1, last: 0, sampler });
        }
        session.decode(&inputs, Some(hooks))?;
        for (row, input) in inputs.iter().enumerate().filter(|(_, input)| input.logits) {
            let place = &mut slots[input.sequence as usize];
            let Some(slot) = place else { continue };
            let token = slot.advance(session.logits(row));
            let (index, answer) = (slot.index, &mut answers[slot.index]);
            let ended = engine.ends_answer(token);
            if !ended {
                answer.push(token);
                listener.token(index, token);
            }
            if ended || answer.len() == settings.max_tokens {
                listener.answered(index);
                *place = None;
            }
        }
    }
    Ok(answers)
}

impl Slot {
    /// Chooses the token that follows.
    fn advance(&mut self, logits: &[f32]) -> i32 {
        self.last = self.sampler.next(logits);
        self.position += 1;
        self.last
    }
}

/// The sequence that keeps what all prompts begin with.
fn keeper(size: Size) -> u32 {
    size.n_seq - 1
}

fn decode_prefix(session: &mut Session<'_>, prefix: &[i32], hooks: &mut Hooks<'_>) -> Result<()> {
    let size = session.size();
    let mut inputs = prompt_inputs(prefix, keeper(size), 0);
    inputs.iter_mut().for_each(|input| input.logits = false);
    for chunk in inputs.chunks(size.n_batch as usize) {
        session.decode(chunk, Some(hooks))?;
    }
    Ok(())
}

/// The latest token of every answer under way.
fn next_tokens(slots: &[Option<Slot>]) -> Vec<Input> {
    let input = |(sequence, slot): (u32, &Option<Slot>)| {
        let slot = slot.as_ref()?;
        Some(Input { token: slot.last, position: slot.position, sequence, logits: true })
    };
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
        if n_tokens + n_new > n_ctx as usize {
            return Err(Error::ContextTooSmall { index, n_tokens, n_new, n_ctx });
        }
        longest = longest.max(n_tokens);
    }
    let parallel = settings.parallel.clamp(1, prompts.len() as u32);
    let n_ctx = (longest + settings.max_tokens) as u32;
    Ok(Size {
        n_ctx: n_ctx.next_multiple_of(256),
        n_batch: N_BATCH.max(longest as u32),
        n_seq: parallel + 1,
        unified: false,
    })
}

/// Tokens that all prompts begin with; each keeps one of its own, for its logits.
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
