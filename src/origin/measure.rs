//! A tensor beside what its original becomes in the same type.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::float::farthest;
use super::recode::{Recoding, Subject, Via};
use super::spectrum::longest_share;
use crate::gguf::{GgmlType, Watch};
use crate::llama::{is_decodable, is_encodable};
use crate::quant::{Result, fold_rows, misplaced};

/// Rows whose errors are searched for a direction, spread over the tensor, and their elements at
/// most: 32 MB with what they are compared with.
const SEARCHED: u64 = 512;
const SEARCHED_ELEMENTS: u64 = 4 << 20;
/// Part of a block's squares that counts as no error: what f32 leaves of a value that lies on a
/// level.
const NOTHING: f64 = 1e-6;

/// What was found of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// How the original's rows come closest to the tensor's bytes.
    pub how: Recoding,
    /// Rows of the tensor.
    pub n_rows: u64,
    /// Rows of the same bytes.
    pub equal_rows: u64,
    /// What differs; None where all rows are equal.
    pub rest: Option<Rest>,
}

/// What differs.
#[derive(Debug, Clone, PartialEq)]
pub enum Rest {
    /// Values of a float type: the farthest one, see [`super::find`].
    Floats(f64),
    /// Rows of a quantized type.
    Rows(Figures),
    /// Nothing can be said but that the bytes differ: integers.
    Bytes,
}

/// Rows whose bytes differ, beside those that the original's become: q against x, and r against x.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// `|q - x| / |x|`.
    pub relative_error: f64,
    /// `|q - x| / |r - x|`.
    pub error: f64,
    /// The same of the row in which it is greatest.
    pub row: f64,
    /// The same of the block in which it is greatest.
    pub block: f64,
    /// Share of values that do not stand at their block's nearest level; null for codebooks.
    pub misplaced: Option<f64>,
    /// Values in excess of those that r misplaces, in the block where there are most.
    pub misplaced_in_block: u64,
    /// `q x / x x - r x / x x`: by how much the tensor is longer along the original.
    pub gain: f64,
    /// Share of the error's squares along its longest direction, in parts of the same of r.
    pub direction: f64,
}

impl Figures {
    /// False where a value of the tensor is NaN or infinite.
    pub fn is_finite(&self) -> bool {
        let Figures { relative_error, error, row, block, gain, direction, .. } = *self;
        [relative_error, error, row, block, gain, direction].iter().all(|x| x.is_finite())
    }
}

/// Compares a tensor with its original, all of it.
///
/// # Errors
/// Rows cannot be decoded, an interrupt.
pub fn measure(subject: &Subject<'_>, watch: &dyn Watch) -> Result<Measured> {
    let (tensor, original) = (subject.tensor, subject.original);
    let n_rows = tensor.info.n_rows();
    let how = Recoding { imatrix: false, via: Via::Direct };
    let same = tensor.info.ty == original.info.ty;
    if same && tensor.data() == original.data() {
        watch.advance(tensor.info.n_bytes());
        return Ok(Measured { how, n_rows, equal_rows: n_rows, rest: None });
    }
    let is_written = is_encodable(tensor.info.ty) && is_decodable(tensor.info.ty);
    if !is_written || !is_decodable(original.info.ty) {
        return Ok(Measured { how, n_rows, equal_rows: 0, rest: Some(Rest::Bytes) });
    }
    let how = subject.likeliest()?;
    let sums = compared(subject, how, watch)?;
    let (n, equal_rows) = (sums.n, n_rows - sums.n_rows);
    let rest = match sums.n_rows {
        0 => None,
        _ if same && is_float(tensor.info.ty) => Some(Rest::Floats(f64::INFINITY)),
        _ if is_float(tensor.info.ty) => Some(Rest::Floats(farthest(subject, watch)?)),
        _ => {
            let direction = match equal_rows >= n_rows / 2 {
                true => 1.0,
                false => direction(subject, how)?,
            };
            Some(Rest::Rows(sums.figures(n, direction)))
        }
    };
    Ok(Measured { how, n_rows, equal_rows, rest })
}

fn is_float(ty: GgmlType) -> bool {
    matches!(ty, GgmlType::F32 | GgmlType::F16 | GgmlType::BF16)
}

/// Sums over rows that differ.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    n_rows: u64,
    n: u64,
    /// Squares of x, of q - x and of r - x.
    xx: f64,
    ee: f64,
    rr: f64,
    /// Products of x with both errors.
    ex: f64,
    rx: f64,
    row: f64,
    block: f64,
    misplaced: Option<u64>,
    misplaced_in_block: u64,
}

impl Sums {
    fn add(&mut self, other: Sums) {
        self.misplaced = match (self.n_rows, other.n_rows) {
            (0, _) => other.misplaced,
            (_, 0) => self.misplaced,
            _ => self.misplaced.zip(other.misplaced).map(|(a, b)| a + b),
        };
        self.n_rows += other.n_rows;
        self.n += other.n;
        self.xx += other.xx;
        self.ee += other.ee;
        self.rr += other.rr;
        self.ex += other.ex;
        self.rx += other.rx;
        self.row = self.row.max(other.row);
        self.block = self.block.max(other.block);
        self.misplaced_in_block = self.misplaced_in_block.max(other.misplaced_in_block);
    }

    fn figures(&self, n: u64, direction: f64) -> Figures {
        let xx = if self.xx > 0.0 { self.xx } else { 1.0 };
        Figures {
            relative_error: (self.ee / xx).sqrt(),
            error: ratio(self.ee, self.rr, self.xx),
            row: self.row,
            block: self.block,
            misplaced: self.misplaced.map(|m| m as f64 / n.max(1) as f64),
            misplaced_in_block: self.misplaced_in_block,
            gain: (self.ex - self.rx) / xx,
            direction,
        }
    }
}

/// The root of `ee / rr`, errors of values whose squares are `xx`.
fn ratio(ee: f64, rr: f64, xx: f64) -> f64 {
    let nothing = NOTHING * xx + f64::MIN_POSITIVE;
    let ratio = ((ee + nothing) / (rr + nothing)).sqrt();
    if ratio.is_nan() { f64::INFINITY } else { ratio }
}

fn compared(subject: &Subject<'_>, how: Recoding, watch: &dyn Watch) -> Result<Sums> {
    let info = subject.tensor.info;
    let row_bytes = info.row_bytes() as usize;
    let part = |rows: Range<u64>| {
        let wanted = subject.wanted(rows.clone())?;
        let found = subject.tensor.rows(rows.clone());
        let written = subject.written(rows, &wanted, how)?;
        let mut sums = Sums::default();
        let rows = found.chunks_exact(row_bytes).zip(written.chunks_exact(row_bytes));
        for ((found, written), x) in rows.zip(wanted.chunks_exact(subject.n_cols())) {
            if found != written {
                sums.add(row(subject, x, found, written)?);
            }
        }
        Ok(sums)
    };
    let mut sums = Sums::default();
    fold_rows(info, info.row_bytes(), watch, part, |part| sums.add(part))?;
    Ok(sums)
}

/// A row whose bytes differ.
fn row(subject: &Subject<'_>, x: &[f32], found: &[u8], written: &[u8]) -> Result<Sums> {
    let ty = subject.ty();
    if is_float(ty) {
        return Ok(Sums { n_rows: 1, ..Sums::default() });
    }
    let (q, r) = (subject.decoded(ty, found)?, subject.decoded(ty, written)?);
    let layout = ty.layout();
    let (len, bytes) = (layout.block_len as usize, layout.block_bytes as usize);
    let mut sums = Sums { n_rows: 1, n: x.len() as u64, ..Sums::default() };
    sums.misplaced = misplaced(ty, found, &q, x);
    let blocks = found.chunks_exact(bytes).zip(written.chunks_exact(bytes)).enumerate();
    for (i, (found, written)) in blocks {
        let place = i * len..(i + 1) * len;
        let (x, q, r) = (&x[place.clone()], &q[place.clone()], &r[place]);
        let mut block = Sums::default();
        for ((x, q), r) in x.iter().zip(q).zip(r) {
            let (x, e, r) = (f64::from(*x), f64::from(q - x), f64::from(r - x));
            block.xx += x * x;
            block.ee += e * e;
            block.rr += r * r;
            block.ex += e * x;
            block.rx += r * x;
        }
        if found != written {
            sums.block = sums.block.max(ratio(block.ee, block.rr, block.xx));
            let more = misplaced(ty, found, q, x).zip(misplaced(ty, written, r, x));
            let more = more.map_or(0, |(found, written)| found.saturating_sub(written));
            sums.misplaced_in_block = sums.misplaced_in_block.max(more);
        }
        sums.xx += block.xx;
        sums.ee += block.ee;
        sums.rr += block.rr;
        sums.ex += block.ex;
        sums.rx += block.rx;
    }
    sums.row = ratio(sums.ee, sums.rr, sums.xx);
    Ok(sums)
}

/// See [`Figures::direction`].
fn direction(subject: &Subject<'_>, how: Recoding) -> Result<f64> {
    let n_rows = subject.tensor.info.n_rows();
    let most = SEARCHED.min(SEARCHED_ELEMENTS / subject.tensor.info.n_cols().max(1)).max(1);
    let step = n_rows.div_ceil(most).max(1);
    let (mut errors, mut usual, mut sizes) = (Vec::new(), Vec::new(), Vec::new());
    for row in (0..n_rows).step_by(step as usize) {
        let rows = row..row + 1;
        let x = subject.wanted(rows.clone())?;
        let q = subject.decoded(subject.ty(), subject.tensor.rows(rows.clone()))?;
        let r = subject.decoded(subject.ty(), &subject.written(rows, &x, how)?)?;
        sizes.push(x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt());
        errors.extend(q.iter().zip(&x).map(|(q, x)| q - x));
        usual.extend(r.iter().zip(&x).map(|(r, x)| r - x));
    }
    let n_cols = subject.n_cols();
    let (found, usual) =
        (longest_share(&errors, n_cols, &sizes), longest_share(&usual, n_cols, &sizes));
    Ok(if usual > 0.0 { found / usual } else { 1.0 })
}
