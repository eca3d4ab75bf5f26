//! Compression as pure functions on rows and matrices: which weights become zero, how the others
//! are rounded, and which scales make the rounding harmless.
//!
//! Pruning: [`Score`] x [`Pattern`] per row, [`HighCounts`] for a whole matrix, [`owl`] for the
//! sparsity of each block. Quantizing: [`AwqSearch`] for AWQ's scales, [`groups`] and [`Folds`] for
//! where they go, [`faithful`] and [`int8`] for the references' own grids.

mod allocation;
mod awq;
mod error;
pub mod faithful;
mod fold;
mod group;
pub mod int8;
mod mask;
mod matrices;
mod prune;
mod quantize;
mod scales;
mod score;
mod stay;
mod threshold;
mod types;

pub use allocation::{ScoreMean, count_outliers, owl, uniform};
pub use awq::{
    AwqCandidate, AwqFound, AwqSearch, AwqVariant, Linear, Rounding, WeightMeans, importance,
    search,
};
pub use error::{Error, Result};
pub use fold::{Folds, Scaling, scale_group};
pub use group::{Axis, Expert, Group, SharedHeads, Source, groups};
pub use mask::{Pattern, n_lowest, prune_rows, zero_lowest, zero_of_each};
pub use prune::{Count, Method, Target, owl_allocation, prune, targets};
pub use quantize::{Assignment, Coding, Quantizing, TypeOf, assign, lacks_importance, quantize};
pub use scales::{GroupReport, find_scales};
pub use score::{Score, add_column_sums, input_norms};
pub use stay::{Stayed, WhyStayed, stayed};
pub use threshold::{HighCounts, LowCounts, threshold_rank, zero_up_to};
pub use types::fitting;

/// What `scripts/golden-compress.py` computed by the references' formulas.
#[cfg(test)]
mod golden {
    use safetensors::{Dtype, SafeTensors};

    /// A file of `fixtures/compress`.
    pub(super) struct Golden {
        bytes: Vec<u8>,
    }

    impl Golden {
        pub(super) fn open(name: &str) -> Golden {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/compress");
            Golden { bytes: std::fs::read(format!("{folder}/{name}.safetensors")).unwrap() }
        }

        pub(super) fn shape(&self, name: &str) -> Vec<usize> {
            self.file().tensor(name).unwrap().shape().to_vec()
        }

        pub(super) fn f32(&self, name: &str) -> Vec<f32> {
            self.numbers(name, Dtype::F32, f32::from_le_bytes)
        }

        pub(super) fn f64(&self, name: &str) -> Vec<f64> {
            self.numbers(name, Dtype::F64, f64::from_le_bytes)
        }

        pub(super) fn f16(&self, name: &str) -> Vec<f32> {
            self.numbers(name, Dtype::F16, |b| half::f16::from_le_bytes(b).to_f32())
        }

        pub(super) fn i64(&self, name: &str) -> Vec<i64> {
            self.numbers(name, Dtype::I64, i64::from_le_bytes)
        }

        pub(super) fn i8(&self, name: &str) -> Vec<i8> {
            self.numbers(name, Dtype::I8, i8::from_le_bytes)
        }

        pub(super) fn u8(&self, name: &str) -> Vec<u8> {
            self.numbers(name, Dtype::U8, u8::from_le_bytes)
        }

        fn file(&self) -> SafeTensors<'_> {
            SafeTensors::deserialize(&self.bytes).unwrap()
        }

        fn numbers<const N: usize, T>(
            &self,
            name: &str,
            ty: Dtype,
            of: fn([u8; N]) -> T,
        ) -> Vec<T> {
            let file = self.file();
            let tensor = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(tensor.dtype(), ty, "{name}");
            tensor.data().as_chunks::<N>().0.iter().map(|&chunk| of(chunk)).collect()
        }
    }
}
