//! A study: a recipe becomes a plan of steps, each one of aird's commands. Finished steps are kept
//! in the run's folder and never run twice; the results go into one `results.json`.
//!
//! Steps run in their own processes: what ends one (a crash, no memory) ends no other, and each is
//! a command that can be typed by hand.

mod bases;
mod child;
mod collect;
mod error;
mod estimate;
mod execute;
mod folder;
mod keys;
mod options;
mod overrides;
mod plan;
mod planned;
mod reading;
mod recipe;
mod repairs;
mod run;
mod sets;
mod step;
mod sums;
mod toml_text;

pub use child::Children;
pub use collect::{collect, sha256_sums};
pub use error::{Error, Result};
pub use estimate::{Estimate, Rates, estimate, measure};
pub use execute::{Execution, Settled, execute};
pub use folder::{Folder, Keep, Record};
pub use keys::{Keys, RunBy, keys};
pub use options::{Kind, OptionInfo, Verbs};
pub use overrides::{Override, override_all};
pub use plan::{Plan, plan};
pub use planned::{PlanReport, PlannedState, PlannedStep};
pub use reading::Places;
pub use recipe::{Recipe, Variant};
pub use repairs::Repair;
pub use run::{Failures, Finished, FinishedStudy, Request, dry_run, run};
pub use step::{Arg, Step};
pub use sums::Sums;
pub use toml_text::toml_text;

/// A recipe with every key explained.
pub const EXAMPLE: &str = include_str!("example.toml");
