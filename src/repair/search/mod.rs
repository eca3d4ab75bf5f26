//! Which blocks to edit and how strongly: tried at run time on held-out prompts, nothing written.
//!
//! First the alignment of each half of a block with refusal (`rank`), then how answers begin
//! under many candidates (`trials`, `screen`), then whole answers under the best few
//! (`finalists`, `answers`), from which the front and the pick are computed (`front`).

mod answers;
mod finalists;
mod front;
mod opening;
mod rank;
mod screen;
mod settings;
mod trials;

pub use answers::{Counts, Questions};
pub use front::{Answered, Budget, as_original};
pub use rank::Ranked;
pub use screen::{Candidate, Screened};
pub use settings::Search;

use answers::AnswerCounter;
use finalists::Bounds;
use front::{mark_front, pick};
use opening::Openings;
use rank::rank;
use screen::Screen;
use trials::Trials;

use super::error::Result;
use super::live::Live;
use crate::gguf::{Model, Watch};
use crate::llama::{Engine, Prefill};

/// Candidates whose whole answers are read.
const N_ANSWERED: usize = 8;

/// The result of a search.
#[derive(Debug, Clone, PartialEq)]
pub struct Searched {
    /// Every half that can be edited.
    pub ranked: Vec<Ranked>,
    /// The unrepaired model's own answers.
    pub before: Counts,
    /// Candidates by their first tokens, in the order they were tried.
    pub screened: Vec<Screened>,
    /// Candidates whose answers were read.
    pub answered: Vec<Answered>,
    /// Index of the pick in `answered`; None: nothing helps within the budget.
    pub pick: Option<usize>,
}

/// Searches for the best edit of `model`; `engine` is the same model, loaded.
///
/// # Errors
/// A failing decode, no memory, a norm that is missing, an interrupt.
pub fn search(
    model: &Model,
    engine: &Engine,
    search: &Search,
    watch: &dyn Watch,
) -> Result<Searched> {
    let structure = engine.structure()?;
    structure.check_stream()?;
    let live = Live::new(model, structure, &search.unit)?;
    let questions = &search.questions;
    let asked = questions.harmful.iter().chain(&questions.benign);
    let longest = asked.map(Vec::len).max().unwrap_or(1);
    let counter = AnswerCounter { engine, live: &live, questions };
    watch.part("reading answers", 0, 1);
    let before = match search.before {
        Some(before) => before,
        None => counter.count(None)?,
    };
    if before.refused >= search.enough.unwrap_or(before.n_harmful) {
        let (ranked, screened, answered) = (Vec::new(), Vec::new(), Vec::new());
        return Ok(Searched { ranked, before, screened, answered, pick: None });
    }
    watch.part("ranking blocks", 0, 1);
    let mut prefill = Prefill::new(engine, longest, questions.parallel)?;
    let (harmful, benign) = (slices(&questions.harmful), slices(&questions.benign));
    let halves = live.halves();
    let ranked = rank(&mut prefill, structure, &halves, &search.unit, &harmful, &benign)?;
    let screen = Screen::new(&mut prefill, &live, (harmful, benign), Openings::new(engine))?;
    let mut trials = Trials::new(search, &screen, &mut prefill, watch);
    trials.run(&ranked)?;
    let mut answered = read_answers(search, &counter, &mut trials, &before)?;
    mark_front(&mut answered);
    let pick = pick(&answered, &before, search.enough);
    Ok(Searched { ranked, before, screened: trials.screened, answered, pick })
}

/// Reads whole answers, of one candidate after another, until enough were read.
fn read_answers(
    search: &Search,
    counter: &AnswerCounter<'_>,
    trials: &mut Trials<'_, '_>,
    before: &Counts,
) -> Result<Vec<Answered>> {
    let finalists = trials.finalists();
    let mut answered: Vec<Answered> = Vec::new();
    while answered.len() < N_ANSWERED {
        let bounds = Bounds { budget: &search.budget, before, enough: search.enough };
        let Some(candidate) =
            finalists::next(&finalists, &answered, bounds, search.alpha.is_some())
        else {
            break;
        };
        let kl_nats = trials.try_on_all_prompts(&candidate)?.kl_nats;
        trials.watch.part("reading answers", answered.len(), N_ANSWERED);
        let counts = counter.count(Some(&candidate))?;
        let within_budget = search.budget.allows(&counts, kl_nats, before);
        answered.push(Answered { candidate, counts, kl_nats, within_budget, on_front: false });
    }
    Ok(answered)
}

fn slices(prompts: &[Vec<i32>]) -> Vec<&[i32]> {
    prompts.iter().map(Vec::as_slice).collect()
}
