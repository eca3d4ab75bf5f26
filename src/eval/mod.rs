//! Measures what a model does: with intervals, resumable, the same bytes for the same settings.

pub mod asr;
pub mod audit;
mod error;
pub mod interval;
pub mod segments;
pub mod tasks;
pub mod text;

pub use error::{Error, Result};
