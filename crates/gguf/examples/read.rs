//! Prints what a GGUF file holds: `cargo run --example read -- MODEL.gguf`

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use aird_gguf::{Model, Value};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let path = arguments.next().ok_or("usage: read MODEL.gguf")?;
    let model = Model::open(Path::new(&path))?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{} files, {} bytes", model.shards().len(), model.file_bytes())?;
    for (key, value) in model.kv() {
        writeln!(out, "{key} = {} {}", value.value_type().name(), shown(value))?;
    }
    for tensor in model.tensors() {
        let name = &tensor.info.name;
        let n_bytes = tensor.data().len();
        let shape = tensor.info.shape_text();
        writeln!(out, "{name}: {} {shape}, {n_bytes} bytes", tensor.info.ty)?;
    }
    Ok(())
}

/// A value on one line, long ones cut.
fn shown(value: &Value) -> String {
    const MAX_CHARS: usize = 60;
    let text = match value {
        Value::Array(array) => format!("{} x {}", array.len(), array.element().name()),
        Value::Bool(byte) => (*byte != 0).to_string(),
        other => match other.to_text() {
            Some(text) => format!("{text:?}"),
            None => other.number_text().unwrap_or_default(),
        },
    };
    text.chars().take(MAX_CHARS).collect()
}
