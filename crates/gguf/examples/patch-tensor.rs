//! Replaces a tensor's bytes in place by those of a file, or undoes that:
//! `cargo run --example patch-tensor -- MODEL.gguf TENSOR BYTES` and
//! `cargo run --example patch-tensor -- MODEL.gguf --undo`
//!
//! BYTES is a file of the tensor's encoded rows, e.g. f32 numbers for an F32 tensor.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use aird_gguf::{Ask, Model, Patch, Pending, Replacement, Step, Unwatched};

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
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [model, "--undo"] => undo(Path::new(model)),
        [model, tensor, bytes] => patch(Path::new(model), tensor, Path::new(bytes)),
        _ => Err("usage: patch-tensor MODEL.gguf TENSOR BYTES | MODEL.gguf --undo".into()),
    }
}

fn patch(path: &Path, name: &str, new: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let model = Model::open(path)?;
    let info = model.tensor(name).ok_or_else(|| format!("there is no tensor '{name}'"))?.info;
    let mut file = File::open(new)?;
    let found = file.metadata()?.len();
    if found != info.n_bytes() {
        return Err(
            format!("{} has {found} bytes, expected {}", new.display(), info.n_bytes()).into()
        );
    }
    let mut patch = Patch::new(&model);
    // Rows come in order, so the file is read from its beginning to its end, some rows at a time.
    let produce = Box::new(move |_rows, bytes: &mut [u8]| Ok(file.read_exact(bytes)?));
    patch.replace(name, Replacement { ty: info.ty, ask: Ask::Chunks, produce })?;
    let ready = patch.produce(&Unwatched)?;
    // Its memory map would change with the file.
    drop(model);
    let step = Step::new("patch-tensor", env!("CARGO_PKG_VERSION")).changed([name]);
    let patched = ready.apply(Some(step), &Unwatched)?;
    println!("{} bytes changed", patched.bytes);
    for journal in patched.journals {
        println!("{} undoes it", journal.display());
    }
    Ok(())
}

fn undo(path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let undone = Pending::find(path)?.undo()?;
    println!("{} bytes restored in {} tensors", undone.changed_bytes, undone.tensors.len());
    Ok(())
}
