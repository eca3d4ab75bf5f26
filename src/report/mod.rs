//! Results as people look at them: pictures in SVG; and as other programs read them.

mod front;
mod heatmap;
pub mod lm_eval;
pub mod results;
pub mod search;
pub mod transcripts;

pub use front::{Dot, front_chart};
pub use heatmap::heatmap;
