//! Weights of eight bits with scales beside them, as DeepSeek and Qwen publish them.

use half::f16;
use safetensors::tensor::Dtype;

use super::config::Config;
use super::error::{Error, Result};
use super::folder::{Checkpoint, Entry};
use super::rows::{element_bytes, to_f32};

/// What a tensor's name ends in that holds the scales of another.
pub(super) const SCALES: &str = "_scale_inv";
/// Endings of scales of activations, which llama.cpp does not use.
pub(super) const UNUSED: [&str; 2] = [".activation_scale", "_activation_scale"];

/// The scales of a matrix: one for each block of rows and columns.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scales {
    values: Vec<f32>,
    /// Rows and columns of a block.
    block: [u64; 2],
    /// Blocks beside each other.
    across: u64,
}

impl Scales {
    /// Reads the scales `entry` of the matrix `name` of `shape`, rows first.
    ///
    /// # Errors
    /// Their shape is another than the matrix needs.
    pub(super) fn read(
        checkpoint: &Checkpoint,
        name: &str,
        shape: &[u64],
        entry: &Entry,
    ) -> Result<Scales> {
        let [n_rows, n_cols] = *shape else { return Err(dtype_error(name, entry)) };
        let n_blocks = |n: u64, of: u64| n.div_ceil(of.max(1));
        let block = match (block_size(&checkpoint.config)?, entry.shape.as_slice()) {
            (_, [] | [1]) => [n_rows, n_cols],
            (Some(block), _) => block,
            (None, _) => [1, n_cols],
        };
        let expected = [n_blocks(n_rows, block[0]), n_blocks(n_cols, block[1])];
        let found = entry.shape.iter().product::<u64>();
        let fits = entry.shape == expected || (expected[1] == 1 && found == expected[0]);
        if !fits {
            let (tensor, found) = (format!("{name}{SCALES}"), entry.shape.clone());
            return Err(Error::WrongShape { tensor, found, expected: expected.to_vec() });
        }
        if element_bytes(entry.dtype).is_none() {
            return Err(dtype_error(name, entry));
        }
        let mut values = vec![0.0; found as usize];
        to_f32(entry.dtype, checkpoint.data(entry), &mut values);
        Ok(Scales { values, block, across: expected[1] })
    }

    /// Multiplies the elements of row `row` by their scales.
    pub(super) fn scale(&self, row: u64, elements: &mut [f32]) {
        let first = row / self.block[0] * self.across;
        let blocks = elements.chunks_mut(self.block[1].max(1) as usize);
        for (i, block) in blocks.enumerate() {
            let scale = self.values[first as usize + i];
            block.iter_mut().for_each(|x| *x *= scale);
        }
    }
}

/// True for the types that need scales.
pub(super) fn is_fp8(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F8_E4M3 | Dtype::F8_E5M2)
}

/// An element of eight bits as a number: of OCP's formats E4M3 (which has no infinity) and E5M2.
pub(super) fn fp8(dtype: Dtype, bits: u8) -> f32 {
    if dtype == Dtype::F8_E5M2 {
        // The upper half of an F16.
        return f16::from_bits(u16::from(bits) << 8).to_f32();
    }
    let mantissa = f32::from(bits & 7);
    let exponent = i32::from(bits >> 3 & 15);
    let size = match (exponent, bits & 7) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa * 2f32.powi(-9),
        _ => (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 7),
    };
    if bits & 0x80 == 0 { size } else { -size }
}

/// Rows and columns that share a scale; None where the whole matrix or each row has one.
fn block_size(config: &Config) -> Result<Option<[u64; 2]>> {
    let quantization = config.object("quantization_config")?;
    let Some(quantization) = quantization else { return Ok(None) };
    let Some(sizes) = quantization.numbers("weight_block_size")? else { return Ok(None) };
    match sizes.as_slice() {
        &[rows, cols] if rows >= 1.0 && cols >= 1.0 => Ok(Some([rows as u64, cols as u64])),
        _ => {
            let found = quantization.get("weight_block_size").cloned().unwrap_or_default();
            Err(quantization.wrong("weight_block_size", &found, "two numbers of 1 or more"))
        }
    }
}

fn dtype_error(name: &str, entry: &Entry) -> Error {
    let found = format!("{:?}", entry.dtype);
    Error::Dtype { tensor: format!("{name}{SCALES}"), found }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_and_the_smallest_numbers_are_those_of_the_formats() {
        for (bits, expected) in [
            (0x00, 0.0),
            (0x01, 2f32.powi(-9)),
            (0x08, 2f32.powi(-6)),
            (0x38, 1.0),
            (0x7e, 448.0),
            (0xfe, -448.0),
        ] {
            assert_eq!(fp8(Dtype::F8_E4M3, bits), expected, "{bits:x}");
        }
        assert!(fp8(Dtype::F8_E4M3, 0x7f).is_nan());
        assert_eq!(fp8(Dtype::F8_E5M2, 0x7b), 57_344.0);
        assert_eq!(fp8(Dtype::F8_E5M2, 0x7c), f32::INFINITY);
    }

    #[test]
    fn a_block_of_rows_and_columns_shares_a_scale() {
        let scales = Scales { values: vec![1.0, 2.0, 3.0, 4.0], block: [2, 3], across: 2 };
        let row = |row| {
            let mut elements = vec![1.0; 4];
            scales.scale(row, &mut elements);
            elements
        };
        assert_eq!(row(1), [1.0, 1.0, 1.0, 2.0]);
        assert_eq!(row(2), [3.0, 3.0, 3.0, 4.0]);
    }
}
