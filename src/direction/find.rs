//! All steps from prompts to a direction: read, filter, average, select.

use super::capture::{Captured, Grid, Shape, capture, difference_of_means};
use super::error::{Error, Result};
use super::score::{RefusalTokens, find_refusal_tokens, known_refusal_tokens};
use super::select::{Cell, Judges, Limits, Selection, select};
use crate::gguf::Watch;
use crate::llama::graph::Structure;
use crate::llama::{Engine, Prefill};

/// Prompts of each kind that the means need.
const MIN_TRAIN: usize = 16;
/// Prompts of each kind that the selection needs.
const MIN_HELD_OUT: usize = 4;

/// Harmful and harmless prompts, as tokens of the rendered text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Kinds {
    /// Those that an aligned model refuses.
    pub harmful: Vec<Vec<i32>>,
    /// Those that it answers.
    pub harmless: Vec<Vec<i32>>,
}

/// What to look for, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    /// Prompts for the means.
    pub train: Kinds,
    /// Prompts for the selection.
    pub held_out: Kinds,
    /// Tokens that the template puts after the user's text: the positions to search.
    pub n_pos: usize,
    /// Prompts read at once.
    pub parallel: u32,
    /// How the direction is chosen from the candidates.
    pub choice: Choice,
}

/// How one candidate is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Choice {
    /// By what each does.
    Select(Limits),
    /// This cell, without an evaluation.
    Given(Cell),
    /// None: means over all prompts, unfiltered.
    CaptureOnly,
}

/// The result of a search for a direction.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Differences of means at every layer and position.
    pub candidates: Grid<f32>,
    /// First tokens of refusals; none where only the means were asked for.
    pub refusal_tokens: Option<RefusalTokens>,
    /// Prompts that the means were taken over: harmful, harmless.
    pub n_kept: (usize, usize),
    /// The selection, where one was made.
    pub selection: Option<Selection>,
    /// Tokens decoded in total.
    pub n_tokens: u64,
}

/// Finds a direction in `engine`'s model.
///
/// # Errors
/// The model hardly refuses, too few prompts are left, no candidate passes, no memory.
pub fn find(engine: &Engine, search: &Search, watch: &dyn Watch) -> Result<Found> {
    let kinds = [&search.train, &search.held_out];
    let all = || kinds.into_iter().flat_map(|k| k.harmful.iter().chain(&k.harmless));
    let longest = all().map(Vec::len).max().unwrap_or(1);
    let refusal_tokens = match search.choice {
        Choice::CaptureOnly => None,
        _ => Some(match known_refusal_tokens(engine) {
            Some(tokens) => tokens,
            None => {
                watch.part("how it refuses", 0, 1);
                find_refusal_tokens(engine, &search.held_out.harmful, search.parallel)?
            }
        }),
    };
    let mut prefill = Prefill::new(engine, longest, search.parallel)?;
    let tokens = refusal_tokens.as_ref().map_or(&[][..], |t| &t.tokens);
    let structure = engine.structure()?;
    let inputs = structure.inputs(engine.n_block());
    let shape = Shape {
        inputs: &inputs,
        n_pos: search.n_pos,
        n_embd: engine.n_embd(),
        refusal_tokens: tokens,
    };
    if let Choice::Given(cell) = search.choice {
        check_cell(cell, shape)?;
    }
    let filter = search.choice != Choice::CaptureOnly;
    watch.part("reading prompts", 0, 4);
    let (harmful, harmless) = read(&mut prefill, &search.train, shape, filter)?;
    let of = &search.train;
    if filter {
        check_left((harmful.kept, harmless.kept), of, MIN_TRAIN, " in the training part")?;
    }
    let candidates = difference_of_means(&harmful, &harmless);
    let selection = match search.choice {
        Choice::CaptureOnly | Choice::Given(_) => None,
        Choice::Select(limits) => {
            watch.part("reading prompts", 2, 4);
            let judges = judges(&mut prefill, structure, &search.held_out, shape)?;
            Some(select(&mut prefill, &candidates, &judges, limits, watch)?)
        }
    };
    let n_kept = (harmful.kept, harmless.kept);
    let n_tokens = prefill.n_tokens();
    Ok(Found { candidates, refusal_tokens, n_kept, selection, n_tokens })
}

/// Reads both kinds; if `filter`, keeps only prompts on their own side of score 0.
fn read(
    prefill: &mut Prefill<'_>,
    kinds: &Kinds,
    shape: Shape<'_>,
    filter: bool,
) -> Result<(Captured, Captured)> {
    let harmful = capture(prefill, &slices(&kinds.harmful), shape, |s| !filter || s > 0.0)?;
    let harmless = capture(prefill, &slices(&kinds.harmless), shape, |s| !filter || s < 0.0)?;
    Ok((harmful, harmless))
}

/// The held-out prompts on their own side of score 0.
fn judges<'a>(
    prefill: &mut Prefill<'_>,
    structure: &'a Structure,
    kinds: &'a Kinds,
    shape: Shape<'a>,
) -> Result<Judges<'a>> {
    let (harmful, harmless) = read(prefill, kinds, shape, true)?;
    let left = (harmful.kept, harmless.kept);
    check_left(left, kinds, MIN_HELD_OUT, " in the held-out part")?;
    let keep = |prompts: &'a [Vec<i32>], scores: &[f64], sign: f64| -> Vec<&'a [i32]> {
        let kept = prompts.iter().zip(scores).filter(|(_, s)| **s * sign > 0.0);
        kept.map(|(p, _)| p.as_slice()).collect()
    };
    let mut harmful = keep(&kinds.harmful, &harmful.scores, 1.0);
    let mut harmless = keep(&kinds.harmless, &harmless.scores, -1.0);
    let n = harmful.len().min(harmless.len());
    harmful.truncate(n);
    harmless.truncate(n);
    Ok(Judges { harmful, harmless, refusal_tokens: shape.refusal_tokens, structure })
}

fn check_left(left: (usize, usize), of: &Kinds, needed: usize, part: &'static str) -> Result<()> {
    let (harmful, harmless) = left;
    if harmful >= needed && harmless >= needed {
        return Ok(());
    }
    let (of_harmful, of_harmless) = (of.harmful.len(), of.harmless.len());
    Err(Error::TooFewLeft { harmful, of_harmful, harmless, of_harmless, needed, part })
}

fn check_cell(cell: Cell, shape: Shape<'_>) -> Result<()> {
    if cell.layer < shape.inputs.len() && cell.behind < shape.n_pos {
        return Ok(());
    }
    let (layer, position) = (cell.layer as u32, -1 - cell.behind as i32);
    let (last, n) = (shape.inputs.len() as u32 - 1, shape.n_pos);
    Err(Error::NoSuchCell { layer, position, last, n })
}

fn slices(prompts: &[Vec<i32>]) -> Vec<&[i32]> {
    prompts.iter().map(Vec::as_slice).collect()
}
