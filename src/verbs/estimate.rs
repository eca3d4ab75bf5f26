//! How long a verb that writes a model would take here, for a dry run.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use super::error::{Error, Result};
use super::host::Host;
use crate::gguf::{Estimate, GgmlType, Model, Plan, Rewrite, Watch};
use crate::quant::first_non_finite;

/// How often llama.cpp reads a new file's weights: it loads them, and decodes a short prompt.
const LOAD_READS: f64 = 2.0;
/// Bytes of a type that are checked for non-finite values.
const CHECKED_BYTES: usize = 2 << 20;

/// A dry run under way.
#[derive(Clone, Copy)]
pub(super) struct DryRun<'a> {
    pub host: &'a dyn Host,
    /// The model that would be changed.
    pub model: &'a Model,
    /// When the verb began: it has done what the real run does, too.
    pub begun: Instant,
}

impl DryRun<'_> {
    /// Seconds that the whole verb would take; None where that cannot be measured, as in a folder
    /// that cannot be written.
    ///
    /// # Errors
    /// An interrupt.
    pub(super) fn seconds(&self, rewrite: Rewrite<'_>, out: &Path) -> Result<Option<f64>> {
        let before = self.begun.elapsed().as_secs_f64();
        self.host.stage("estimating the time", 0);
        match self.remaining(rewrite, out) {
            Ok(remaining) => Ok(Some(before + remaining)),
            Err(error) if error.is_interrupt() || self.host.interrupted() => Err(error),
            Err(error) => {
                self.host.detail(format_args!("the time was not estimated: {error}"));
                Ok(None)
            }
        }
    }

    /// What a dry run leaves out: the hash of the source, the new file, its checks.
    fn remaining(&self, rewrite: Rewrite<'_>, out: &Path) -> Result<f64> {
        let plan = rewrite.plan(out)?;
        let estimate = rewrite.estimate(out, &Quiet(self.host))?;
        let written = estimate.hashing + estimate.writing + estimate.reading_back;
        Ok(written + self.checking(&plan, &estimate)? + self.loading(&plan, &estimate)?)
    }

    /// The check for non-finite values, whose time depends on the types.
    fn checking(&self, plan: &Plan, estimate: &Estimate) -> Result<f64> {
        let mut bytes: BTreeMap<GgmlType, u64> = BTreeMap::new();
        let headers = plan.files.iter().filter_map(|file| file.header.as_ref());
        for info in headers.flat_map(|header| header.tensors.values()) {
            *bytes.entry(info.ty).or_default() += info.n_bytes();
        }
        let n_threads = rayon::current_num_threads().max(1) as f64;
        let mut seconds = 0.0;
        for (ty, n) in bytes {
            seconds += n as f64 * self.check_byte(ty, estimate)? / n_threads;
        }
        Ok(seconds)
    }

    /// Seconds that one thread checks a byte of a type.
    fn check_byte(&self, ty: GgmlType, estimate: &Estimate) -> Result<f64> {
        let made = estimate.pieces.iter().find(|piece| piece.ty == ty);
        let made = made.map(|piece| (piece.bytes.as_slice(), piece.n_cols));
        let largest = || {
            let same = self.model.tensors().filter(|tensor| tensor.info.ty == ty);
            let largest = same.max_by_key(|tensor| tensor.info.n_bytes())?;
            Some((largest.data(), largest.info.n_cols()))
        };
        let Some((bytes, n_cols)) = made.or_else(largest) else { return Ok(0.0) };
        let row = ty.bytes_for(n_cols).unwrap_or(1).max(1) as usize;
        let n_bytes = bytes.len().min(CHECKED_BYTES.max(row)) / row * row;
        let check = || first_non_finite(ty, &bytes[..n_bytes], n_cols as usize);
        // The first time may wait for the disk.
        check()?;
        let begun = Instant::now();
        check()?;
        Ok(begun.elapsed().as_secs_f64() / n_bytes.max(1) as f64)
    }

    /// llama.cpp's run of the new file, in a child process: what it does without the weights is
    /// measured, the weights go by bytes.
    fn loading(&self, plan: &Plan, estimate: &Estimate) -> Result<f64> {
        let begun = Instant::now();
        match self.host.prober().structure(self.model).map_err(Error::from) {
            Err(error) if error.is_interrupt() => Err(error),
            // The new file will not run either, or is of a kind that is not run.
            Err(_) => Ok(0.0),
            Ok(_) => {
                let reads = LOAD_READS * plan.bytes() as f64 * estimate.read_byte;
                Ok(begun.elapsed().as_secs_f64() + reads)
            }
        }
    }
}

/// A host that shows no progress: what is measured is no part of a stage.
struct Quiet<'a>(&'a dyn Host);

impl Watch for Quiet<'_> {
    fn interrupted(&self) -> bool {
        self.0.interrupted()
    }
}
