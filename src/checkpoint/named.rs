//! The tensors of a checkpoint by their names in GGUF, as the table of the family has them.

use indexmap::IndexMap;

use super::error::{Error, Result};
use super::family::{Family, How, Line};
use super::folder::{Checkpoint, Entry};
use super::fp8::{SCALES, Scales, UNUSED, is_fp8};
use super::parts::Part;
use super::rows::element_bytes;
use super::sizes::{Dim, Sizes};

/// How the names of a block's tensors begin in a checkpoint.
const BLOCK: &str = "model.layers.";
/// Endings of tensors that older checkpoints hold and models compute.
const COMPUTED: [&str; 3] = [".attention.masked_bias", ".attention.bias", ".rotary_emb.inv_freq"];

/// A GGUF tensor, and the tensors of the checkpoint that it is made of.
pub(super) struct Named {
    /// Its name in GGUF.
    pub(super) name: String,
    /// Its line in the family's table.
    pub(super) line: &'static Line,
    /// Rows of a head.
    pub(super) head: u64,
    /// One tensor, or all experts.
    pub(super) parts: Vec<Part>,
}

/// Every tensor of the new file in the order of its last part, as the converter writes them.
///
/// # Errors
/// A tensor is missing, unknown, or of another shape than `config.json` says.
pub(super) fn named_tensors(
    checkpoint: &Checkpoint,
    family: &'static Family,
    sizes: &Sizes,
) -> Result<Vec<Named>> {
    let mut left: IndexMap<&str, &Entry> = IndexMap::new();
    for (name, entry) in &checkpoint.tensors {
        if !COMPUTED.iter().chain(&UNUSED).any(|end| name.ends_with(end)) {
            left.insert(name, entry);
        }
    }
    let place = |name: &str| checkpoint.tensors.get_index_of(name).unwrap_or(0);
    let mut found: Vec<(usize, Named)> = Vec::new();
    let blocks = (0..sizes.n_block).map(Some);
    for block in std::iter::once(None).chain(blocks) {
        let lines = if block.is_none() { family.whole } else { family.block };
        let mut stacks = Vec::new();
        for line in lines {
            let names = theirs(line, block, sizes);
            let Some(parts) = take_parts(names, line, sizes, &mut left, checkpoint)? else {
                continue;
            };
            let last = parts.iter().map(|part| place(&part.name)).max().unwrap_or(0);
            let named = Named { name: ours(line, block), line, head: sizes.head_length, parts };
            match line.how {
                How::Stack => stacks.push((last, named)),
                _ => found.push((last, named)),
            }
        }
        // All experts of a block come where the last of their tensors is.
        let last = stacks.iter().map(|(place, _)| *place).max().unwrap_or(0);
        found.extend(stacks.into_iter().map(|(_, named)| (last, named)));
    }
    if let Some((tensor, entry)) = left.first() {
        let family = family.architecture;
        let path = &checkpoint.shards[entry.shard].path;
        return Err(Error::UnknownTensor { tensor: (*tensor).into(), family }.in_file(path));
    }
    found.sort_by_key(|(place, _)| *place);
    Ok(found.into_iter().map(|(_, named)| named).collect())
}

/// The names of a line's tensors in the checkpoint. They are made one by one: `config.json` may
/// claim any number of experts.
fn theirs(line: &Line, block: Option<u64>, sizes: &Sizes) -> impl Iterator<Item = String> {
    let name = match block {
        Some(block) => format!("{BLOCK}{block}.{}", line.theirs),
        None => line.theirs.to_owned(),
    };
    let n = if line.how == How::Stack { sizes.n_expert } else { 1 };
    (0..n).map(move |i| name.replace('*', &i.to_string()))
}

/// The name of a line's tensor in GGUF.
fn ours(line: &Line, block: Option<u64>) -> String {
    match block {
        Some(block) => format!("blk.{block}.{}", line.ours),
        None => line.ours.to_owned(),
    }
}

/// Takes the tensors of a line out of those that are left; None if the model may lack them.
fn take_parts(
    names: impl Iterator<Item = String>,
    line: &'static Line,
    sizes: &Sizes,
    left: &mut IndexMap<&str, &Entry>,
    checkpoint: &Checkpoint,
) -> Result<Option<Vec<Part>>> {
    let mut parts = Vec::new();
    for name in names {
        let Some(entry) = left.shift_remove(name.as_str()) else {
            if line.optional && parts.is_empty() {
                return Ok(None);
            }
            let missing = Error::MissingTensor { tensor: name, blocks: sizes.n_block };
            return Err(missing.in_file(&checkpoint.folder));
        };
        let of_file = |error: Error| error.in_file(&checkpoint.shards[entry.shard].path);
        check(&name, entry, line.shape, sizes).map_err(of_file)?;
        let scales = match is_fp8(entry.dtype) {
            true => Some(scales(&name, entry, left, checkpoint).map_err(of_file)?),
            false => None,
        };
        parts.push(Part { name, entry: entry.clone(), scales });
    }
    Ok(Some(parts))
}

/// Checks the shape and the type of a tensor.
fn check(name: &str, entry: &Entry, shape: &[Dim], sizes: &Sizes) -> Result<()> {
    let expected: Vec<u64> = shape.iter().map(|&dim| sizes.dim(dim)).collect();
    if entry.shape != expected {
        let found = entry.shape.clone();
        return Err(Error::WrongShape { tensor: name.into(), found, expected });
    }
    if element_bytes(entry.dtype).is_none() && !is_fp8(entry.dtype) {
        let found = format!("{:?}", entry.dtype);
        return Err(Error::Dtype { tensor: name.into(), found });
    }
    Ok(())
}

/// Takes the scales of an FP8 tensor out of the tensors that are left.
fn scales(
    name: &str,
    entry: &Entry,
    left: &mut IndexMap<&str, &Entry>,
    checkpoint: &Checkpoint,
) -> Result<Scales> {
    let found = left.shift_remove(format!("{name}{SCALES}").as_str());
    let missing = || {
        let found = format!("{:?} without scales ({name}{SCALES})", entry.dtype);
        Error::Dtype { tensor: name.into(), found }
    };
    Scales::read(checkpoint, name, &entry.shape, found.ok_or_else(missing)?)
}
