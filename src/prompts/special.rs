//! The texts of a model's special tokens, which templates write.

use crate::gguf::Model;

/// Texts of special tokens; None where a model has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// Begins a text: `<s>`.
    pub bos: Option<String>,
    /// Ends an answer: `</s>`, `<|im_end|>`.
    pub eos: Option<String>,
    /// Stands for what has no token.
    pub unk: Option<String>,
    /// Pads sequences of a batch to one length.
    pub pad: Option<String>,
}

impl SpecialTokens {
    /// Those of a model's vocabulary: `tokenizer.ggml.*_token_id` are indices into
    /// `tokenizer.ggml.tokens`. An index that is out of range counts as none, as in llama.cpp.
    pub fn of(model: &Model) -> SpecialTokens {
        let tokens = model.kv().get("tokenizer.ggml.tokens").and_then(|tokens| tokens.as_array());
        let text = |name: &str| {
            let id = model.kv().get(&format!("tokenizer.ggml.{name}_token_id"))?.as_u64()?;
            let token = tokens?.iter().nth(usize::try_from(id).ok()?)?;
            token.as_str().map(str::to_owned)
        };
        SpecialTokens {
            bos: text("bos"),
            eos: text("eos"),
            unk: text("unknown"),
            pad: text("padding"),
        }
    }

    /// With the names that templates use.
    pub(super) fn named(&self) -> [(&'static str, Option<&str>); 4] {
        [
            ("bos_token", self.bos.as_deref()),
            ("eos_token", self.eos.as_deref()),
            ("unk_token", self.unk.as_deref()),
            ("pad_token", self.pad.as_deref()),
        ]
    }
}
