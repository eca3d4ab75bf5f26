//! Walks a tensor's rows in parallel and gathers results in order, so that sums are the same
//! whatever the number of threads.

use std::ops::Range;

use rayon::prelude::*;

use super::error::Result;
use crate::gguf::{Error as GgufError, TensorInfo, Watch};

/// Elements per task.
const ELEMENTS_PER_TASK: u64 = 1 << 18;
/// Tasks between two checks of the watch.
const TASKS_PER_STEP: usize = 32;

/// Calls `map` with ranges of rows that cover `info` once, in parallel, and `fold` with the
/// results in the order of the rows. The watch advances by `row_bytes` a row.
///
/// # Errors
/// `map`'s first, or an interrupt.
pub fn fold_rows<T: Send>(
    info: &TensorInfo,
    row_bytes: u64,
    watch: &dyn Watch,
    map: impl Fn(Range<u64>) -> Result<T> + Sync,
    fold: impl FnMut(T),
) -> Result<()> {
    fold_range(info, 0..info.n_rows(), row_bytes, watch, map, fold)
}

/// As [`fold_rows`], only for `rows`: one matrix of a stack of experts.
///
/// # Errors
/// As [`fold_rows`].
pub fn fold_range<T: Send>(
    info: &TensorInfo,
    rows: Range<u64>,
    row_bytes: u64,
    watch: &dyn Watch,
    map: impl Fn(Range<u64>) -> Result<T> + Sync,
    mut fold: impl FnMut(T),
) -> Result<()> {
    let task_rows = (ELEMENTS_PER_TASK / info.n_cols().max(1)).max(1);
    let starts: Vec<u64> = rows.clone().step_by(task_rows as usize).collect();
    let n_rows = rows.end;
    for step in starts.chunks(TASKS_PER_STEP) {
        if watch.interrupted() {
            return Err(GgufError::Interrupted.into());
        }
        let rows = |start: u64| start..n_rows.min(start + task_rows);
        let parts = step.par_iter().map(|&start| map(rows(start)));
        parts.collect::<Result<Vec<T>>>()?.into_iter().for_each(&mut fold);
        let done: u64 = step.iter().map(|&s| rows(s).end - rows(s).start).sum();
        watch.advance(done * row_bytes);
    }
    Ok(())
}
