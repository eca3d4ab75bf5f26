//! A run's folder: the results of each step, by its key; and which process is at work in it.
//!
//! `steps/KEY.json` is a step's report, `steps/KEY.log` its messages, `steps/KEY.done.json` the
//! record that it is done, written last.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::{Error, Result, disk};
use super::sums::Sums;
use crate::gguf::{self, write_file};

/// Time between two attempts to lock.
const PAUSE: Duration = Duration::from_millis(100);

/// Which models stay after a study.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// No model.
    None,
    /// Only repaired models.
    Repaired,
    /// All models, including those between two steps of a chain.
    All,
}

impl FromStr for Keep {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Keep, String> {
        match text {
            "none" => Ok(Keep::None),
            "repaired" => Ok(Keep::Repaired),
            "all" => Ok(Keep::All),
            _ => Err("expected none, repaired or all".into()),
        }
    }
}

/// A file that a step made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MadeFile {
    /// Relative to the run's folder.
    pub path: String,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// sha256 of its bytes.
    pub sha256: String,
}

/// Record of a finished step, and of what it made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The step's name.
    pub name: String,
    /// False if it did not find what it looked for: no direction, no repair that helps.
    pub found: bool,
    /// The reason in that case.
    pub why: Option<String>,
    /// The files that it made.
    pub outputs: Vec<MadeFile>,
}

impl Record {
    /// The file at `path`, if the step made it.
    pub fn output(&self, path: &str) -> Option<&MadeFile> {
        self.outputs.iter().find(|made| made.path == path)
    }
}

/// A run's folder, locked while it is written.
#[derive(Debug)]
pub struct Folder {
    /// Path of the folder.
    pub path: PathBuf,
    /// Locked while this process or a child is at work in it; None if nothing will be written.
    lock: Option<File>,
}

impl Folder {
    /// Opens the folder only for reading: nothing is created or locked.
    pub fn look(path: &Path) -> Folder {
        Folder { path: path.into(), lock: None }
    }

    /// Creates the folder if it does not exist, and waits until no other process works in it;
    /// `wait` is called once before the waiting.
    ///
    /// # Errors
    /// The folder holds files that no run made; the disk's; an interrupt.
    pub fn open(path: &Path, interrupt: &AtomicBool, wait: impl FnOnce()) -> Result<Folder> {
        let steps = path.join("steps");
        let in_use = std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
        if in_use && !steps.join("lock").is_file() {
            return Err(Error::OtherFolder { path: path.into() });
        }
        std::fs::create_dir_all(&steps).map_err(disk(&steps, "make"))?;
        let name = steps.join("lock");
        let file = File::options().create(true).truncate(false).read(true).write(true).open(&name);
        let file = file.map_err(disk(&name, "open"))?;
        let mut wait = Some(wait);
        // Some file systems have no locks: aird then goes on without one.
        while let Err(TryLockError::WouldBlock) = file.try_lock() {
            if let Some(wait) = wait.take() {
                wait();
            }
            if interrupt.load(Ordering::Relaxed) {
                return Err(gguf::Error::Interrupted.into());
            }
            std::thread::sleep(PAUSE);
        }
        Ok(Folder { path: path.into(), lock: Some(file) })
    }

    /// A copy of the lock, to be held by a child: if aird is killed, it lasts until the child ends.
    pub(super) fn lock(&self) -> Result<File> {
        let name = self.path.join("steps/lock");
        match &self.lock {
            Some(file) => file.try_clone().map_err(disk(name, "open")),
            None => File::open(&name).map_err(disk(name, "open")),
        }
    }

    /// Path of a step's file; `ending` is `json`, `log` or `done.json`.
    pub fn step_file(&self, key: &str, ending: &str) -> PathBuf {
        self.path.join(format!("steps/{key}.{ending}"))
    }

    /// The file that remembers sums of files.
    pub fn sums(&self) -> PathBuf {
        self.path.join("steps/sums.json")
    }

    /// The record of the step with that key, if it is done. A record that does not parse counts as
    /// none.
    pub fn record(&self, key: &str) -> Option<Record> {
        let text = std::fs::read_to_string(self.step_file(key, "done.json")).ok()?;
        self.step_file(key, "json").is_file().then_some(())?;
        serde_json::from_str(&text).ok()
    }

    /// Writes the record of a finished step.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn keep(&self, key: &str, record: &Record) -> Result<()> {
        let path = self.step_file(key, "done.json");
        let json = serde_json::to_string_pretty(record);
        let json =
            json.map_err(|e| Error::File { path: path.clone(), what: e.to_string() })? + "\n";
        Ok(write_file(&path, json.as_bytes())?)
    }

    /// True if `made` exists with the bytes that it was made with.
    ///
    /// # Errors
    /// It cannot be read; an interrupt.
    pub(super) fn is_there(&self, made: &MadeFile, sums: &mut Sums) -> Result<bool> {
        let found = sums.file(&self.path.join(&made.path))?;
        Ok(found.is_some_and(|sum| (sum.bytes, &sum.sha256) == (made.bytes, &made.sha256)))
    }

    /// Removes a file or folder, if it exists.
    ///
    /// # Errors
    /// The disk's.
    pub fn remove(&self, path: &str) -> Result<()> {
        let path = self.path.join(path);
        let removed = match path.is_dir() {
            true => std::fs::remove_dir_all(&path),
            false => std::fs::remove_file(&path),
        };
        match removed {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(disk(path, "remove")),
        }
    }

    /// Creates the folder of `path`.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn make_room(&self, path: &str) -> Result<()> {
        let path = self.path.join(path);
        match path.parent() {
            Some(folder) => std::fs::create_dir_all(folder).map_err(disk(folder, "make")),
            None => Ok(()),
        }
    }

    /// Prepares paths that a step fills gradually: content that depends on something else is
    /// removed, and the new owner is recorded before the step begins.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn claim(&self, claims: &[(String, String)]) -> Result<()> {
        let name = self.path.join("steps/kept.json");
        let text = std::fs::read_to_string(&name).unwrap_or_default();
        let mut owners: BTreeMap<String, String> = serde_json::from_str(&text).unwrap_or_default();
        let mut changed = false;
        for (path, content) in claims {
            if owners.get(path) != Some(content) {
                self.remove(path)?;
                owners.insert(path.clone(), content.clone());
                changed = true;
            }
            self.make_room(path)?;
        }
        if changed {
            let json = serde_json::to_string_pretty(&owners).unwrap_or_default() + "\n";
            write_file(&name, json.as_bytes())?;
        }
        Ok(())
    }
}
