//! Prune half of a model's weights and quantize the rest:
//! `cargo run --release --example compress -- MODEL.gguf OUT.gguf`
//!
//! Shows a host of one's own: it prints stages and notes, and lets models be tried by the `aird`
//! binary beside this one, so that an abort of llama.cpp is an error here.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aird::compress::{Method, Pattern};
use aird::gguf::{GgmlType, Watch};
use aird::llama::{Options, Prober};
use aird::verbs::{Host, Note, Output, Statistics, prune, quantize};

/// Prints on stderr.
struct Console {
    aird: Option<PathBuf>,
}

impl Watch for Console {
    fn stage(&self, what: &str, bytes: u64) {
        eprintln!("{what} ({bytes} bytes)");
    }
}

impl Host for Console {
    fn note(&self, note: Note, text: &str) {
        if note != Note::Detail {
            eprintln!("{text}");
        }
    }

    fn prober(&self) -> Prober {
        Prober { program: self.aird.clone(), interrupt: Arc::default() }
    }
}

fn output(path: &Path) -> Output {
    Output { path: path.into(), force: true, dry_run: false, keep_shards: false }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).map(PathBuf::from);
    let both = arguments.next().zip(arguments.next());
    let (model, out) = both.ok_or("usage: compress MODEL.gguf OUT.gguf")?;
    // target/debug/examples/compress -> target/debug/aird
    let beside = std::env::current_exe()?.parent().and_then(Path::parent).map(|f| f.join("aird"));
    let host = Console { aird: beside.filter(|path| path.is_file()) };
    let engine = Options::cpu(0);
    let pruned = out.with_extension("pruned.gguf");
    let scoring = prune::Scoring {
        method: Method::Magnitude,
        statistics: Statistics::None,
        by_outliers: false,
        recollect_every: None,
    };
    let request = prune::Request {
        model,
        choice: prune::WeightChoice::Scored(scoring),
        pattern: Pattern::Ratio(0.5),
        tensors: Default::default(),
        ty: None,
        output: output(&pruned),
        engine,
    };
    let report = prune::run(&request, &host)?;
    println!("{} matrices pruned", report.pruned);
    let request = quantize::Request {
        model: pruned,
        method: quantize::Method::Rtn(Statistics::None),
        ty: GgmlType::Q4_0,
        output_type: None,
        embedding_type: None,
        type_for: Vec::new(),
        requantize: false,
        output: output(&out),
        engine,
    };
    let report = quantize::run(&request, &host)?;
    println!("{} tensors quantized: {}", report.quantized, report.files[0].path);
    Ok(())
}
