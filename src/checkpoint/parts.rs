//! Where the rows of a GGUF tensor come from: tensors of a checkpoint, whose rows are moved,
//! converted and changed.

use std::ops::Range;

use half::f16;
use rayon::prelude::*;
use safetensors::tensor::Dtype;

use super::folder::{Checkpoint, Entry};
use super::fp8::{Scales, fp8, is_fp8};
use super::rows::{convert, element_bytes, from_f32, interleaved, same_type, to_f32};
use crate::gguf::GgmlType;

/// A tensor of the checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part {
    /// Its name.
    pub(super) name: String,
    /// Where it is.
    pub(super) entry: Entry,
    /// Its scales, where it is FP8.
    pub(super) scales: Option<Scales>,
}

/// The rows of a GGUF tensor: those of its parts, one after another.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rows {
    /// One tensor, or all experts.
    pub(super) parts: Vec<Part>,
    /// Rows of a head whose halves are interleaved.
    pub(super) interleave: Option<u64>,
    /// 1 is added to each element.
    pub(super) plus_one: bool,
}

impl Rows {
    /// The tensor whose bytes are those of the GGUF tensor, if nothing is changed.
    pub(super) fn copied_as(&self, ty: GgmlType) -> Option<&Entry> {
        match self.parts.as_slice() {
            [part] if self.interleave.is_none() && !self.plus_one => {
                Some(&part.entry).filter(|entry| same_type(entry.dtype) == Some(ty))
            }
            _ => None,
        }
    }

    /// Fills `out` with the rows `asked` of the GGUF tensor, as `ty`.
    pub(super) fn fill(
        &self,
        checkpoint: &Checkpoint,
        asked: Range<u64>,
        ty: GgmlType,
        out: &mut [u8],
    ) {
        let shape = self.parts[0].entry.shape.as_slice();
        // The elements of a bias move as the rows of a matrix do.
        let is_bias = shape.len() < 2 && self.interleave.is_some();
        let n_cols = if is_bias { 1 } else { shape.last().copied().unwrap_or(1) };
        let rows = if is_bias { 0..shape.iter().product() } else { asked };
        let of_part = shape.iter().product::<u64>() / n_cols.max(1);
        let n_rows = (rows.end - rows.start) as usize;
        if n_rows == 0 || out.is_empty() {
            return;
        }
        let row_bytes = out.len() / n_rows;
        let source = |row: u64| match self.interleave {
            Some(head) => interleaved(row, head),
            None => row,
        };
        let plain = self.interleave.is_none() && !self.plus_one;
        if plain && self.parts.iter().all(|part| part.scales.is_none()) {
            self.fill_plain(checkpoint, rows, [n_cols, of_part], (ty, row_bytes, out));
            return;
        }
        out.par_chunks_mut(row_bytes).enumerate().for_each(|(i, out)| {
            let row = rows.start + i as u64;
            let part = &self.parts[(row / of_part) as usize];
            let within = source(row % of_part);
            let bytes = bytes_of(checkpoint, part, within * n_cols..(within + 1) * n_cols);
            if !self.plus_one && same_type(part.entry.dtype) == Some(ty) {
                out.copy_from_slice(bytes);
                return;
            }
            let mut floats = vec![0.0; n_cols as usize];
            part.read_row(within, bytes, &mut floats);
            if self.plus_one {
                add_one(part.entry.dtype, &mut floats);
            }
            from_f32(&floats, ty, out);
        });
    }

    /// Fills `out` with whole runs of rows, which are converted and not changed.
    fn fill_plain(
        &self,
        checkpoint: &Checkpoint,
        rows: Range<u64>,
        [n_cols, of_part]: [u64; 2],
        (ty, row_bytes, mut out): (GgmlType, usize, &mut [u8]),
    ) {
        let mut row = rows.start;
        while row < rows.end {
            let part = &self.parts[(row / of_part) as usize];
            let within = row % of_part;
            let n = (rows.end - row).min(of_part - within);
            let (now, later) = out.split_at_mut(n as usize * row_bytes);
            let bytes = bytes_of(checkpoint, part, within * n_cols..(within + n) * n_cols);
            convert(part.entry.dtype, bytes, ty, now);
            (row, out) = (row + n, later);
        }
    }
}

impl Part {
    /// The numbers of row `row`, whose bytes are given.
    fn read_row(&self, row: u64, bytes: &[u8], floats: &mut [f32]) {
        let dtype = self.entry.dtype;
        if !is_fp8(dtype) {
            return to_f32(dtype, bytes, floats);
        }
        floats.iter_mut().zip(bytes).for_each(|(x, bits)| *x = fp8(dtype, *bits));
        if let Some(scales) = &self.scales {
            scales.scale(row, floats);
        }
    }
}

/// The bytes of some elements of a part.
fn bytes_of<'c>(checkpoint: &'c Checkpoint, part: &Part, elements: Range<u64>) -> &'c [u8] {
    // FP8, the only other type that is read, has one byte.
    let bytes = element_bytes(part.entry.dtype).unwrap_or(1);
    let data = checkpoint.data(&part.entry);
    &data[elements.start as usize * bytes..elements.end as usize * bytes]
}

/// Adds 1 as PyTorch does: F16 in F16, all else in F32.
fn add_one(dtype: Dtype, floats: &mut [f32]) {
    for x in floats {
        *x += 1.0;
        if dtype == Dtype::F16 {
            *x = f16::from_f32(*x).to_f32();
        }
    }
}
