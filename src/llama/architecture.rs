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

/// Architectures whose graphs were read: what of theirs writes into the residual stream has the
/// names of [`residual_writer`]. True where a norm with gains follows each writer.
///
/// In glm4moe, gpt-oss, seed_oss and others `post_attention_norm` stands before the MLP: names
/// alone do not tell.
const KNOWN: &[(&str, bool)] = &[
    ("llama", false),
    ("mistral3", false),
    ("qwen2", false),
    ("qwen2moe", false),
    ("qwen3", false),
    ("qwen3moe", false),
    ("olmoe", false),
    ("gemma", false),
    ("granite", false),
    ("internlm2", false),
    ("smollm3", false),
    ("seed_oss", false),
    ("phi3", false),
    ("command-r", false),
    ("gemma2", true),
    ("gemma3", true),
    ("olmo2", true),
    ("exaone4", true),
    ("glm4", true),
];

/// True if it is known what writes into the residual stream of `architecture`'s models, and how.
pub fn writers_are_known(architecture: &str) -> bool {
    KNOWN.iter().any(|(name, _)| *name == architecture)
}

/// The norm, without `blk.N.` and `.weight`, between what half `part` writes and the residual
/// stream; None if there is none.
pub fn output_norm(architecture: &str, part: Part) -> Option<&'static str> {
    let (_, normed) = KNOWN.iter().find(|(name, _)| *name == architecture)?;
    normed.then_some(match part {
        Part::Attention => "post_attention_norm",
        Part::Mlp => "post_ffw_norm",
    })
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
