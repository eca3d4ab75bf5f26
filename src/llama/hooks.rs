//! Eval hooks: what is read and changed while llama.cpp computes.
//!
//! Within one node changes come before reads: a reader sees what the following nodes will see, so
//! that an intervention can be measured in the decode that it changes. Changes apply to every row,
//! the prefix that prompts share included; reads only to the rows of [`Hooks::set_rows`], since a
//! row that nobody reads need not be copied from the device.

use std::ops::ControlFlow;

use super::error::Result;
use super::linear::LinearInput;
use super::sites::Site;

/// Which sites a hook is for.
type SiteFilter<'a> = Box<dyn Fn(Site) -> bool + 'a>;
/// Receives one row at a site: the row's place in the batch, and its values.
pub(super) type RowReader<'a> = Box<dyn FnMut(Site, usize, &[f32]) -> Result<()> + 'a>;
/// Changes one row at a site.
pub(super) type RowChange<'a> = Box<dyn FnMut(Site, &mut [f32]) + 'a>;

/// Which weights' inputs a hook is for.
type WeightFilter<'a> = Box<dyn Fn(&str) -> bool + 'a>;
/// Reads the input of a linear layer, and returns whether the decode goes on.
pub(super) type InputReader<'a> = Box<dyn FnMut(&LinearInput<'_>) -> Result<ControlFlow<()>> + 'a>;

/// What is read and changed during a decode.
#[derive(Default)]
pub struct Hooks<'a> {
    reads: Vec<(SiteFilter<'a>, RowReader<'a>)>,
    changes: Vec<(SiteFilter<'a>, RowChange<'a>)>,
    inputs: Option<(WeightFilter<'a>, InputReader<'a>)>,
    /// Rows of the batch that are read; all if None.
    rows: Option<Vec<usize>>,
}

impl<'a> Hooks<'a> {
    /// Hooks that read and change nothing.
    pub fn new() -> Hooks<'a> {
        Hooks::default()
    }

    /// Calls `read` with the rows at every site that `at` accepts, after all changes there.
    pub fn read(
        mut self,
        at: impl Fn(Site) -> bool + 'a,
        read: impl FnMut(Site, usize, &[f32]) -> Result<()> + 'a,
    ) -> Hooks<'a> {
        self.reads.push((Box::new(at), Box::new(read)));
        self
    }

    /// Calls `change` with every row at every site that `at` accepts.
    pub fn change(
        mut self,
        at: impl Fn(Site) -> bool + 'a,
        change: impl FnMut(Site, &mut [f32]) + 'a,
    ) -> Hooks<'a> {
        self.changes.push((Box::new(at), Box::new(change)));
        self
    }

    /// Calls `read` with the inputs of the blocks' weights that `of` accepts by name.
    ///
    /// Where `read` breaks, the decode ends: the rest of the graph is not needed, and what it would
    /// have computed, the logits included, is undefined. (On several devices the rest may still be
    /// computed.)
    pub fn inputs(
        mut self,
        of: impl Fn(&str) -> bool + 'a,
        read: impl FnMut(&LinearInput<'_>) -> Result<ControlFlow<()>> + 'a,
    ) -> Hooks<'a> {
        self.inputs = Some((Box::new(of), Box::new(read)));
        self
    }

    /// Reads only these rows of each batch, ascending.
    pub fn set_rows(&mut self, rows: Vec<usize>) {
        self.rows = Some(rows);
    }

    /// True if it is for sites, not only for the inputs of matrices.
    pub(super) fn needs_sites(&self) -> bool {
        !self.reads.is_empty() || !self.changes.is_empty()
    }

    /// True if rows at `site` are read.
    pub(super) fn reads_at(&self, site: Site) -> bool {
        self.reads.iter().any(|(at, _)| at(site))
    }

    /// True if rows at `site` are changed.
    pub(super) fn changes_at(&self, site: Site) -> bool {
        self.changes.iter().any(|(at, _)| at(site))
    }

    /// True if the input of `weight` is read.
    pub(super) fn reads_input_of(&self, weight: &str) -> bool {
        self.inputs.as_ref().is_some_and(|(of, _)| of(weight))
    }

    /// True if every row of a batch is read, not some of them.
    pub(super) fn reads_all_rows(&self) -> bool {
        self.rows.is_none()
    }

    /// True if row `place` of the batch is read.
    pub(super) fn reads_row(&self, place: usize) -> bool {
        self.rows.as_ref().is_none_or(|rows| rows.binary_search(&place).is_ok())
    }

    /// Makes all changes at `site` to `rows`, each `n_cols` long.
    pub(super) fn apply_changes(&mut self, site: Site, rows: &mut [f32], n_cols: usize) {
        for (_, change) in self.changes.iter_mut().filter(|(at, _)| at(site)) {
            rows.chunks_exact_mut(n_cols).for_each(|row| change(site, row));
        }
    }

    /// Passes row `place` of the batch at `site` to all readers of that site.
    pub(super) fn show(&mut self, site: Site, place: usize, row: &[f32]) -> Result<()> {
        let mut reads = self.reads.iter_mut().filter(|(at, _)| at(site));
        reads.try_for_each(|(_, read)| read(site, place, row))
    }

    /// Passes on the input of a linear layer that is read: see [`Hooks::reads_input_of`].
    pub(super) fn show_input(&mut self, input: &LinearInput<'_>) -> Result<ControlFlow<()>> {
        match &mut self.inputs {
            Some((_, read)) => read(input),
            None => Ok(ControlFlow::Continue(())),
        }
    }
}
