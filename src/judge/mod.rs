//! What an answer is: a refusal, compliance, or no answer at all.

mod label;
mod phrases;

pub use label::{Label, label};
pub use phrases::begins_refusal;
