//! A Hugging Face checkpoint where a verb takes a model: it is imported into a cache folder once,
//! and found there again by the hash of its files.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::{Context, Error};
use super::host::Host;
use super::import::{recorded, small_files, source_paths, weights_sha256};
use super::output::Output;
use super::stopped::Stopped;
use super::words::bytes_text;
use crate::checkpoint::{Checkpoint, Import, ImportType};
use crate::gguf::{Model, sha256_of_sums};
use crate::llama::Options;

/// Digits of the hash in the name of an imported file.
const DIGITS: usize = 16;

/// The GGUF model of the checkpoint in `folder`, in the folder `cache`. It is imported if it is not
/// there yet, in the type of its own weights.
///
/// # Errors
/// The folder is no checkpoint that aird imports, the disk's, an interrupt.
pub fn cached(folder: &Path, cache: &Path, host: &dyn Host) -> Result<PathBuf, Stopped> {
    let checkpoint = Checkpoint::open(folder)?;
    let import = Import::plan(&checkpoint, ImportType::Auto)?;
    let small = small_files(&checkpoint)?;
    let path = cache.join(file_name(&checkpoint, &import, &small, host)?);
    let shown = folder.display();
    if path.is_file() && Model::open(&path).is_ok() {
        host.say(format_args!("{shown} was imported before: using {}", path.display()));
        return Ok(path);
    }
    fs::create_dir_all(cache)
        .map_err(|source| Error::Io { what: format!("cannot make {}", cache.display()), source })?;
    let assembly = recorded(import.assembly(&checkpoint)?, &checkpoint, &small, &import)?;
    host.say(format_args!(
        "importing {shown} as {} into the cache folder {} ({})",
        import.ty,
        cache.display(),
        bytes_text(assembly.bytes())
    ));
    let output = Output { path: path.clone(), force: true, dry_run: false, keep_shards: false };
    let inputs = source_paths(&checkpoint, &small);
    output
        .write_assembly(host, assembly, &inputs, Options::cpu(0))
        .about(|| format!("importing {shown}"))?;
    Ok(path)
}

/// A name that tells which model it is, and that changes with any of its files and with this
/// program: `NAME-TYPE-HASH.gguf`.
fn file_name(
    checkpoint: &Checkpoint,
    import: &Import,
    small: &[crate::gguf::MappedFile],
    host: &dyn Host,
) -> Result<String, Stopped> {
    let bytes = checkpoint.shards.iter().map(|shard| shard.bytes().len() as u64).sum();
    host.stage("sha256", bytes);
    let mut sums = vec![crate::BUILD.to_owned(), weights_sha256(checkpoint, host)?];
    for file in small {
        sums.push(super::model::file_name(&file.path));
        sums.push(file.sha256(host)?);
    }
    let name = import.kv.get("general.name").and_then(|name| name.as_str()).unwrap_or("model");
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let name: String = name.chars().map(plain).take(80).collect();
    Ok(format!("{name}-{}-{}.gguf", import.ty, &sha256_of_sums(&sums)[..DIGITS]))
}
