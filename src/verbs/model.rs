//! A model, loaded: tried first, in a process where it may abort.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::error::{Error, Result};
use super::host::Host;
use crate::adapter::{Adapter, CONFIG, FACTORS};
use crate::direction::{self, Direction};
use crate::gguf::{Model, Unwatched, Value, ValueType, hex, model_sha256, split_ending};
use crate::llama::{self, Engine, FirstToken, Options, Trial, check_kind};

/// A prompt and a token of its answer.
const MIN_CTX: u32 = 2;

/// Loads `model`. An interrupt of the host ends the load, and what is then decoded.
///
/// # Errors
/// The file is no model, llama.cpp cannot run it, it has no tokenizer, an interrupt.
pub fn load(host: &dyn Host, model: &Model, options: Options) -> Result<Engine> {
    load_with_adapter(host, model, options, None)
}

/// As [`load`], with an adapter set.
///
/// # Errors
/// See [`load`]; the adapter is of another model, or llama.cpp cannot use it.
pub fn load_with_adapter(
    host: &dyn Host,
    model: &Model,
    options: Options,
    lora: Option<&Path>,
) -> Result<Engine> {
    let path = model.shards()[0].path.as_path();
    let prober = host.prober();
    check_kind(model)?;
    let lora = lora.map(|lora| AdapterFile::of(lora, model)).transpose()?;
    let lora = lora.as_ref().map(AdapterFile::path);
    if let Some(lora) = lora {
        check_adapter(model, lora)?;
    }
    let is_sound = |first: FirstToken| match first.complaint() {
        Some(complaint) => Err(Error::BrokenLogits { path: path.into(), complaint }),
        None => Ok(()),
    };
    match options.workers.is_empty() {
        // This machine may be too small for the whole model, and a worker serves one process: only
        // the graph is tried here.
        false => drop(prober.structure(model)?),
        true => {
            is_sound(prober.first_token(&Trial { model: path, lora: None, options })?)?;
            if lora.is_some() {
                prober.first_token(&Trial { model: path, lora, options })?;
            }
        }
    }
    let mut engine = Engine::load_interruptible(path, options, Arc::clone(&prober.interrupt))?;
    if !options.workers.is_empty() {
        is_sound(engine.first_token()?)?;
    }
    if engine.n_ctx_train() < MIN_CTX {
        let n = engine.n_ctx_train();
        return Err(Error::Sentence(format!(
            "{}: context_length is {n}, expected at least {MIN_CTX}",
            path.display()
        )));
    }
    if !engine.has_tokenizer() {
        return Err(llama::Error::NoTokenizer { path: path.into() }.into());
    }
    lora.map(|lora| engine.set_adapter(lora, 1.0)).transpose()?;
    Ok(engine)
}

/// An adapter as llama.cpp reads it.
enum AdapterFile<'p> {
    Own(&'p Path),
    /// Made of a PEFT folder; it goes with this value, once llama.cpp has read it.
    Made(NamedTempFile),
}

impl AdapterFile<'_> {
    fn of<'p>(path: &'p Path, model: &Model) -> Result<AdapterFile<'p>> {
        if !path.is_dir() {
            return Ok(AdapterFile::Own(path));
        }
        let bytes = Adapter::open_for(path, model)?.to_gguf(model)?.encode();
        let what = || "cannot write the adapter as GGUF to the folder for temp files".into();
        let failed = |source| Error::Io { what: what(), source };
        let mut file = NamedTempFile::with_suffix(".gguf").map_err(failed)?;
        file.write_all(&bytes).map_err(failed)?;
        Ok(AdapterFile::Made(file))
    }

    fn path(&self) -> &Path {
        match self {
            AdapterFile::Own(path) => path,
            AdapterFile::Made(file) => file.path(),
        }
    }
}

/// sha256 of an adapter: of its file, or of a PEFT folder's factors and configuration.
pub(super) fn adapter_sha256(path: &Path) -> Result<String> {
    if !path.is_dir() {
        return Ok(model_sha256(&Model::open(path)?, &Unwatched)?);
    }
    let mut hash = Sha256::new();
    for name in [FACTORS, CONFIG] {
        let path = path.join(name);
        let read = std::fs::read(&path);
        let what = || format!("{}", path.display());
        hash.update(read.map_err(|source| Error::Io { what: what(), source })?);
    }
    Ok(hex(&hash.finalize()))
}

/// What a merge would refuse, and what llama.cpp reads otherwise than aird.
fn check_adapter(model: &Model, lora: &Path) -> Result<()> {
    const ALPHA: &str = "adapter.lora.alpha";
    Adapter::open(lora)?.check(model)?;
    match Model::open(lora)?.kv().get(ALPHA).map(Value::value_type) {
        None | Some(ValueType::F32) => Ok(()),
        Some(found) => {
            Err(Error::AdapterKey { path: lora.into(), key: ALPHA, found: found.name() })
        }
    }
}

/// Reads a direction file that is to be used on `engine`'s model.
///
/// # Errors
/// It cannot be read, or is of a model of another width.
pub fn read_direction(path: &Path, engine: &Engine) -> Result<Direction> {
    let direction = Direction::read(path)?;
    let (found, expected) = (direction.candidates.n_embd, engine.n_embd());
    match found == expected {
        true => Ok(direction),
        false => Err(direction::Error::Width { found, expected }.into()),
    }
}

/// The sha256 of `model`'s files, with progress.
///
/// # Errors
/// A file that cannot be read, an interrupt.
pub fn sha256_of(host: &dyn Host, model: &Model) -> Result<String> {
    host.stage("sha256", model.file_bytes());
    Ok(model_sha256(model, host)?)
}

/// The file name alone, as titles show it.
pub fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// The name of a model's file, of the first one if there are several.
pub fn model_name(model: &Model) -> String {
    file_name(&model.shards()[0].path)
}

/// The file's name without its ending.
pub(super) fn file_stem(path: &Path) -> String {
    split_ending(&file_name(path)).0.to_owned()
}
