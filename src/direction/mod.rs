//! The refusal direction: captured as a difference of means, selected by what it does, compared,
//! kept in a file.

mod capture;
mod compare;
mod error;
mod file;
mod find;
mod intervene;
mod score;
mod select;

pub use capture::{Captured, Grid, Shape, capture, difference_of_means};
pub use compare::{Comparison, compare};
pub use error::{Error, Result};
pub use file::{About, CellScores, Direction};
pub use find::{Choice, Found, Kinds, Search, find};
pub use intervene::{ablate, add, cosine, unit};
pub use score::{RefusalTokens, find_refusal_tokens, known_refusal_tokens, refusal_score};
pub use select::{Cell, Judges, Limits, Scores, Selection, select};
