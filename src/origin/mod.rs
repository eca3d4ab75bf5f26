//! Whether a quantized tensor was rounded from its original's.
//!
//! The original's rows are written again in the tensor's own type. Equal bytes prove it. Where the
//! bytes differ, as with an importance matrix that is not at hand, the tensor is compared with
//! what an encoder must do whatever the weights are: every value stands at the nearest level of
//! its block, the error is as large as the type's, and it has no direction of its own. How far
//! each of these goes in honest files was measured: see [`Bounds`].

mod bounds;
mod float;
mod measure;
mod recode;
mod spectrum;
mod verdict;

pub use bounds::Bounds;
pub use measure::{Figures, Measured, Rest, measure};
pub use recode::{Importance, Recoding, Subject, Via};
pub use verdict::{Finding, Reason, find};
