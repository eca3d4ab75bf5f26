//! The scale that a file may hold beside a matrix, e.g. NVFP4's `blk.N.ffn_down.scale`: one value,
//! or one per expert. Where it applies decides what an edit outside the file has to be.
//!
//! ```text
//! s (W x) + B A x + b        attn_output, ssm_out, experts
//! s (W x + B A x) + b        attn_output of glm4, glm4moe and jais2
//! s (W x + B A x + b)        ffn_down, ffn_down_shexp
//! ```
//! Source: `build_lora_mm`, `build_lora_mm_id`, `build_ffn` and `build_attn` of llama.cpp's
//! `src/llama-graph.cpp`.

use super::error::Result;
use crate::gguf::Model;
use crate::llama::graph::{Link, Part, Writer};
use crate::quant::decoded;

/// Architectures whose attention is scaled after its adapter.
const SCALED_LATE: [&str; 3] = ["glm4", "glm4moe", "jais2"];

/// Its MLP is not built by `build_ffn`, and is scaled as attention is.
const BITNET: &str = "bitnet";

/// What the products of a tensor's matrices are multiplied by.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scale {
    /// One value, or one per matrix; empty if there is no scale.
    values: Vec<f32>,
    of_adapter: bool,
    of_bias: bool,
}

impl Scale {
    /// The scale of a residual writer of `model`.
    pub(super) fn of(model: &Model, writer: &Writer) -> Result<Scale> {
        let is_scale = |link: &Link| matches!(link, Link::Scale(_));
        let at = writer.links.iter().position(is_scale);
        let values = match at.map(|at| &writer.links[at]) {
            Some(Link::Scale(name)) => match model.tensor(name) {
                Some(scale) => decoded(scale, 0..scale.info.n_rows())?,
                None => Vec::new(),
            },
            _ => Vec::new(),
        };
        let before = &writer.links[..at.unwrap_or(0)];
        let of_bias = before.iter().any(|link| matches!(link, Link::Bias(_)));
        // The graph without an adapter does not show where one would enter.
        let dense = writer.part == Part::Mlp && !writer.experts && model.architecture() != BITNET;
        let late = writer.part == Part::Attention && SCALED_LATE.contains(&model.architecture());
        Ok(Scale { values, of_adapter: dense || late, of_bias })
    }

    /// True if the file holds one.
    pub(super) fn is_there(&self) -> bool {
        !self.values.is_empty()
    }

    /// True if it multiplies an adapter's part as well.
    pub(super) fn is_of_adapter(&self) -> bool {
        self.of_adapter
    }

    /// The factor that an adapter's part for `matrix` needs.
    pub(super) fn for_adapter(&self, matrix: usize) -> f64 {
        if self.of_adapter { 1.0 } else { self.at(matrix) }
    }

    /// A bias in the units of the bare product `W x`.
    pub(super) fn bias_before(&self, bias: f64) -> f64 {
        let before = if self.of_bias { bias } else { bias / self.at(0) };
        if before.is_finite() { before } else { 0.0 }
    }

    fn at(&self, matrix: usize) -> f64 {
        self.values.get(matrix).or(self.values.first()).map_or(1.0, |s| f64::from(*s))
    }
}
