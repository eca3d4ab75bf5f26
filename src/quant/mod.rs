//! Rows of any ggml type as f32: decoding, encoding, comparing, and what may be converted.
//!
//! The type table itself is a fact of the file and lives in [`crate::gguf::GgmlType`]; the
//! codecs are ggml's own, called through [`crate::llama`].

mod along;
mod block;
mod compare;
mod convertible;
mod error;
mod finite;
mod grid;
mod levels;
mod misplaced;
mod onto;
mod preserve;
mod rows;
mod stream;
mod zeros;

pub use along::{realised_alpha, written_along};
pub use block::write_block;
pub use compare::{Comparison, compare, count_zeros, zeros_in};
pub use convertible::{is_block_matrix, is_convertible};
pub use error::{Error, Result};
pub use finite::{decode_finite, decoded_finite, find_non_finite, first_non_finite, non_finite_at};
pub use misplaced::misplaced;
pub use onto::{Mask, Onto, ZeroChooser, onto};
pub use preserve::{Along, Strengthened, Zeros, strengthen};
pub use rows::{decode_rows, decoded, encode_rows, encoded};
pub use stream::{fold_range, fold_rows};
pub use zeros::{PRUNED, PRUNED_SHARE, encode_pruned_rows, keeps_zeros};
