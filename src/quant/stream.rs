//! Walks a tensor's rows in parallel and gathers results in order, so that sums are the same
//! whatever the number of threads.

use std::ops::Range;

use rayon::prelude::*;

use super::error::Result;
use crate::gguf::{Error as GgufError, TensorInfo, Watch};

/// Elements a thread takes at once.
const ELEMENTS_PER_TASK: u64 = 1 << 18;
/// Tasks between two looks at the watch.
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
    mut fold: impl FnMut(T),
) -> Result<()> {
    let n_rows = info.n_rows();
    let task_rows = (ELEMENTS_PER_TASK / info.n_cols().max(1)).max(1);
    let starts: Vec<u64> = (0..n_rows).step_by(task_rows as usize).collect();
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
