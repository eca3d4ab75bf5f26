//! Results as people look at them: pictures in SVG.

mod heatmap;

pub use heatmap::heatmap;
