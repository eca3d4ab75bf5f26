//! AWQ's own quantizer: 4 bits, groups of 128 columns, and how ggml's blocks hold it.
//!
//! ```text
//! asymmetric  sc = max(max w - min w, 1e-5) / 15     z = clamp(-rint(min w / sc), 0, 15)
//! symmetric   sc = max(max |w|, 1e-5) / 7            z = 8
//!             q = clamp(rint(w / sc) + z, 0, 15)     w = (q - z) * sc
//!
//! block_q4_1:   d = sc, m = -z sc
//! block_q4_0:   d = sc
//! ```
//! Source: mit-han-lab/llm-awq, `pseudo_quantize_tensor`. A group is four
//! blocks with the same d and m. Arithmetic is f32, halves round to even.

use rayon::prelude::*;

use super::error::{Error, Result};
use crate::gguf::GgmlType;
use crate::quant::write_block;

/// Columns that share a scale.
pub const GROUP: usize = 128;
/// Columns of ggml's blocks.
const BLOCK_LEN: usize = 32;
/// Smallest range of a group, so that zeros have a scale.
const MIN_RANGE: f32 = 1e-5;
/// Highest integer of 4 bits.
const MAX_INT: f32 = 15.0;
/// Largest positive integer of the symmetric scheme: -8 to 7, stored with 8 added.
const MAX_SYMMETRIC: f32 = 7.0;
/// Clips tried: the range shrunk by `i / CLIP_STEPS`, for i below `N_CLIPS`.
const CLIP_STEPS: f32 = 20.0;
const N_CLIPS: usize = 10;

/// Which of the two grids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// With a zero point; stored as Q4_1.
    Asymmetric,
    /// Around 0; stored as Q4_0.
    Symmetric,
}

/// Scale and zero point of a group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grid {
    /// Width of a step.
    pub scale: f32,
    /// The integer that stands for 0.
    pub zero: u8,
}

impl Scheme {
    /// The type whose blocks hold the integers.
    pub fn ggml_type(self) -> GgmlType {
        match self {
            Scheme::Asymmetric => GgmlType::Q4_1,
            Scheme::Symmetric => GgmlType::Q4_0,
        }
    }

    /// The grid of one group of weights.
    pub fn grid(self, group: &[f32]) -> Grid {
        let least = group.iter().copied().fold(f32::INFINITY, f32::min);
        let most = group.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        match self {
            Scheme::Asymmetric => {
                let scale = (most - least).max(MIN_RANGE) / MAX_INT;
                let zero = (-(least / scale).round_ties_even()).clamp(0.0, MAX_INT) as u8;
                Grid { scale, zero }
            }
            Scheme::Symmetric => {
                let scale = most.abs().max(least.abs()).max(MIN_RANGE) / MAX_SYMMETRIC;
                Grid { scale, zero: 8 }
            }
        }
    }
}

impl Grid {
    /// The integer nearest to a weight, 0 to 15.
    pub fn int(self, w: f32) -> u8 {
        ((w / self.scale).round_ties_even() + f32::from(self.zero)).clamp(0.0, MAX_INT) as u8
    }

    /// The weight that an integer stands for.
    pub fn value(self, int: u8) -> f32 {
        (f32::from(int) - f32::from(self.zero)) * self.scale
    }
}

/// Rounds rows, `[n_rows, n_cols]`, to their groups' grids in place, with scales in f32 like the
/// reference.
///
/// # Errors
/// A row is not a whole number of groups.
pub fn round_rows(rows: &mut [f32], n_cols: usize, scheme: Scheme) -> Result<()> {
    check_width(rows.len(), n_cols)?;
    for group in rows.chunks_exact_mut(GROUP) {
        let grid = scheme.grid(group);
        group.iter_mut().for_each(|w| *w = grid.value(grid.int(*w)));
    }
    Ok(())
}

/// Encodes rows, `[n_rows, n_cols]`, into [`Scheme::ggml_type`]'s blocks.
///
/// # Errors
/// A row is not a whole number of groups, or `out` has another length than the result.
pub fn encode(rows: &[f32], n_cols: usize, scheme: Scheme, out: &mut [u8]) -> Result<()> {
    check_width(rows.len(), n_cols)?;
    let expected = scheme.ggml_type().bytes_for(rows.len() as u64).unwrap_or(0) as usize;
    if out.len() != expected {
        return Err(Error::Length { what: "bytes of 4-bit groups", found: out.len(), expected });
    }
    let group_bytes = scheme.ggml_type().bytes_for(GROUP as u64).unwrap_or(0) as usize;
    let groups = rows.par_chunks_exact(GROUP).zip(out.par_chunks_exact_mut(group_bytes));
    groups.for_each(|(group, out)| {
        let grid = scheme.grid(group);
        let blocks = out.chunks_exact_mut(group_bytes / (GROUP / BLOCK_LEN));
        for (block, weights) in blocks.zip(group.as_chunks::<BLOCK_LEN>().0) {
            encode_block(grid, scheme, weights, block);
        }
    });
    Ok(())
}

fn encode_block(grid: Grid, scheme: Scheme, weights: &[f32; BLOCK_LEN], block: &mut [u8]) {
    let minimum = match scheme {
        Scheme::Symmetric => None,
        // From 0, not negated: a zero point of 0 gives 0, not -0.
        Scheme::Asymmetric => Some(0.0 - f32::from(grid.zero) * grid.scale),
    };
    write_block(grid.scale, minimum, &weights.map(|w| grid.int(w)), block);
}

/// AWQ's clip search on rows, `[n_rows, n_cols]`, in place: per row and group the range `max |w|`
/// is shrunk so that the output's error is smallest, and the weights beyond it are moved to its
/// ends. `mean_sq` is E[x^2] of each column's input, `[n_cols]`, which replaces the inputs
/// themselves (their products with each other are left out).
///
/// # Errors
/// A row is not a whole number of groups, or `mean_sq` is of another width.
pub fn clip_rows(rows: &mut [f32], n_cols: usize, mean_sq: &[f32], scheme: Scheme) -> Result<()> {
    check_width(rows.len(), n_cols)?;
    if mean_sq.len() != n_cols {
        let what = "mean squares of the input";
        return Err(Error::Length { what, found: mean_sq.len(), expected: n_cols });
    }
    rows.par_chunks_exact_mut(n_cols).for_each(|row| {
        let groups = row.chunks_exact_mut(GROUP).zip(mean_sq.chunks_exact(GROUP));
        groups.for_each(|(group, mean_sq)| clip_group(group, mean_sq, scheme));
    });
    Ok(())
}

fn clip_group(group: &mut [f32], mean_sq: &[f32], scheme: Scheme) {
    let most = group.iter().map(|w| w.abs()).fold(0.0, f32::max);
    let mut clipped = [0.0f32; GROUP];
    let mut best = (f64::INFINITY, most);
    for i in 0..N_CLIPS {
        let limit = most * (1.0 - i as f32 / CLIP_STEPS);
        clipped.iter_mut().zip(&*group).for_each(|(c, w)| *c = w.clamp(-limit, limit));
        let grid = scheme.grid(&clipped);
        let error = |((c, w), x2): ((&f32, &f32), &f32)| {
            let difference = f64::from(grid.value(grid.int(*c))) - f64::from(*w);
            f64::from(*x2) * difference * difference
        };
        let loss: f64 = clipped.iter().zip(&*group).zip(mean_sq).map(error).sum();
        // The first of equals: the widest.
        if loss < best.0 {
            best = (loss, limit);
        }
    }
    group.iter_mut().for_each(|w| *w = w.clamp(-best.1, best.1));
}

fn check_width(n: usize, n_cols: usize) -> Result<()> {
    match n_cols > 0 && n_cols.is_multiple_of(GROUP) && n.is_multiple_of(n_cols) {
        true => Ok(()),
        false => Err(Error::Width { n_cols, len: GROUP }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::compress::golden::Golden;
    use crate::quant::decode_rows;

    const SCHEMES: [(&str, Scheme); 2] =
        [("asymmetric", Scheme::Asymmetric), ("symmetric", Scheme::Symmetric)];

    #[test]
    fn integers_scales_zeros_and_bytes_are_the_references() {
        let golden = Golden::open("awq");
        let (weight, n_cols) = (golden.f32("weight.0"), golden.shape("weight.0")[1]);
        for (name, scheme) in SCHEMES {
            let part = |what: &str| format!("{name}.{what}");
            let (scales, zeros) = (golden.f32(&part("scale")), golden.u8(&part("zero")));
            let ints = golden.u8(&part("ints"));
            for (i, group) in weight.chunks(GROUP).enumerate() {
                let grid = scheme.grid(group);
                assert_eq!((grid.scale, grid.zero), (scales[i], zeros[i]), "{name} {i}");
                let found: Vec<u8> = group.iter().map(|w| grid.int(*w)).collect();
                assert_eq!(found, ints[i * GROUP..][..GROUP], "{name} {i}");
            }
            let mut rounded = weight.clone();
            round_rows(&mut rounded, n_cols, scheme).unwrap();
            assert_eq!(rounded, golden.f32(&part("rounded")), "{name}");
            let expected = golden.u8(&part("bytes"));
            let mut bytes = vec![0; expected.len()];
            encode(&weight, n_cols, scheme, &mut bytes).unwrap();
            assert!(bytes == expected, "{name}");
        }
    }

    #[test]
    fn clips_are_the_references() {
        let golden = Golden::open("awq");
        let n_cols = golden.shape("weight.0")[1];
        for (name, scheme) in SCHEMES {
            let mut rows = golden.f32("weight.0");
            let before = rows.clone();
            clip_rows(&mut rows, n_cols, &golden.f32("mean_sq"), scheme).unwrap();
            assert_ne!(rows, before, "{name}: nothing to clip");
            assert_eq!(rows, golden.f32(&format!("{name}.clipped")), "{name}");
        }
    }

    #[test]
    fn ggml_reads_the_blocks_as_the_grid_means_them() {
        let weight: Vec<f32> = (0..512).map(|i| (i as f32 * 0.7).sin() + 0.3).collect();
        for (name, scheme) in SCHEMES {
            let ty = scheme.ggml_type();
            let mut bytes = vec![0; ty.bytes_for(512).unwrap() as usize];
            encode(&weight, 256, scheme, &mut bytes).unwrap();
            let (mut back, mut rounded) = (vec![0.0; 512], weight.clone());
            decode_rows(ty, &bytes, 256, &mut back).unwrap();
            round_rows(&mut rounded, 256, scheme).unwrap();
            // The file's scales are f16.
            let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 2e-3;
            assert!(back.iter().zip(&rounded).all(close), "{name}");
        }
    }

    #[test]
    fn rows_that_are_no_groups_are_an_error() {
        let mut rows = [0.5; 192];
        let error = round_rows(&mut rows, 192, Scheme::Symmetric).unwrap_err();
        assert!(matches!(error, Error::Width { n_cols: 192, len: GROUP }));
        assert!(encode(&rows[..128], 128, Scheme::Symmetric, &mut [0; 71]).is_err());
        let short = clip_rows(&mut rows[..128], 128, &[1.0; 64], Scheme::Symmetric);
        assert!(matches!(short, Err(Error::Length { .. })));
    }

    proptest! {
        #[test]
        fn rounding_moves_a_weight_by_half_a_step_and_zeros_stay(
            group in prop::collection::vec(prop_oneof![3 => -2f32..2.0, 1 => Just(0.0)], GROUP)
        ) {
            let mut rounded = group.clone();
            round_rows(&mut rounded, GROUP, Scheme::Asymmetric).unwrap();
            let grid = Scheme::Asymmetric.grid(&group);
            for (w, r) in group.iter().zip(rounded) {
                // The zero point is rounded as well: the ends may lose another half step.
                prop_assert!((w - r).abs() <= grid.scale * 1.001 || w.abs() > 2.0 - grid.scale);
                prop_assert!(*w != 0.0 || r == 0.0);
            }
        }
    }
}
