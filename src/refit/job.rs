//! What becomes of a matrix.

use super::factors;
use super::report::Outcome;
use crate::compress::Pattern;
use crate::gguf::{GgmlType, TensorInfo};
use crate::llama::is_encodable;
use crate::quant::is_block_matrix;

/// What a matrix is fitted to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Towards {
    /// What the original's matrices say, and for writers what the residual stream has lost by
    /// then.
    Original {
        /// Ridge towards the original's weights, in means of the inputs' squares.
        prior: f32,
    },
    /// Its own weights: GPTQ (arXiv 2210.17323), SparseGPT (2301.00774).
    Itself {
        /// What is added to the inputs' squares, in means of them.
        damping: f32,
    },
}

/// What a matrix becomes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Job {
    /// It is swept onto a grid and zeros.
    Swept {
        /// Its type then.
        ty: GgmlType,
        /// What of it is zero.
        zeros: Zeros,
    },
    /// It stays, and two factors beside it make up for what it lacks: EoRA (arXiv 2410.21271).
    Beside {
        /// Their rank.
        rank: usize,
    },
}

impl Job {
    /// The type of what takes the matrix's place: in the file, or meanwhile.
    pub(super) fn ty(&self) -> GgmlType {
        match self {
            Job::Swept { ty, .. } => *ty,
            Job::Beside { .. } => factors::TYPE,
        }
    }
}

/// What becomes of each matrix; None: it stays as it is.
pub type Jobs<'a> = &'a (dyn Fn(&TensorInfo) -> Option<Job> + Sync);

/// What becomes of a matrix, or why it stays.
pub(super) fn job_of(info: &TensorInfo, jobs: Jobs<'_>) -> std::result::Result<Job, Outcome> {
    let can = |job: &Job| is_block_matrix(info) && is_encodable(job.ty());
    jobs(info).filter(can).ok_or(Outcome::LeftAlone)
}

/// What of a matrix is zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Zeros {
    /// What is zero now, where the matrix was pruned.
    Own,
    /// What costs least when the sweep reaches it.
    Least(Pattern),
}
