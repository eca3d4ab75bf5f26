//! The manners of long sweeps over a model's blocks: how far they are, and the parts beside the
//! output that an interrupted one goes on from.

use std::path::{Path, PathBuf};

use indexmap::IndexSet;
use sha2::{Digest, Sha256};

use super::calibration::samples_sha256;
use super::text::{counted, few};
use super::ui::{Steps, Ui};
use crate::gguf::{self, Ask, BoxError, Replacement, Rewrite, Step, Tensor, check_room, hex};
use crate::refit::{BlockReport, Parts, Refitted, Told};
use crate::stats::Sample;

/// What parts are is counted up where they change: those of an earlier aird are not gone on with.
const FORMAT: u32 = 2;

/// Tells how far a sweep is.
pub struct Teller<'u> {
    ui: &'u Ui,
    steps: Steps,
}

impl<'u> Teller<'u> {
    pub fn new(ui: &'u Ui) -> Teller<'u> {
        Teller { ui, steps: ui.steps() }
    }
}

/// Names the experts that too few tokens reached, and says what `became` of them.
pub fn tell_of_experts(ui: &Ui, refitted: &Refitted, became: &str) {
    let mut unseen = IndexSet::new();
    for block in &refitted.blocks {
        for experts in block.tensors.iter().filter_map(|tensor| tensor.experts.as_ref()) {
            let name = |expert| format!("{expert} of block {}", block.block);
            unseen.extend(experts.without_tokens.iter().map(name));
        }
    }
    let unseen: Vec<String> = unseen.into_iter().collect();
    if !unseen.is_empty() {
        ui.warn(format_args!(
            "no calibration token reached {}, and {became}: {}\n\
             hint: more tokens, or texts of more kinds",
            counted(unseen.len(), "expert"),
            few(&unseen)
        ));
    }
}

/// Says where an interrupted sweep goes on from.
pub fn kept(ui: &Ui, parts: &Parts) {
    if parts.has_any() {
        let folder = parts.folder().display();
        ui.say(format_args!("what is done is kept in {folder}: the same command goes on"));
    }
}

impl Told for Teller<'_> {
    fn at(&mut self, block: u32, n_block: u32, part: &str) {
        self.steps.show(part, block as usize, n_block as usize);
    }

    fn done(&mut self, report: &BlockReport) {
        let (before, after) = report.mean_error();
        self.ui.detail(format_args!(
            "block {}: matrices off by {before:.3} -> {after:.3}, \
             what leaves it by {:.3} -> {:.3}{}",
            report.block,
            report.residual.0,
            report.residual.1,
            if report.alone { "" } else { " (run in the whole model)" },
        ));
    }
}

/// A tensor's own bytes, as the writers of files take them.
pub fn replacement(tensor: Tensor<'_>) -> Replacement<'_> {
    let produce = move |rows: std::ops::Range<u64>, out: &mut [u8]| -> Result<(), BoxError> {
        out.copy_from_slice(tensor.rows(rows));
        Ok(())
    };
    Replacement { ty: tensor.info.ty, ask: Ask::Chunks, produce: Box::new(produce) }
}

/// Tells `rewrite` to write `tensors` with their own bytes.
pub fn put_into<'m>(
    rewrite: &mut Rewrite<'m>,
    tensors: impl Iterator<Item = Tensor<'m>>,
) -> anyhow::Result<()> {
    for tensor in tensors {
        rewrite.replace(&tensor.info.name, replacement(tensor))?;
    }
    Ok(())
}

/// Fails if `output`'s disk has no room for `bytes`, those of parts among them that are there.
pub fn check_room_for_parts(output: &Path, bytes: u64) -> Result<(), gguf::Error> {
    let files = std::fs::read_dir(parts_folder(output)).into_iter().flatten().flatten();
    let there: u64 = files.filter_map(|file| Some(file.metadata().ok()?.len())).sum();
    check_room(output, bytes.saturating_sub(there))
}

/// Everything that the parts of a sweep depend on.
pub fn made_of(step: &Step, samples: &[Sample]) -> String {
    let aird = (env!("CARGO_PKG_VERSION"), FORMAT);
    let all = format!("{aird:?} {step:?} {}", samples_sha256(samples));
    hex(&Sha256::digest(all))
}

/// Where the parts of `output` are.
pub fn parts_folder(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".aird-part");
    name.into()
}
