//! A GGUF model as a Hugging Face checkpoint, like the one that it came from.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::error::{Error, Result};
use super::files::FileReport;
use super::host::Host;
use super::model::{file_name, sha256_of};
use super::stopped::Stopped;
use super::words::bytes_text;
use crate::checkpoint::{Checkpoint, Export, ExportType, Import, ImportType};
use crate::gguf::{Model, TempPath, history};

const CONFIG: &str = "config.json";
const CARD: &str = "README.md";
const INDEX: &str = "model.safetensors.index.json";
/// Endings of files that hold weights, in whatever format: they are not copied.
const WEIGHTS: [&str; 7] = [".safetensors", ".bin", ".pt", ".pth", ".gguf", ".msgpack", ".h5"];

/// What to export.
#[derive(Debug, Clone)]
pub struct Request {
    /// A GGUF file; any shard of a split one.
    pub model: PathBuf,
    /// The checkpoint that the new one is like: its names, files, configuration and tokenizer.
    pub like: PathBuf,
    /// The folder to write.
    pub folder: PathBuf,
    /// Type of the weights.
    pub ty: ExportType,
    /// Replace files of the folder if it exists.
    pub force: bool,
    /// Write nothing.
    pub dry_run: bool,
}

/// What was exported.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// What `config.json` calls the architecture.
    pub family: String,
    /// Tensors that were written.
    pub tensors: usize,
    /// Type of most of them.
    pub dtype: String,
    /// The files that were (with a dry run, would be) written.
    pub files: Vec<FileReport>,
    /// True if nothing was written.
    pub dry_run: bool,
}

/// Exports.
///
/// # Errors
/// The model does not fit the checkpoint, the disk's, an interrupt. Nothing is left behind then.
pub fn run(request: &Request, host: &dyn Host) -> Result<Report, Stopped> {
    let like = Checkpoint::open(&request.like)?;
    let model = Model::open(&request.model)?;
    let export = Export::plan(&like, &model, request.ty)?;
    check_folder(request)?;
    let weights = like.shards.iter().enumerate().map(|(i, shard)| {
        FileReport::new(&request.folder.join(file_name(&shard.path)), export.shard_bytes(i))
    });
    let mut report = Report {
        family: export.family.name.into(),
        tensors: export.n_tensors(),
        dtype: export.dtype_name().into(),
        files: weights.collect(),
        dry_run: request.dry_run,
    };
    if request.dry_run {
        return Ok(report);
    }
    let sum = sha256_of(host, &model)?;
    let temp = temp_folder(&request.folder)?;
    let _remembered = TempPath::remember(temp.path());
    host.stage("writing", report.files.iter().map(|file| file.bytes).sum());
    for (i, shard) in like.shards.iter().enumerate() {
        let path = temp.path().join(file_name(&shard.path));
        let file = File::create(&path).map_err(cannot_write(&path))?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        export.write(i, &model, &mut out, host)?.map_err(cannot_write(&path))?;
        let synced = out.flush().and_then(|()| out.get_ref().sync_all());
        synced.map_err(cannot_write(&path))?;
    }
    for path in other_files(&request.like)? {
        let bytes = fs::read(&path).map_err(cannot_read(&path))?;
        let bytes = match file_name(&path).as_str() {
            CONFIG => config(bytes, &export, request.ty)?,
            CARD => card(&String::from_utf8_lossy(&bytes), &sum, &model),
            INDEX => index(bytes, &report)?,
            _ => bytes,
        };
        put(&temp.path().join(file_name(&path)), &bytes)?;
    }
    if !request.like.join(CARD).exists() {
        put(&temp.path().join(CARD), &card("", &sum, &model))?;
    }
    // As any reader of the new checkpoint would.
    let written = Checkpoint::open(temp.path())?;
    Import::plan(&written, ImportType::Auto)?;
    drop(written);
    let names = name_them(temp.path(), request)?;
    drop(temp);
    report.files = names
        .into_iter()
        .map(|path| {
            let bytes = path.metadata().map(|file| file.len()).unwrap_or_default();
            FileReport::new(&path, bytes)
        })
        .collect();
    let bytes = report.files.iter().map(|file| file.bytes).sum();
    host.say(format_args!("wrote {} ({})", request.folder.display(), bytes_text(bytes)));
    Ok(report)
}

/// Checks that the folder may be written.
fn check_folder(request: &Request) -> Result<()> {
    let folder = &request.folder;
    if same_folder(folder, &request.like) {
        return Err(Error::sentence(format!("output {} is the input itself", folder.display())));
    }
    match fs::read_dir(folder).map(Iterator::count) {
        Ok(n_files) if n_files > 0 && !request.force => {
            Err(crate::gguf::Error::OutputExists { path: folder.clone() }.into())
        }
        Err(_) if folder.symlink_metadata().is_ok() => {
            Err(Error::sentence(format!("output {} is not a folder", folder.display())))
        }
        _ => Ok(()),
    }
}

fn same_folder(a: &Path, b: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    real(a).is_some() && real(a) == real(b)
}

/// A hidden folder beside the new one.
fn temp_folder(folder: &Path) -> Result<tempfile::TempDir> {
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let prefix = format!(".{}.", file_name(folder));
    let made = tempfile::Builder::new().prefix(&prefix).suffix(".part").tempdir_in(parent);
    made.map_err(cannot_write(folder))
}

/// Files of the folder that hold no weights. Folders in it, such as `original/`, are left out.
fn other_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(cannot_read(folder))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| {
        let name = file_name(path);
        let is_hidden = name.starts_with('.');
        path.is_file() && !is_hidden && !WEIGHTS.iter().any(|end| name.ends_with(end))
    });
    files.sort();
    Ok(files)
}

/// `config.json` with the type of the weights, and without what said that they are FP8.
fn config(bytes: Vec<u8>, export: &Export<'_>, ty: ExportType) -> Result<Vec<u8>> {
    let mut config: Map<String, Json> = parsed(&bytes, CONFIG)?;
    let is_quantized = config.remove("quantization_config").is_some();
    if !is_quantized && ty == ExportType::Auto {
        return Ok(bytes);
    }
    let names = ["dtype", "torch_dtype"];
    let known = names.iter().find(|name| config.contains_key(**name)).copied();
    config.insert(known.unwrap_or("torch_dtype").into(), export.dtype_name().into());
    pretty(&config)
}

/// The index with the new sum of bytes.
fn index(bytes: Vec<u8>, report: &Report) -> Result<Vec<u8>> {
    let mut index: Map<String, Json> = parsed(&bytes, INDEX)?;
    if let Some(Json::Object(map)) = index.get_mut("weight_map") {
        map.retain(|name, _| !name.ends_with("_scale_inv"));
    }
    let total = report.files.iter().map(|file| file.bytes).sum::<u64>();
    if let Some(Json::Object(metadata)) = index.get_mut("metadata") {
        metadata.insert("total_size".into(), total.into());
    }
    pretty(&index)
}

fn parsed(bytes: &[u8], name: &str) -> Result<Map<String, Json>> {
    serde_json::from_slice(bytes).map_err(|e| Error::sentence(format!("{name}: {e}")))
}

fn pretty(json: &Map<String, Json>) -> Result<Vec<u8>> {
    let text = serde_json::to_string_pretty(json);
    Ok(text.map_err(|e| Error::sentence(e.to_string()))?.into_bytes())
}

/// The model card, whose front matter also says which file the weights are from, and what was done
/// to it.
fn card(text: &str, sum: &str, model: &Model) -> Vec<u8> {
    let mut ours = format!("aird_version: {}\naird_source_sha256: {sum}\n", crate::VERSION);
    let steps = history(model.kv());
    if !steps.is_empty() {
        ours += "aird_history:\n";
        for step in steps {
            ours += &format!("- '{}'\n", step.to_string().replace('\'', "''"));
        }
    }
    let theirs = text.strip_prefix("---\n").and_then(|rest| rest.split_once("\n---\n"));
    match theirs {
        Some((front, body)) => format!("---\n{front}\n{ours}---\n{body}").into_bytes(),
        None => format!("---\n{ours}---\n{text}").into_bytes(),
    }
}

fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = File::create(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(cannot_write(path))
}

/// Gives the new files their places: the folder its name, or, where it exists, each file its own.
/// Returns their paths.
fn name_them(temp: &Path, request: &Request) -> Result<Vec<PathBuf>> {
    let folder = &request.folder;
    let entries = fs::read_dir(temp).map_err(cannot_read(temp))?;
    let mut names: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
    names.sort();
    if !folder.exists() {
        fs::create_dir(folder).map_err(cannot_write(folder))?;
    }
    // The index and config.json are last: without them the folder is no whole checkpoint.
    names.sort_by_key(|name| name == INDEX || name == CONFIG);
    for name in &names {
        let to = folder.join(name);
        fs::rename(temp.join(name), &to).map_err(cannot_write(&to))?;
    }
    Ok(names.iter().map(|name| folder.join(name)).collect())
}

fn cannot_write(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let what = format!("cannot write {}", path.display());
    move |source| Error::Io { what, source }
}

fn cannot_read(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let what = format!("cannot read {}", path.display());
    move |source| Error::Io { what, source }
}
