//! Describe a model file: `cargo run --example describe -- MODEL.gguf`
//!
//! Shows a verb's report as data, and as the JSON that `aird inspect --json` prints.

use std::error::Error;

use aird::gguf::Unwatched;
use aird::verbs::inspect::{Request, run};

fn main() -> Result<(), Box<dyn Error>> {
    let model = std::env::args().nth(1).ok_or("usage: describe MODEL.gguf")?.into();
    let request = Request { model, tensors: false, quick: false, structure: false };
    let report = run(&request, &Unwatched)?;
    let blocks = report.n_block.unwrap_or_default();
    println!("{}: {} parameters in {blocks} blocks", report.architecture, report.parameters);
    if let Some(sparsity) = report.sparsity {
        println!("{} of {} block weights are zero", sparsity.zeros, sparsity.of);
    }
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}
