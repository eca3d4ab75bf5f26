//! What llama.cpp's architectures call their parts: which matrices write into the residual
//! stream.
//!
//! Source: the graphs in llama.cpp's `src/models/*.cpp` and the names in `src/llama-arch.cpp`.

/// Which half of a block a matrix ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// Attention, or the state-space or convolution mixer in its place.
    Attention,
    /// The MLP, experts and shared experts included.
    Mlp,
}

impl Part {
    /// `attention` or `mlp`.
    pub fn name(self) -> &'static str {
        match self {
            Part::Attention => "attention",
            Part::Mlp => "mlp",
        }
    }
}

/// Names, without `blk.N.` and `.weight`, of the matrices whose rows are residual channels.
const WRITERS: &[(&str, Part)] = &[
    ("attn_output", Part::Attention),
    ("attn_out", Part::Attention),
    ("ssm_out", Part::Attention),
    ("shortconv.out_proj", Part::Attention),
    ("time_mix_output", Part::Attention),
    ("ffn_down", Part::Mlp),
    ("ffn_down_exps", Part::Mlp),
    ("ffn_down_shexp", Part::Mlp),
    ("channel_mix_value", Part::Mlp),
];

/// The half that tensor `name` ends, if it is a matrix that writes into the residual stream.
pub fn residual_writer(name: &str) -> Option<Part> {
    let (_, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    let stem = rest.strip_suffix(".weight")?;
    WRITERS.iter().find(|(writer, _)| *writer == stem).map(|&(_, part)| part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_are_known_by_name_and_half() {
        assert_eq!(residual_writer("blk.11.attn_output.weight"), Some(Part::Attention));
        assert_eq!(residual_writer("blk.0.ffn_down_exps.weight"), Some(Part::Mlp));
        assert_eq!(residual_writer("blk.0.ffn_down.bias"), None);
        assert_eq!(residual_writer("blk.0.ffn_up.weight"), None);
        assert_eq!(residual_writer("output.weight"), None);
    }
}
