//! Families of models: for each the names of its tensors in both formats, their shapes, what
//! happens to their rows, and its keys.
//!
//! These are facts of the two formats: of the modelling code in `transformers`, and of llama.cpp's
//! `gguf-py/gguf/tensor_mapping.py` and `conversion/`.

mod gemma;
mod granite;
mod llama;
mod olmo;
mod phi;
mod qwen;
mod table;

use super::config::Config;
use super::error::{Error, Result};

pub use table::Family;
pub(super) use table::{How, Line, Vocabulary};

impl Family {
    /// The family of a checkpoint.
    ///
    /// # Errors
    /// None of the families that are known: the error names the nearest one.
    pub fn of(config: &Config) -> Result<&'static Family> {
        let names = config.list("architectures")?;
        let expected = "a list of one name, e.g. LlamaForCausalLM";
        let name = names.first().ok_or_else(|| config.missing("architectures", expected))?;
        let found = name.as_str().ok_or_else(|| config.wrong("architectures", name, expected))?;
        let known = FAMILIES.iter().find(|family| family.name == found);
        known.copied().ok_or_else(|| unknown(found).in_file(config.path()))
    }
}

/// Every family that is imported.
const FAMILIES: &[&Family] = &[
    &llama::LLAMA,
    &llama::MISTRAL,
    &qwen::QWEN2,
    &qwen::QWEN3,
    &qwen::QWEN3_MOE,
    &gemma::GEMMA2,
    &gemma::GEMMA3,
    &phi::PHI3,
    &olmo::OLMO2,
    &granite::GRANITE,
];

/// Every family that is imported.
#[must_use]
pub fn families() -> &'static [&'static Family] {
    FAMILIES
}

fn unknown(found: &str) -> Error {
    let names = FAMILIES.iter().map(|family| family.name);
    let near = |name: &&str| strsim::jaro_winkler(name, found);
    let nearest = names.clone().max_by(|a, b| near(a).total_cmp(&near(b))).unwrap_or_default();
    let known = names.collect::<Vec<_>>().join(", ");
    Error::UnknownArchitecture { found: found.into(), nearest: nearest.into(), known }
}
