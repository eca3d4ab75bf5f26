//! How fast a model reads prompts and writes answers here, measured on a few batches.

use std::time::{Duration, Instant};

use super::engine::Engine;
use super::error::Result;
use super::hooks::Hooks;
use super::sampler::argmax;
use super::session::{Input, Session, Size, prompt_inputs};

/// Tokens of a prompt that are read: the second number only where the first go fast.
const READ_TOKENS: [usize; 2] = [32, 128];
const FAST: Duration = Duration::from_millis(300);
/// Steps of answers that are timed, until so much time is over.
const STEPS: u32 = 16;
const STEPS_TIME: Duration = Duration::from_millis(700);
/// Tokens of context and of a batch, at the least.
const N_CTX: u32 = 256;
const N_BATCH: u32 = 512;

/// How long a model's work takes, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// A token of a prompt, read with many others.
    pub read_token: f64,
    /// A step in which every answer under way gains a token.
    pub step: f64,
}

impl Pace {
    /// Measures `engine`, with `parallel` answers under way and under `hooks`. `tokens` are what is
    /// read: any text, of one token at least.
    ///
    /// # Errors
    /// No memory, llama.cpp cannot run the graph, logits that are not numbers, an interrupt.
    pub fn measure(
        engine: &Engine,
        parallel: u32,
        tokens: &[i32],
        hooks: &mut Hooks<'_>,
    ) -> Result<Pace> {
        let parallel = parallel.max(1);
        let n_batch = N_BATCH.max(parallel);
        let size = Size { n_ctx: N_CTX, n_batch, n_seq: parallel + 1, unified: false };
        let mut session = Session::new(engine, size)?;
        // The first decode brings the weights into this process.
        session.decode(&prompt_inputs(&tokens[..tokens.len().min(1)], parallel, 0), Some(hooks))?;
        let (mut read_token, mut position) = (0.0, 1);
        for n in READ_TOKENS {
            let text: Vec<i32> = tokens.iter().copied().cycle().take(n).collect();
            let begun = Instant::now();
            session.decode(&prompt_inputs(&text, parallel, position), Some(hooks))?;
            let took = begun.elapsed();
            read_token = took.as_secs_f64() / n.max(1) as f64;
            position += n as u32;
            if took > FAST {
                break;
            }
        }
        let begun = Instant::now();
        let mut n_steps = 0;
        while n_steps < STEPS && (n_steps == 0 || begun.elapsed() < STEPS_TIME) {
            let token = |sequence: u32| tokens[(sequence + n_steps) as usize % tokens.len()];
            let input = |sequence: u32| Input {
                token: token(sequence),
                position: n_steps,
                sequence,
                logits: true,
            };
            let inputs: Vec<Input> = (0..parallel).map(input).collect();
            session.decode(&inputs, Some(hooks))?;
            for row in 0..inputs.len() {
                std::hint::black_box(argmax(session.logits(row)?));
            }
            n_steps += 1;
        }
        Ok(Pace { read_token, step: begun.elapsed().as_secs_f64() / f64::from(n_steps.max(1)) })
    }
}
