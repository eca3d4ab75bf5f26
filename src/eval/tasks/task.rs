//! The definition of a benchmark: its name, its files, and how a row of them is put to a model.

use super::super::error::Result;
use super::item::Item;
use super::row::Row;

/// A benchmark.
pub trait Task: Sync {
    /// Its name in lm-evaluation-harness.
    fn name(&self) -> &'static str;

    /// The version that the harness gives its form.
    fn version(&self) -> f64;

    /// Files that hold it, below the data folder; the first that is there is read.
    fn files(&self) -> &'static [&'static str];

    /// Where the set is published.
    fn source(&self) -> &'static str;

    /// Whether `acc_norm` is one of its figures.
    fn has_norm(&self) -> bool {
        false
    }

    /// Whether llama.cpp's figure, likelihood a token, is one.
    fn has_per_token(&self) -> bool {
        false
    }

    /// A row as it is put to a model.
    ///
    /// # Errors
    /// A field is missing or malformed; the message names it and its line.
    fn item(&self, row: &Row<'_>) -> Result<Item>;
}
