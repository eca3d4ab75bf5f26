//! Did compression break a model? How far its refusal scores moved, how far its predictions drifted
//! from its original's, and what follows from the answers of both.

mod drift;
mod margin;
mod verdict;

pub use drift::{Drift, drift};
pub use margin::{KindScores, Scores, Shift, scores, shift};
pub use verdict::{Changed, Counted, Evidence, Falsely, Judgement, Original, Verdict, judge};
