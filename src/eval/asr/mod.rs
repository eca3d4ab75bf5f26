//! Attack success and over-refusal: prompts are put to a model in published ways, the answers are
//! kept as they come, and any judge can label them afterwards.

mod agreement;
mod attack;
mod gate;
mod outcome;
mod transcript;

pub use agreement::{Agreement, agreement};
pub use attack::{Attack, Headline, Interventions, Way};
pub use gate::{Comparison, Gate, Measure};
pub use outcome::{Difference, Judged, Outcome, Shares, Verdicts, difference, outcome};
pub use transcript::{Answer, Asking, Subject, answers, answers_key, file_sha256, tokens};
