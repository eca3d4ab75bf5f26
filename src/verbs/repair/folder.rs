//! An adapter as a PEFT folder, written whole or not at all.

use std::ffi::OsString;
use std::path::Path;
use std::{fs, io};

use serde_json::json;

use crate::adapter::Adapter;
use crate::gguf::{Model, TempPath, history, write_file, write_file_if};
use crate::verbs::error::{Error, Result};
use crate::verbs::files::FileReport;

use super::request::AdapterFormat;

/// The file of a folder that says how it was made: GGUF files hold it themselves.
const HISTORY: &str = "aird.json";
/// A factor read back may be off by this part of itself: it was scaled in f32.
const TOLERANCE: f32 = 1e-6;

/// Writes an adapter of `model`, whose bytes as GGUF are given, once `check` approved it under a
/// temp name.
pub(super) fn place(
    model: &Model,
    path: &Path,
    format: AdapterFormat,
    gguf: &[u8],
    check: impl FnOnce(&Path) -> Result<()>,
) -> Result<Vec<FileReport>> {
    match format {
        AdapterFormat::Gguf => {
            write_file_if(path, gguf, check)?;
            Ok(vec![FileReport::new(path, gguf.len() as u64)])
        }
        AdapterFormat::Peft { force } => {
            check_folder(path, force)?;
            folder(model, path, gguf, check)
        }
    }
}

/// Checks that a folder may be written there, before any work is done.
pub(super) fn check_folder(path: &Path, force: bool) -> Result<()> {
    let exists = |what: &str| Err(Error::Sentence(format!("{}: {what}", path.display())));
    match path.symlink_metadata() {
        Err(_) => Ok(()),
        Ok(found) if !found.is_dir() => exists("it is there and no folder"),
        Ok(_) if !force => exists("the folder exists"),
        // Only what this writes is replaced.
        Ok(_) if !path.join(crate::adapter::CONFIG).is_file() => {
            exists("the folder holds no adapter_config.json, and is not replaced")
        }
        Ok(_) => Ok(()),
    }
}

fn folder(
    model: &Model,
    path: &Path,
    gguf: &[u8],
    check: impl FnOnce(&Path) -> Result<()>,
) -> Result<Vec<FileReport>> {
    let what = || format!("cannot write {}", path.display());
    let failed = |source| Error::Io { what: what(), source };
    let beside = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temp = tempfile::Builder::new().prefix(".aird-").tempdir_in(beside).map_err(failed)?;
    let _remembered = TempPath::remember(temp.path());
    let file = temp.path().join("adapter.gguf");
    write_file(&file, gguf)?;
    check(&file)?;
    let made = temp.path().join("peft");
    fs::create_dir(&made).map_err(failed)?;
    let adapter = Adapter::open(&file)?;
    let steps = history(Model::open(&file)?.kv());
    let about = format!("{:#}\n", json!({"version": crate::VERSION, "history": steps}));
    let mut files = adapter.to_peft(model)?;
    files.push((HISTORY, about.into_bytes()));
    let mut reports = Vec::new();
    for (name, bytes) in &files {
        write_file(&made.join(name), bytes)?;
        reports.push(FileReport::new(&path.join(name), bytes.len() as u64));
    }
    let back = Adapter::open_for(&made, model)?;
    if !back.does_as(&adapter, TOLERANCE) {
        let path = path.display();
        return Err(Error::Sentence(format!("{path}: the adapter does not read back as it was")));
    }
    match path.exists() {
        true => replace(&made, path, &temp.path().join("old")),
        false => fs::rename(&made, path),
    }
    .map_err(failed)?;
    Ok(reports)
}

/// Moves the files of `made` into the folder at `path`. What else lies there stays; the files that
/// are replaced are moved to `old`, and back where a move fails.
fn replace(made: &Path, path: &Path, old: &Path) -> io::Result<()> {
    fs::create_dir(old)?;
    let mut names = Vec::new();
    for entry in fs::read_dir(made)? {
        names.push(entry?.file_name());
    }
    let moved = |name: &OsString| -> io::Result<()> {
        let to = path.join(name);
        if to.exists() {
            fs::rename(&to, old.join(name))?;
        }
        fs::rename(made.join(name), to)
    };
    let failure = names.iter().find_map(|name| moved(name).err());
    let Some(error) = failure else { return Ok(()) };
    for name in &names {
        let (was, to) = (old.join(name), path.join(name));
        if was.exists() {
            fs::rename(was, to)?;
        }
    }
    Err(error)
}
