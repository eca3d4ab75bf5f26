//! Charts as SVG: a small toolkit, and one file for each kind of chart.
//!
//! A chart holds classes instead of colours; `chart.css` defines them for light and dark. A page's
//! style includes `chart.css`; a chart that is a file includes it itself.

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

pub(super) use alphas::{Strength, alpha_chart};
pub(super) use blocks::{BlockValues, block_chart};
pub use draw::Chart;
pub(super) use front::{Dot, DotKind, front_chart};
pub use heatmap::{Heat, heatmap};
pub(super) use lines::{Series, line_chart};
pub(super) use marks::Tone;
pub(super) use rates::{Bar, BarGroup, rate_chart};
pub(super) use slopes::{End, Slope, slope_chart};
pub(super) use values::{NamedValue, value_chart};

/// Colours and strokes of every chart.
pub(super) const STYLE: &str = include_str!("chart.css");
