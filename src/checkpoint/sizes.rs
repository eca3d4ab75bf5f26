//! The sizes of a model: the lengths that its tensors' shapes are made of.

use super::config::Config;
use super::error::Result;

/// A length of a tensor's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::checkpoint) enum Dim {
    /// Tokens.
    Vocab,
    /// The residual stream.
    Embd,
    /// All queries together.
    Q,
    /// All keys together, or all values.
    Kv,
    /// All queries, keys and values together.
    Qkv,
    /// One head.
    Head,
    /// The hidden layer of the MLP.
    Ff,
    /// The hidden layers of gate and up together.
    TwoFf,
    /// Experts.
    Expert,
    /// The hidden layer of an expert.
    ExpertFf,
}

/// The sizes of a model, from `config.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes {
    /// Blocks.
    pub n_block: u64,
    /// Elements of the residual stream.
    pub n_embd: u64,
    /// Heads of queries.
    pub n_head: u64,
    /// Heads of keys and values.
    pub n_head_kv: u64,
    /// Elements of a head.
    pub head_length: u64,
    /// `head_dim`, where `config.json` has it.
    pub head_dim: Option<u64>,
    /// Elements of the hidden layer of an MLP.
    pub n_ff: u64,
    /// Experts; 0 if it has none.
    pub n_expert: u64,
    /// Elements of the hidden layer of an expert.
    pub n_expert_ff: u64,
    /// Tokens.
    pub n_vocab: u64,
}

impl Sizes {
    /// Reads them.
    ///
    /// # Errors
    /// A key is missing or of another type, or heads do not divide the residual stream.
    pub fn of(config: &Config) -> Result<Sizes> {
        let n_embd = config.needed("hidden_size")?;
        let n_head = config.needed("num_attention_heads")?;
        let head_dim = config.get("head_dim").map(|_| config.needed("head_dim")).transpose()?;
        if head_dim.is_none() && !n_embd.is_multiple_of(n_head) {
            let found = config.get("num_attention_heads").cloned().unwrap_or_default();
            return Err(config.wrong("num_attention_heads", &found, "a divisor of hidden_size"));
        }
        let head_length = head_dim.unwrap_or(n_embd / n_head);
        if !head_length.is_multiple_of(2) {
            // Positions rotate pairs of a head's elements.
            let key = if head_dim.is_some() { "head_dim" } else { "num_attention_heads" };
            let found = config.get(key).cloned().unwrap_or_default();
            return Err(config.wrong(key, &found, "heads of an even length"));
        }
        let n_expert = config.count("num_experts")?.unwrap_or(0);
        Ok(Sizes {
            n_block: config.needed("num_hidden_layers")?,
            n_embd,
            n_head,
            n_head_kv: match config.get("num_key_value_heads") {
                Some(_) => config.needed("num_key_value_heads")?,
                None => n_head,
            },
            head_length,
            head_dim,
            n_ff: config.needed("intermediate_size")?,
            n_expert,
            n_expert_ff: if n_expert > 0 { config.needed("moe_intermediate_size")? } else { 0 },
            n_vocab: config.needed("vocab_size")?,
        })
    }

    /// A length.
    pub(in crate::checkpoint) fn dim(&self, dim: Dim) -> u64 {
        match dim {
            Dim::Vocab => self.n_vocab,
            Dim::Embd => self.n_embd,
            Dim::Q => self.n_head * self.head_length,
            Dim::Kv => self.n_head_kv * self.head_length,
            // All three numbers fit a u32, their product may not fit a u64.
            Dim::Qkv => (self.n_head + 2 * self.n_head_kv).saturating_mul(self.head_length),
            Dim::Head => self.head_length,
            Dim::Ff => self.n_ff,
            Dim::TwoFf => 2 * self.n_ff,
            Dim::Expert => self.n_expert,
            Dim::ExpertFf => self.n_expert_ff,
        }
    }
}
