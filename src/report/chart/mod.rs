//! Charts as SVG: a small toolkit, and one file a kind of chart.
//!
//! A chart has no colours of its own but classes, which `chart.css` colours for light and dark.
//! Inside a page the page's style holds them; a chart that is a file brings them along.

mod alphas;
mod blocks;
mod draw;
mod front;
mod heatmap;
mod lines;
mod marks;
mod rates;
mod scale;
mod slopes;
mod values;

pub use alphas::{Strength, alpha_chart};
pub use blocks::{BlockValues, block_chart};
pub use draw::Chart;
pub use front::{Dot, DotKind, front_chart};
pub use heatmap::{Heat, heatmap};
pub use lines::{Series, line_chart};
pub use marks::Tone;
pub use rates::{Bar, BarGroup, rate_chart};
pub use slopes::{Slope, slope_chart};
pub use values::{NamedValue, value_chart};

/// Colours and strokes of every chart.
pub(super) const STYLE: &str = include_str!("chart.css");
