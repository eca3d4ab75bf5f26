//! The job of a refit: what a matrix becomes.

use super::factors;
use super::report::Outcome;
use crate::compress::Pattern;
use crate::gguf::{GgmlType, TensorInfo};
use crate::llama::is_encodable;
use crate::quant::is_block_matrix;

/// What a matrix is fitted to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Towards {
    /// The original matrices' outputs, and for writers also what the residual stream has lost so
    /// far.
    Original {
        /// Ridge towards the original's weights, in means of the inputs' squares.
        prior: f32,
    },
    /// Its own weights: GPTQ (arXiv 2210.17323), SparseGPT (2301.00774).
    Itself {
        /// Damping: added to the inputs' squares, in means of them.
        damping: f32,
    },
}

/// What a matrix becomes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Job {
    /// It is swept onto a grid and zeros.
    Swept {
        /// The type after the sweep.
        ty: GgmlType,
        /// Which weights are zero.
        zeros: Zeros,
    },
    /// It stays, and two factors beside it compensate for its error: EoRA (arXiv 2410.21271).
    Beside {
        /// Rank of the factors.
        rank: usize,
    },
}

impl Job {
    /// The type of the matrix's replacement: in the file, or only meanwhile.
    pub(super) fn ty(&self) -> GgmlType {
        match self {
            Job::Swept { ty, .. } => *ty,
            Job::Beside { .. } => factors::TYPE,
        }
    }
}

/// The job of each matrix; None: it stays as it is.
pub type Jobs<'a> = &'a (dyn Fn(&TensorInfo) -> Option<Job> + Sync);

/// The job of a matrix, or why it stays.
pub(super) fn job_of(info: &TensorInfo, jobs: Jobs<'_>) -> std::result::Result<Job, Outcome> {
    let can = |job: &Job| is_block_matrix(info) && is_encodable(job.ty());
    jobs(info).filter(can).ok_or(Outcome::LeftAlone)
}

/// Which weights of a matrix are zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Zeros {
    /// Its current zeros, if the matrix was pruned.
    Own,
    /// The weights that cost least when the sweep reaches them.
    Least(Pattern),
}
