//! AIRD: `W + alpha r r^T W` on the matrices through which a block writes into the residual stream,
//! r the refusal direction of the original model (arXiv 2504.04215).

mod adapter;
mod edit;
mod error;
mod half;
mod live;
pub mod search;

pub use adapter::adapter;
pub use edit::{Edit, Edited, Storage, apply, check, edit, replacement};
pub use error::{Error, Result};
pub use half::{Half, halves_text, parse_halves};
pub use live::Live;
