//! Which tensors may change their type so that llama.cpp still loads the model.
//!
//! Source: `tensor_allows_quantization` of llama.cpp's `src/llama-quant.cpp`, which knows the
//! small matrices that graphs expect in F32.

use crate::gguf::TensorInfo;

/// Parts of the names of tensors that keep their type.
const KEPT: &[&str] = &[
    "_norm.weight",
    "ffn_gate_inp.weight",
    "ffn_gate_tid2eid.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "indexer.",
    "time_mix_first.weight",
    "time_mix_w0.weight",
    "time_mix_w1.weight",
    "time_mix_w2.weight",
    "time_mix_v0.weight",
    "time_mix_v1.weight",
    "time_mix_v2.weight",
    "time_mix_a0.weight",
    "time_mix_a1.weight",
    "time_mix_a2.weight",
    "time_mix_g1.weight",
    "time_mix_g2.weight",
    "time_mix_decay_w1.weight",
    "time_mix_decay_w2.weight",
    "time_mix_lerp_fused.weight",
    "attn_rel_b.weight",
    "position_embd",
    "token_types",
    ".patch_embd",
    ".patch_merger",
    ".rel_pos",
];

/// True for weight matrices (embeddings, output head and experts among them) that llama.cpp
/// itself converts.
pub fn is_convertible(info: &TensorInfo) -> bool {
    info.shape.len() >= 2
        && info.is_matrix()
        && !info.ty.is_integer()
        && info.name.ends_with("weight")
        && !KEPT.iter().any(|part| info.name.contains(part))
}

/// True for the matrices of blocks that pruning and sparsity are about: linear layers.
pub fn is_block_matrix(info: &TensorInfo) -> bool {
    info.block().is_some() && is_convertible(info)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::GgmlType;

    fn info(name: &str, shape: &[u64]) -> TensorInfo {
        TensorInfo { name: name.into(), shape: shape.into(), ty: GgmlType::F32, offset: 0 }
    }

    #[test]
    fn matrices_convert_and_norms_biases_and_routers_do_not() {
        assert!(is_convertible(&info("token_embd.weight", &[64, 100])));
        assert!(is_block_matrix(&info("blk.0.ffn_down_exps.weight", &[64, 64, 4])));
        assert!(!is_block_matrix(&info("output.weight", &[64, 100])));
        assert!(!is_convertible(&info("blk.0.attn_norm.weight", &[64])));
        assert!(!is_convertible(&info("blk.0.attn_q.bias", &[64])));
        assert!(!is_convertible(&info("blk.0.ffn_gate_inp.weight", &[64, 4])));
    }
}
