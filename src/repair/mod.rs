//! AIRD: `W + alpha r r^T W` on the matrices through which a block writes into the residual stream,
//! r the refusal direction of the original model (arXiv 2504.04215).

mod adapter;
mod arrival;
mod edit;
mod error;
mod half;
mod live;
mod norms;
mod proof;
mod scale;
pub mod search;

pub use adapter::{Adapted, adapted, adapter, biases};
pub use edit::{Asked, Edit, Edited, Storage, apply, check, check_asked, edit, replacement};
pub use error::{Error, Result};
pub use half::{Half, halves_text, parse_halves};
pub use live::Live;
pub use norms::{Arrived, arrivals};
pub use proof::Proof;

pub use crate::quant::Zeros;
