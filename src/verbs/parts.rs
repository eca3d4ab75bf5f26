//! Long sweeps over a model's blocks: the parts beside the output that an interrupted one goes on
//! from, and what is noted about them.

use std::path::{Path, PathBuf};

use indexmap::IndexSet;
use sha2::{Digest, Sha256};

use super::error::Result;
use super::host::Host;
use super::words::{counted, few};
use crate::gguf::{Ask, BoxError, Replacement, Rewrite, Step, Tensor, check_room, hex};
use crate::llama::{Options, cpu_features};
use crate::refit::{BlockReport, Parts, Refitted};
use crate::stats::{Sample, samples_sha256};

/// Names the experts that too few tokens reached, and says what `became` of them.
pub(crate) fn warn_of_experts(host: &dyn Host, refitted: &Refitted, became: &str) {
    let mut unseen = IndexSet::new();
    for block in &refitted.blocks {
        for experts in block.tensors.iter().filter_map(|tensor| tensor.experts.as_ref()) {
            let name = |expert| format!("{expert} of block {}", block.block);
            unseen.extend(experts.without_tokens.iter().map(name));
        }
    }
    let unseen: Vec<String> = unseen.into_iter().collect();
    if !unseen.is_empty() {
        host.warn(format_args!(
            "no calibration token reached {}, and {became}: {}\n\
             hint: more tokens, or texts of more kinds",
            counted(unseen.len(), "expert"),
            few(&unseen)
        ));
    }
}

/// Says where an interrupted sweep goes on from.
pub(crate) fn note_kept(host: &dyn Host, parts: &Parts) {
    if parts.has_any() {
        let folder = parts.folder().display();
        host.say(format_args!("what is done is kept in {folder}: the same command goes on"));
    }
}

/// Notes what became of a block.
pub(crate) fn note_block(host: &dyn Host, report: &BlockReport) {
    let (before, after) = report.mean_error();
    host.detail(format_args!(
        "block {}: matrices off by {before:.3} -> {after:.3}, what leaves it by \
         {:.3} -> {:.3}{}",
        report.block,
        report.residual.0,
        report.residual.1,
        if report.alone { "" } else { " (run in the whole model)" },
    ));
}

/// A tensor's own bytes, as the writers of files take them.
pub(crate) fn replacement(tensor: Tensor<'_>) -> Replacement<'_> {
    let produce =
        move |rows: std::ops::Range<u64>, out: &mut [u8]| -> std::result::Result<(), BoxError> {
            out.copy_from_slice(tensor.rows(rows));
            Ok(())
        };
    Replacement { ty: tensor.info.ty, ask: Ask::Chunks, produce: Box::new(produce) }
}

/// Tells `rewrite` to write `tensors` with their own bytes.
pub(crate) fn put_into<'m>(
    rewrite: &mut Rewrite<'m>,
    tensors: impl Iterator<Item = Tensor<'m>>,
) -> Result<()> {
    for tensor in tensors {
        rewrite.replace(&tensor.info.name, replacement(tensor))?;
    }
    Ok(())
}

/// Fails if `output`'s disk has no room for `bytes`, those of parts among them that are there.
pub(crate) fn check_room_for_parts(output: &Path, bytes: u64) -> Result<()> {
    let files = std::fs::read_dir(parts_folder(output)).into_iter().flatten().flatten();
    let there: u64 = files.filter_map(|file| Some(file.metadata().ok()?.len())).sum();
    Ok(check_room(output, bytes.saturating_sub(there))?)
}

/// What the parts of a sweep depend on. Other CPUs and devices round in other ways: features of
/// this CPU and names of devices are in it, but not which machine a worker is.
pub(crate) fn made_of(step: &Step, samples: &[Sample], engine: Options) -> String {
    let run_by = format!("{} {} {}", crate::BUILD, cpu_features(), engine.placement());
    let all = format!("{run_by} {step:?} {}", samples_sha256(samples));
    hex(&Sha256::digest(all))
}

/// Where the parts of `output` are.
pub(crate) fn parts_folder(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".aird-part");
    name.into()
}
