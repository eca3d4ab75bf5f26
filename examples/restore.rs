//! Bring a compressed model back to its original:
//! `cargo run --release --example restore -- COMPRESSED.gguf ORIGINAL.gguf OUT.gguf`
//!
//! Shows how a verb ends: with its report, or with the reason why it stopped.

use std::error::Error;
use std::path::PathBuf;

use aird::gguf::Unwatched;
use aird::llama::Options;
use aird::verbs::Stopped;
use aird::verbs::repair::{Destination, Method, Report, Request, RestoreSetup, run};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<PathBuf> = std::env::args().skip(1).map(PathBuf::from).collect();
    let [model, reference, path] = arguments
        .try_into()
        .map_err(|_| "usage: restore COMPRESSED.gguf ORIGINAL.gguf OUT.gguf")?;
    let request = Request {
        model,
        method: Method::Restore(RestoreSetup::new(reference)),
        destination: Destination::NewFile { path, force: false },
        dry_run: false,
        chat: Default::default(),
        engine: Options::cpu(0),
    };
    match run(&request, &Unwatched) {
        Ok(Report::Restored(report)) => {
            for block in &report.blocks {
                let (before, after) = block.residual;
                println!(
                    "block {}: what leaves it is off by {before:.3}, now {after:.3}",
                    block.block
                );
            }
            Ok(())
        }
        Ok(Report::Edited(_)) => Err("an edit was not asked for".into()),
        Err(Stopped::Interrupted) => Err("interrupted: what is done is kept beside OUT".into()),
        Err(stopped) => Err(stopped.into()),
    }
}
