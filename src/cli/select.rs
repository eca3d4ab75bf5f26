//! Which tensors a verb is about, as the command line has it.

use clap::Args;
use regex::Regex;

use crate::verbs::{BlockRanges, TensorChoice};

/// Which tensors.
#[derive(Debug, Args)]
pub(super) struct TensorArgs {
    /// Only these blocks, e.g. 0-9,12; default: all.
    #[arg(long, value_name = "LIST")]
    blocks: Option<BlockRanges>,
    /// Tensors whose name matches; may be given several times. Default: all.
    #[arg(long, value_name = "REGEX")]
    include: Vec<Regex>,
    /// Tensors whose name matches stay as they are; may be given several times.
    #[arg(long, value_name = "REGEX")]
    exclude: Vec<Regex>,
}

impl TensorArgs {
    /// As the verbs take it.
    pub(super) fn choice(self) -> TensorChoice {
        TensorChoice { blocks: self.blocks, include: self.include, exclude: self.exclude }
    }
}
