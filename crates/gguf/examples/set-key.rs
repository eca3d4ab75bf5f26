//! Copies a GGUF file with one key changed:
//! `cargo run --example set-key -- MODEL.gguf KEY VALUE NEW.gguf`
//!
//! The key keeps its type; a new key becomes text.

use std::path::Path;
use std::process::ExitCode;

use aird_gguf::{KvEdit, Layout, Model, Rewrite, Unwatched, Value, ValueType};

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
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, key, text, out] = arguments.as_slice() else {
        return Err("usage: set-key MODEL.gguf KEY VALUE NEW.gguf".into());
    };
    let model = Model::open(Path::new(path))?;
    let ty = model.kv().get(key).map_or(ValueType::String, Value::value_type);
    let value = parsed(ty, text)?;
    let mut rewrite = Rewrite::new(&model, Layout::KeepShards);
    rewrite.edit(KvEdit::Set(key.clone(), value));
    let written = rewrite.write(Path::new(out), false, &Unwatched)?;
    for (path, bytes) in written.files {
        println!("{}: {bytes} bytes", path.display());
    }
    Ok(())
}

/// `text` as a value of type `ty`.
fn parsed(ty: ValueType, text: &str) -> Result<Value, Box<dyn std::error::Error>> {
    Ok(match ty {
        ValueType::U8 => text.parse::<u8>()?.into(),
        ValueType::I8 => text.parse::<i8>()?.into(),
        ValueType::U16 => text.parse::<u16>()?.into(),
        ValueType::I16 => text.parse::<i16>()?.into(),
        ValueType::U32 => text.parse::<u32>()?.into(),
        ValueType::I32 => text.parse::<i32>()?.into(),
        ValueType::U64 => text.parse::<u64>()?.into(),
        ValueType::I64 => text.parse::<i64>()?.into(),
        ValueType::F32 => text.parse::<f32>()?.into(),
        ValueType::F64 => text.parse::<f64>()?.into(),
        ValueType::Bool => text.parse::<bool>()?.into(),
        ValueType::String => text.into(),
        ValueType::Array => return Err("the key is an array, expected a single value".into()),
    })
}
