//! The keys of a GGUF file that come from `config.json`, as llama.cpp names them.

use super::config::Config;
use super::error::{Error, Result};
use super::sizes::Sizes;
use crate::gguf::{KvMap, Value};

/// Keys in the order of the new file. A key that is set again keeps its place.
#[derive(Debug)]
pub(in crate::checkpoint) struct Keys {
    architecture: &'static str,
    /// All keys so far.
    pub(in crate::checkpoint) kv: KvMap,
}

impl Keys {
    /// The first key of every file.
    pub(in crate::checkpoint) fn new(architecture: &'static str) -> Keys {
        let mut keys = Keys { architecture, kv: KvMap::new() };
        keys.set("general.architecture", architecture);
        keys
    }

    /// Sets a key.
    pub(in crate::checkpoint) fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.kv.insert(key.into(), value.into());
    }

    /// Sets a key of the architecture: `block_count` is e.g. `llama.block_count`.
    pub(in crate::checkpoint) fn own(&mut self, key: &str, value: impl Into<Value>) {
        self.set(&format!("{}.{key}", self.architecture), value);
    }

    /// As [`Keys::own`], a u32.
    pub(in crate::checkpoint) fn count(&mut self, key: &str, value: u64) {
        // Config::count takes no more than a u32 holds.
        self.own(key, u32::try_from(value).unwrap_or(u32::MAX));
    }

    /// As [`Keys::own`], an f32.
    pub(in crate::checkpoint) fn number(&mut self, key: &str, value: f64) {
        self.own(key, value as f32);
    }
}

/// What rotates queries and keys: `rope_theta`, and `rope_scaling` or, since transformers 5,
/// `rope_parameters`.
#[derive(Debug)]
pub(in crate::checkpoint) struct Rope {
    /// The base of the frequencies.
    pub(in crate::checkpoint) theta: f64,
    /// How they are scaled: None for not at all.
    pub(in crate::checkpoint) kind: Option<String>,
    /// The object with the factors, if there is one.
    pub(in crate::checkpoint) parameters: Option<Config>,
}

impl Rope {
    /// Reads it.
    ///
    /// # Errors
    /// A key of another type.
    pub(in crate::checkpoint) fn of(config: &Config) -> Result<Rope> {
        let newer = config.object("rope_parameters")?;
        let parameters = match newer {
            Some(newer) => Some(newer.object("full_attention")?.unwrap_or(newer)),
            None => config.object("rope_scaling")?,
        };
        let mut theta = config.number("rope_theta")?;
        let mut kind = None;
        if let Some(parameters) = &parameters {
            theta = parameters.number("rope_theta")?.or(theta);
            kind = parameters.text("rope_type")?.or(parameters.text("type")?);
        }
        let kind = kind.filter(|kind| *kind != "default").map(str::to_lowercase);
        // The default of every family whose config.json may leave it out.
        Ok(Rope { theta: theta.unwrap_or(10_000.0), kind, parameters })
    }

    /// A number of the parameters.
    ///
    /// # Errors
    /// It is something else.
    pub(in crate::checkpoint) fn number(&self, key: &str) -> Result<Option<f64>> {
        self.parameters.as_ref().map_or(Ok(None), |parameters| parameters.number(key))
    }

    /// As [`Rope::number`], that must be there.
    ///
    /// # Errors
    /// As [`Rope::number`]; it is missing.
    pub(in crate::checkpoint) fn needed(&self, config: &Config, key: &'static str) -> Result<f64> {
        let parameters = self.parameters.as_ref().unwrap_or(config);
        parameters.needed_number(key)
    }

    /// Sets `rope.scaling.*` where llama.cpp has keys for the kind.
    ///
    /// # Errors
    /// A kind that it has none for.
    fn scaling(&self, config: &Config, keys: &mut Keys) -> Result<()> {
        match self.kind.as_deref() {
            // llama3 and longrope come as tensors of factors.
            None | Some("llama3") => {}
            Some("longrope" | "su") => keys.own("rope.scaling.type", "longrope"),
            Some("linear") => {
                let factor = self.needed(config, "factor")?;
                keys.own("rope.scaling.type", "linear");
                keys.number("rope.scaling.factor", factor);
            }
            Some("yarn") => {
                let factor = self.needed(config, "factor")?;
                let original = self.needed(config, "original_max_position_embeddings")?;
                keys.own("rope.scaling.type", "yarn");
                keys.number("rope.scaling.factor", factor);
                keys.count("rope.scaling.original_context_length", original as u64);
                for (from, to) in [
                    ("extrapolation_factor", "yarn_ext_factor"),
                    ("attention_factor", "yarn_attn_factor"),
                    ("beta_fast", "yarn_beta_fast"),
                    ("beta_slow", "yarn_beta_slow"),
                ] {
                    if let Some(value) = self.number(from)? {
                        keys.number(&format!("rope.scaling.{to}"), value);
                    }
                }
            }
            Some(other) => {
                let what = format!("the positions are scaled by '{other}' (rope_scaling)");
                return Err(Error::Unsupported { what }.in_file(config.path()));
            }
        }
        Ok(())
    }
}

/// Sets the keys that most families share, in the order of llama.cpp's converter.
///
/// # Errors
/// A key of `config.json` is missing or of another type.
pub(in crate::checkpoint) fn common(config: &Config, sizes: &Sizes, keys: &mut Keys) -> Result<()> {
    let rope = Rope::of(config)?;
    keys.count("block_count", sizes.n_block);
    keys.count("context_length", config.needed("max_position_embeddings")?);
    keys.count("embedding_length", sizes.n_embd);
    keys.count("feed_forward_length", sizes.n_ff);
    keys.count("attention.head_count", sizes.n_head);
    keys.count("attention.head_count_kv", sizes.n_head_kv);
    rope.scaling(config, keys)?;
    keys.number("rope.freq_base", rope.theta);
    keys.number("attention.layer_norm_rms_epsilon", config.needed_number("rms_norm_eps")?);
    if sizes.n_expert > 0 {
        keys.count("expert_count", sizes.n_expert);
        keys.count("expert_used_count", config.needed("num_experts_per_tok")?);
    }
    Ok(())
}

/// Sets the lengths of a head's keys and values.
pub(in crate::checkpoint) fn head_lengths(length: u64, keys: &mut Keys) {
    keys.count("attention.key_length", length);
    keys.count("attention.value_length", length);
}
