//! ggml's tensor types as the file stores them: id, elements a block, bytes a block.
//!
//! Source: `enum ggml_type` and the block structs of llama.cpp's `ggml/src/ggml-common.h`.
//! Ids 4, 5, 31 to 33 and 36 to 38 belonged to types that llama.cpp has removed.

use std::fmt;

/// How a type's elements lie in the file. A type stores its elements in blocks of equal size, one
/// after another; plain numbers are blocks of one element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Elements of a block; 1 for plain numbers.
    pub block_len: u64,
    /// Bytes of a block.
    pub block_bytes: u64,
}

macro_rules! ggml_types {
    ($(
        $(#[$doc:meta])*
        $variant:ident = $id:literal, $name:literal, $len:literal / $bytes:expr;
    )*) => {
        /// A tensor's element type, by ggml's own name. The lines below name the fields of a block,
        /// in their order: `d` is the f16 scale, `m` or `dmin` the f16 minimum.
        #[allow(non_camel_case_types)]
        #[non_exhaustive]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum GgmlType { $($(#[$doc])* $variant = $id,)* }

        impl GgmlType {
            /// Every type that a file may hold, by ascending id.
            pub const ALL: &'static [GgmlType] = &[$(GgmlType::$variant,)*];

            /// The type with ggml's id; None if llama.cpp has removed it, or if it is newer than
            /// this crate.
            #[must_use]
            pub const fn from_id(id: u32) -> Option<GgmlType> {
                match id { $($id => Some(GgmlType::$variant),)* _ => None }
            }

            /// The name that `ggml_type_name` gives, in capitals: `Q4_K`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(GgmlType::$variant => $name,)* }
            }

            /// Elements and bytes of a block.
            #[must_use]
            pub const fn layout(self) -> Layout {
                match self {
                    $(GgmlType::$variant => Layout { block_len: $len, block_bytes: $bytes },)*
                }
            }
        }
    };
}

/// Bytes of an f16 scale (`ggml_half`).
const HALF: u64 = 2;

// Each size is spelled as the sum of the block's fields, in their order in ggml-common.h.
ggml_types! {
    /// IEEE 754 binary32.
    F32 = 0, "F32", 1 / 4;
    /// IEEE 754 binary16.
    F16 = 1, "F16", 1 / 2;
    /// d, 32 4-bit values.
    Q4_0 = 2, "Q4_0", 32 / (HALF + 16);
    /// d, m, 32 4-bit values.
    Q4_1 = 3, "Q4_1", 32 / (2 * HALF + 16);
    /// d, the fifth bits, 32 4-bit values.
    Q5_0 = 6, "Q5_0", 32 / (HALF + 4 + 16);
    /// d, m, the fifth bits, 32 4-bit values.
    Q5_1 = 7, "Q5_1", 32 / (2 * HALF + 4 + 16);
    /// d, 32 i8.
    Q8_0 = 8, "Q8_0", 32 / (HALF + 32);
    /// d, d times the sum of the values, 32 i8. For activations only.
    Q8_1 = 9, "Q8_1", 32 / (2 * HALF + 32);
    /// 16 4-bit scales and minima, 2-bit values, d, dmin.
    Q2_K = 10, "Q2_K", 256 / (16 + 64 + 2 * HALF);
    /// The third bits, 2-bit values, 16 6-bit scales, d.
    Q3_K = 11, "Q3_K", 256 / (32 + 64 + 12 + HALF);
    /// d, dmin, 8 6-bit scales and minima, 4-bit values.
    Q4_K = 12, "Q4_K", 256 / (2 * HALF + 12 + 128);
    /// d, dmin, 8 6-bit scales and minima, the fifth bits, 4-bit values.
    Q5_K = 13, "Q5_K", 256 / (2 * HALF + 12 + 32 + 128);
    /// The low 4 bits, the high 2 bits, 16 i8 scales, d.
    Q6_K = 14, "Q6_K", 256 / (128 + 64 + 16 + HALF);
    /// An f32 scale, 256 i8, 16 i16 sums. For activations only.
    Q8_K = 15, "Q8_K", 256 / (4 + 256 + 32);
    /// d, 32 u16 of grid indices, signs and scales.
    IQ2_XXS = 16, "IQ2_XXS", 256 / (HALF + 64);
    /// d, 32 u16 of grid indices and signs, scales.
    IQ2_XS = 17, "IQ2_XS", 256 / (HALF + 64 + 8);
    /// d, 64 grid indices, signs and scales.
    IQ3_XXS = 18, "IQ3_XXS", 256 / (HALF + 96);
    /// d, the low bits of grid indices, 8 u16 of their high bits and scales.
    IQ1_S = 19, "IQ1_S", 256 / (HALF + 32 + 16);
    /// d, 32 4-bit indices into a table of 16 values.
    IQ4_NL = 20, "IQ4_NL", 32 / (HALF + 16);
    /// d, the low and the high bits of grid indices, signs, scales.
    IQ3_S = 21, "IQ3_S", 256 / (HALF + 64 + 8 + 32 + 4);
    /// d, the low bits of grid indices and signs, their high bits, scales.
    IQ2_S = 22, "IQ2_S", 256 / (HALF + 64 + 8 + 8);
    /// d, the high and the low bits of scales, 4-bit indices into the table of IQ4_NL.
    IQ4_XS = 23, "IQ4_XS", 256 / (HALF + 2 + 4 + 128);
    /// Signed integers of 8 bits.
    I8 = 24, "I8", 1 / 1;
    /// Signed integers of 16 bits.
    I16 = 25, "I16", 1 / 2;
    /// Signed integers of 32 bits.
    I32 = 26, "I32", 1 / 4;
    /// Signed integers of 64 bits.
    I64 = 27, "I64", 1 / 8;
    /// IEEE 754 binary64.
    F64 = 28, "F64", 1 / 8;
    /// The low bits of grid indices, their high bits, scales with d in their high bits.
    IQ1_M = 29, "IQ1_M", 256 / (32 + 16 + 8);
    /// The upper half of an f32.
    BF16 = 30, "BF16", 1 / 2;
    /// Five ternary digits a byte, the remaining 16 at four a byte, d.
    TQ1_0 = 34, "TQ1_0", 256 / (48 + 4 + HALF);
    /// 2-bit values, d.
    TQ2_0 = 35, "TQ2_0", 256 / (64 + HALF);
    /// An 8-bit exponent, 32 4-bit floats (E2M1).
    MXFP4 = 39, "MXFP4", 32 / (1 + 16);
    /// Four 8-bit float scales, 64 4-bit floats (E2M1).
    NVFP4 = 40, "NVFP4", 64 / (4 + 32);
    /// d, 128 bits.
    Q1_0 = 41, "Q1_0", 128 / (HALF + 16);
    /// d, 64 2-bit values.
    Q2_0 = 42, "Q2_0", 64 / (HALF + 16);
}

impl GgmlType {
    /// ggml's id, as the file stores it.
    #[must_use]
    pub const fn id(self) -> u32 {
        self as u32
    }

    /// The type of that name, in capitals or not (`q4_k`, `Q4_K`).
    #[must_use]
    pub fn from_name(name: &str) -> Option<GgmlType> {
        GgmlType::ALL.iter().copied().find(|t| t.name().eq_ignore_ascii_case(name))
    }

    /// Bytes of `n` elements; None if `n` is not a whole number of blocks or the product
    /// overflows.
    #[must_use]
    pub const fn bytes_for(self, n: u64) -> Option<u64> {
        let Layout { block_len, block_bytes } = self.layout();
        if !n.is_multiple_of(block_len) {
            return None;
        }
        (n / block_len).checked_mul(block_bytes)
    }

    /// True for types that store elements in blocks with a scale; false for plain numbers.
    #[must_use]
    pub const fn is_quantized(self) -> bool {
        self.layout().block_len > 1
    }

    /// True for plain integers, which have no scale: indices, not weights.
    #[must_use]
    pub const fn is_integer(self) -> bool {
        matches!(self, GgmlType::I8 | GgmlType::I16 | GgmlType::I32 | GgmlType::I64)
    }
}

impl fmt::Display for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

// The published numbers, once more and independently of the sums above.
const _: () = {
    const EXPECTED: &[(u32, u64, u64)] = &[
        (2, 32, 18),
        (3, 32, 20),
        (6, 32, 22),
        (7, 32, 24),
        (8, 32, 34),
        (9, 32, 36),
        (10, 256, 84),
        (11, 256, 110),
        (12, 256, 144),
        (13, 256, 176),
        (14, 256, 210),
        (15, 256, 292),
        (16, 256, 66),
        (17, 256, 74),
        (18, 256, 98),
        (19, 256, 50),
        (20, 32, 18),
        (21, 256, 110),
        (22, 256, 82),
        (23, 256, 136),
        (29, 256, 56),
        (34, 256, 54),
        (35, 256, 66),
        (39, 32, 17),
        (40, 64, 36),
        (41, 128, 18),
        (42, 64, 18),
    ];
    let mut i = 0;
    while i < EXPECTED.len() {
        let (id, len, bytes) = EXPECTED[i];
        let Some(ty) = GgmlType::from_id(id) else { panic!("a type is missing") };
        let layout = ty.layout();
        assert!(layout.block_len == len && layout.block_bytes == bytes);
        i += 1;
    }
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_lead_back_to_the_type() {
        for &t in GgmlType::ALL {
            assert_eq!(GgmlType::from_id(t.id()), Some(t));
            assert_eq!(GgmlType::from_name(&t.name().to_lowercase()), Some(t));
        }
        for gone in [4, 5, 31, 32, 33, 36, 37, 38, 43, u32::MAX] {
            assert_eq!(GgmlType::from_id(gone), None);
        }
    }

    #[test]
    fn a_part_of_a_block_has_no_size() {
        assert_eq!(GgmlType::Q4_K.bytes_for(512), Some(288));
        assert_eq!(GgmlType::Q4_K.bytes_for(576), None);
        assert_eq!(GgmlType::F32.bytes_for(u64::MAX), None);
    }
}
