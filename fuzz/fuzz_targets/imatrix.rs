//! Any bytes at all are an importance matrix, in llama-imatrix's GGUF or its older format, or are
//! refused; and what was read is written and read again as the same.
#![no_main]

use std::sync::OnceLock;

use aird::gguf::{Builder, GgmlType, Model};
use aird::stats::{Stats, read, write};
use libfuzzer_sys::fuzz_target;
use scratch::Scratch;

mod scratch;

/// Files of models with and without experts.
const SEEDS: [&[u8]; 2] = [
    include_bytes!("../../fixtures/imatrix/llama.gguf"),
    include_bytes!("../../fixtures/imatrix/qwen3moe.gguf"),
];

/// A model that has the weights of both seeds.
fn model() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| {
        let mut file = Builder::new();
        let mut names = std::collections::HashSet::new();
        for seed in SEEDS {
            let (stats, _) = read(Scratch::holding("seed", seed).path()).expect("a good file");
            for (name, input) in stats.inputs {
                let shape = [input.n_cols, 1, input.n_expert()].map(|n| n as u64);
                let bytes = vec![0; shape.iter().product::<u64>() as usize * 4];
                if names.insert(name.clone()) {
                    file.tensor(&name, &shape, GgmlType::F32, bytes).expect("of that size");
                }
            }
        }
        let file = Scratch::holding("model.gguf", &file.encode());
        Model::open(file.path()).expect("a good model")
    })
}

/// Everything that is asked of statistics.
fn ask(stats: &Stats) {
    for input in stats.inputs.values() {
        for expert in 0..input.n_expert() {
            let _ = (input.mean_square(expert), input.mean_abs(expert));
        }
        let _ = input.max_abs();
    }
    let _ = stats.unseen_experts().count();
}

fuzz_target!(|bytes: &[u8]| {
    let file = Scratch::holding("imatrix", bytes);
    let Ok((stats, _)) = read(file.path()) else { return };
    ask(&stats);
    if let Ok(fitted) = stats.clone().fitted_to(model()) {
        ask(&fitted);
    }
    // Names may be too long for a tensor, counts too high for an F32.
    let exact = |input: &aird::stats::InputStats| input.counts.iter().all(|n| *n < 1 << 24);
    let written = Scratch::new("written");
    if stats.inputs.values().all(exact) && write(written.path(), &stats).is_ok() {
        let (again, _) = read(written.path()).expect("what was written is read");
        for (name, input) in &stats.inputs {
            let sums = input.sum2.iter().map(|x| f64::from(*x as f32));
            assert!(again.inputs[name].counts == input.counts, "{name}");
            assert!(again.inputs[name].sum2.iter().copied().eq(sums), "{name}");
        }
    }
});
