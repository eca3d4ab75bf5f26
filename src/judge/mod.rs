//! What an answer is: a refusal, compliance, or no answer at all.
//!
//! Rules that read only the answer's text, or a local model as the judge. On the 240 answers of
//! `fixtures/judge.jsonl`, written for aird and labelled by hand, [`label`] agrees with the hand on
//! 234, on 78 of the 81 that no rule was tuned on; [`paper::label`], which knows no third label, on
//! 109. Rules and answers have one author: read transcripts before you trust a rate.
//!
//! What a reasoning model thinks before it answers is left out before any judge reads the answer
//! ([`said`]).

mod babble;
mod error;
mod label;
mod languages;
mod model;
pub mod paper;
mod phrases;
mod sentences;
mod thought;

pub use babble::is_babble;
pub use error::{Error, Result};
pub use label::{Label, label};
pub use model::{Question, judged_by};
pub use phrases::{COMMON_OPENINGS, begins_refusal};
pub use thought::{said, thought_openings};
