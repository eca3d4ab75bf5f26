//! Multiple-choice benchmarks: a context, continuations, and the one that a model finds likeliest.
//!
//! Prompts have the forms of EleutherAI's lm-evaluation-harness, zero-shot. Figures can be compared
//! with published ones, with two differences: a model that wants a BOS gets it, which the harness
//! leaves out unless `add_bos_token=True` is set, and HellaSwag in llama-perplexity's form begins
//! endings in lower case, where the harness has "He". One file per task; the data is the sets' own,
//! from a folder.

mod arc;
mod boolq;
mod data;
mod hellaswag;
mod item;
mod row;
mod rte;
mod score;
mod tally;
mod task;
mod winogrande;

pub use self::data::{TaskData, load};
pub use self::item::{Item, Pair};
pub use self::score::{Run, Scored, evaluate, settings, texts};
pub use self::tally::{Difference, Metric, Tally, difference, tally};
pub use self::task::Task;
use super::error::{Error, Result};

/// Every task, in the order in which they are shown.
pub const TASKS: [&dyn Task; 6] = [
    &rte::Rte,
    &arc::CHALLENGE,
    &arc::EASY,
    &boolq::BoolQ,
    &winogrande::Winogrande,
    &hellaswag::HellaSwag,
];

/// The task called `name`.
///
/// # Errors
/// There is no such task; the error lists all names.
pub fn task(name: &str) -> Result<&'static dyn Task> {
    let found = TASKS.into_iter().find(|task| task.name() == name);
    found.ok_or_else(|| Error::NoSuchTask {
        name: name.into(),
        expected: TASKS.iter().map(|task| task.name()).collect(),
    })
}
