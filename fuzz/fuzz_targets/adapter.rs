//! Any bytes at all are a LoRA adapter or are refused; and one that fits a model is added to it
//! without a panic.
#![no_main]

use std::sync::OnceLock;

use aird::adapter::{Adapter, MergedType, outcomes};
use aird::gguf::{Builder, GgmlType, Model};
use libfuzzer_sys::fuzz_target;
use scratch::Scratch;

mod scratch;

/// The weights that the seeds are made for, inputs first: two matrices, embeddings, experts.
const WEIGHTS: [(&str, &[u64]); 4] = [
    ("blk.0.attn_output.weight", &[8, 8]),
    ("blk.0.ffn_down.weight", &[16, 8]),
    ("token_embd.weight", &[8, 12]),
    ("blk.1.ffn_down_exps.weight", &[4, 8, 4]),
];

fn model() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| {
        let mut file = Builder::new();
        file.kv("general.architecture", "llama");
        for (name, shape) in WEIGHTS {
            let bytes = vec![0; shape.iter().product::<u64>() as usize * 4];
            file.tensor(name, shape, GgmlType::F32, bytes).expect("of that size");
        }
        let file = Scratch::holding("model.gguf", &file.encode());
        Model::open(file.path()).expect("a good model")
    })
}

fuzz_target!(|bytes: &[u8]| {
    let file = Scratch::holding("adapter.gguf", bytes);
    let Ok(adapter) = Adapter::open(file.path()) else { return };
    if adapter.check(model()).is_err() {
        return;
    }
    let _ = outcomes(model(), &adapter, MergedType::Auto);
    for (name, pair) in &adapter.pairs {
        let info = model().tensor(name).expect("check says that it is there").info;
        let mut values = vec![0f32; info.n_elements() as usize];
        pair.add(0..info.n_rows(), adapter.strength(pair, 1.0), &mut values);
    }
});
