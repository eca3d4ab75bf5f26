//! The default name of a repaired model.

use std::path::{Path, PathBuf};

use crate::gguf::{GgmlType, ShardName, split_ending};

/// The model's name with `-AIRD` before its last part, if that names a quant; else at its end.
pub(super) fn repaired_name(model: &Path) -> PathBuf {
    // Shards are joined: the new file is not one of several.
    let shard = ShardName::parse(model).map(|shard| shard.prefix);
    let name = model.file_name().unwrap_or_default().to_string_lossy();
    let (stem, ending) = match shard.as_deref().and_then(Path::file_name) {
        Some(prefix) => (prefix.to_string_lossy().into_owned(), ".gguf"),
        None => (split_ending(&name).0.to_owned(), split_ending(&name).1),
    };
    let is_quant = |part: &str| {
        let part = part.to_uppercase();
        let sizes = ["_XXS", "_XS", "_XL", "_S", "_M", "_L", "_MOE"];
        let bare = sizes.iter().find_map(|size| part.strip_suffix(size)).unwrap_or(&part);
        let known = ["IQ1", "IQ2", "IQ3", "FP16", "FP32"].contains(&bare);
        known || [&part, bare].into_iter().any(|name| GgmlType::from_name(name).is_some())
    };
    let (base, quant) = match stem.rsplit_once(['-', '.']) {
        Some((base, quant)) if is_quant(quant) => (base.to_owned(), format!("-{quant}")),
        _ => (stem, String::new()),
    };
    model.with_file_name(format!("{base}-AIRD{quant}{ending}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_stands_before_the_quant() {
        for (model, repaired) in [
            ("a/Model-Q4_K_M.gguf", "a/Model-AIRD-Q4_K_M.gguf"),
            ("Model.Q8_0.gguf", "Model-AIRD-Q8_0.gguf"),
            ("Model-Instruct.gguf", "Model-Instruct-AIRD.gguf"),
            ("model.gguf", "model-AIRD.gguf"),
            ("qwen2.5-7b-instruct-q4_k_m.gguf", "qwen2.5-7b-instruct-AIRD-q4_k_m.gguf"),
            ("M-IQ3_XS.gguf", "M-AIRD-IQ3_XS.gguf"),
            ("M-Q4_K_M-00001-of-00003.gguf", "M-AIRD-Q4_K_M.gguf"),
            ("Llama-3.2-1B-Instruct-Q4_K_M", "Llama-3.2-1B-Instruct-AIRD-Q4_K_M"),
            ("Llama-3.2-1B-Instruct", "Llama-3.2-1B-Instruct-AIRD"),
            ("a.b/model.Q4_K_M", "a.b/model-AIRD-Q4_K_M"),
            ("Qwen2.5-0.5B.F16", "Qwen2.5-0.5B-AIRD-F16"),
            ("MODEL-Q8_0.GGUF", "MODEL-AIRD-Q8_0.GGUF"),
            ("model.bin", "model-AIRD.bin"),
            ("model", "model-AIRD"),
            ("v1.2", "v1.2-AIRD"),
        ] {
            assert_eq!(repaired_name(Path::new(model)), Path::new(repaired));
        }
    }
}
