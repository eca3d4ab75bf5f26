//! Results as people look at them: pictures in SVG.

mod front;
mod heatmap;
pub mod transcripts;

pub use front::{Dot, front_chart};
pub use heatmap::heatmap;
