//! Direction files for tiny models.

use std::path::{Path, PathBuf};

use aird::direction::{About, Direction, Grid};

use super::tiny::Tiny;

/// A direction as of the original of a model.
pub fn about(architecture: &str) -> About {
    About {
        version: "0".into(),
        model: "tiny".into(),
        model_sha256: String::new(),
        architecture: architecture.into(),
        layer: Some(1),
        position: Some(-1),
        max_kl: None,
        refusal_tokens: Vec::new(),
        scores: Vec::new(),
        prompts: serde_json::Map::new(),
        n_kept: (0, 0),
        template_sha256: String::new(),
    }
}

/// A wave of `n_embd` channels in each of `n_layer` layers.
pub fn wave(n_layer: usize, n_embd: usize) -> Grid<f32> {
    let values = (0..n_layer * n_embd).map(|i| (i as f32 * 1.7).sin()).collect();
    Grid { n_layer, n_pos: 1, n_embd, values }
}

/// Writes a direction for `tiny`: a wave, chosen at layer 1.
pub fn direction(folder: &Path, tiny: &Tiny) -> PathBuf {
    let candidates = wave(tiny.n_block() as usize, tiny.n_embd() as usize);
    let path = folder.join("direction.safetensors");
    Direction { candidates, about: about(tiny.arch.name()) }.write(&path).unwrap();
    path
}
