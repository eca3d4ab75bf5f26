//! The ways in which an original's rows may have been written in a type.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::gguf::{GgmlType, Tensor};
use crate::llama::weighs_errors;
use crate::quant::{Result, decode_rows, encode_rows};
use crate::stats::InputStats;

/// Rows that are tried before a way is chosen.
const PROBED: u64 = 8;

/// What a float file between the original and the quantized one was written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// No such file, or one that holds the original's values exactly.
    Direct,
    /// F16, as converters write by default.
    F16,
    /// BF16.
    Bf16,
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recoding {
    /// With the importance matrix that was given.
    pub imatrix: bool,
    /// Rounded to this type first.
    pub via: Via,
}

/// Weights of the input channels, `[n_cols]`, for each matrix of a tensor.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Importance(pub Vec<Vec<f32>>);

impl Importance {
    /// As llama-quantize reads them: `E[x^2]`, and 1 for experts that saw no row.
    pub fn of(input: &InputStats) -> Importance {
        let weights = |expert| input.mean_square(expert).unwrap_or(vec![1.0; input.n_cols]);
        Importance((0..input.n_expert()).map(weights).collect())
    }
}

/// A tensor and the one that it should come from, of the same shape.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'m> {
    /// The tensor.
    pub tensor: Tensor<'m>,
    /// Its original.
    pub original: Tensor<'m>,
    /// What an importance matrix holds about it.
    pub importance: Option<&'m Importance>,
}

impl Subject<'_> {
    /// Elements of a row.
    pub(super) fn n_cols(&self) -> usize {
        self.tensor.info.n_cols() as usize
    }

    /// The tensor's type.
    pub(super) fn ty(&self) -> GgmlType {
        self.tensor.info.ty
    }

    /// `rows` of the original as values, `[n_rows, n_cols]`.
    pub(super) fn wanted(&self, rows: Range<u64>) -> Result<Vec<f32>> {
        self.decoded(self.original.info.ty, self.original.rows(rows))
    }

    /// Encoded rows as values.
    pub(super) fn decoded(&self, ty: GgmlType, bytes: &[u8]) -> Result<Vec<f32>> {
        let layout = ty.layout();
        let n = bytes.len() as u64 / layout.block_bytes.max(1) * layout.block_len;
        let mut values = vec![0.0; n as usize];
        decode_rows(ty, bytes, self.n_cols(), &mut values)?;
        Ok(values)
    }

    /// The original's `rows`, whose values are `wanted`, in the tensor's type.
    ///
    /// # Errors
    /// ggml does not write the type.
    pub(super) fn written(
        &self,
        rows: Range<u64>,
        wanted: &[f32],
        how: Recoding,
    ) -> Result<Vec<u8>> {
        let n_cols = self.n_cols();
        let row_bytes = self.tensor.info.row_bytes() as usize;
        let mut out = vec![0; row_bytes * (rows.end - rows.start) as usize];
        let through = self.through(how.via, wanted)?;
        let parts = rows.zip(through.chunks_exact(n_cols.max(1)));
        for ((row, values), out) in parts.zip(out.chunks_exact_mut(row_bytes.max(1))) {
            encode_rows(self.ty(), values, n_cols, self.weights(how, row), out)?;
        }
        Ok(out)
    }

    fn through(&self, via: Via, wanted: &[f32]) -> Result<Vec<f32>> {
        let ty = match via {
            Via::Direct => return Ok(wanted.to_vec()),
            Via::F16 => GgmlType::F16,
            Via::Bf16 => GgmlType::BF16,
        };
        let mut bytes = vec![0; 2 * wanted.len()];
        encode_rows(ty, wanted, self.n_cols(), None, &mut bytes)?;
        self.decoded(ty, &bytes)
    }

    /// The weights of the matrix that `row` is in.
    fn weights(&self, how: Recoding, row: u64) -> Option<&[f32]> {
        let importance = self.importance.filter(|_| how.imatrix)?;
        let n_rows = self.tensor.info.shape.get(1).copied().unwrap_or(1).max(1);
        importance.0.get((row / n_rows) as usize).map(Vec::as_slice)
    }

    /// The way that writes most of a few rows as the tensor has them; of those that write as many
    /// the first: the plainest.
    ///
    /// # Errors
    /// Rows cannot be decoded or encoded.
    pub(super) fn likeliest(&self) -> Result<Recoding> {
        let n_rows = self.tensor.info.n_rows();
        let step = n_rows.div_ceil(PROBED).max(1);
        let mut best: Option<(usize, Recoding)> = None;
        for how in self.ways() {
            let mut equal = 0;
            for row in (0..n_rows).step_by(step as usize) {
                let wanted = self.wanted(row..row + 1)?;
                let written = self.written(row..row + 1, &wanted, how)?;
                equal += usize::from(written == self.tensor.rows(row..row + 1));
            }
            if best.is_none_or(|(most, _)| equal > most) {
                best = Some((equal, how));
            }
        }
        Ok(best.map_or(Recoding { imatrix: false, via: Via::Direct }, |(_, how)| how))
    }

    fn ways(&self) -> Vec<Recoding> {
        let via: &[Via] = match self.original.info.ty {
            GgmlType::F32 => &[Via::Direct, Via::F16, Via::Bf16],
            GgmlType::BF16 => &[Via::Direct, Via::F16],
            GgmlType::F16 => &[Via::Direct, Via::Bf16],
            _ => &[Via::Direct],
        };
        let weighs = self.importance.is_some() && weighs_errors(self.ty());
        let imatrix: &[bool] = if weighs { &[true, false] } else { &[false] };
        let way = |&via: &Via| imatrix.iter().map(move |&imatrix| Recoding { imatrix, via });
        via.iter().flat_map(way).collect()
    }
}
