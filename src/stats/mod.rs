//! Activation statistics: the input of every linear layer while a model reads calibration text,
//! channel by channel; collected in one pass, kept in llama.cpp's importance-matrix files.

mod activation;
mod collect;
mod error;
mod imatrix;
mod legacy;
mod samples;

pub use activation::{About, InputStats, Stats};
pub use collect::{Collected, Sample, collect};
pub use error::{Error, Result};
pub use imatrix::{read, write, write_partial};
pub use samples::{choose, samples_sha256, windows};
