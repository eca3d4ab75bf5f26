//! Results for people: charts in SVG, a study's page and its model card; and results for other
//! programs.

mod bases;
mod card;
mod chart;
mod error;
mod figures;
pub mod lm_eval;
mod page;
pub mod results;
mod run;
mod run_files;
pub mod search;
mod search_chart;
mod stage;
mod study;
mod text;
pub mod transcripts;
mod verdict;

pub use bases::{Bases, read_bases, write_bases, write_overview};
pub use card::card;
pub use chart::{Chart, Heat, heatmap};
pub use error::{Error, Result};
pub use page::{overview, page};
pub use run::{read_results, write};
pub use run_files::{BASES, CARD, PAGE, RECIPE, RESULTS, TRANSCRIPTS};
pub(crate) use stage::repair_title;
